"""USD's splats as text: numbers as they are written, and what OpenUSD's own package reads where it is installed."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.exports.independent import decode_splats
from da3gs.formats import load_gaussians, save_gaussians
from da3gs.formats.axes import with_axes
from da3gs.formats.splats.usd import format_rows
from tests.small_scene import small_gaussians


def written(values: np.ndarray, digits: int) -> str:
    text = np.zeros(values.size * 20 + len(values) * 4, np.uint8)
    return text[: format_rows(values.astype(np.float64), digits, text)].tobytes().decode()


def test_numbers() -> None:
    values = np.array([[0, 1, -2.5], [1e-38, 123456, -1e10], [0.1, 1 / 3, 1234567]])
    assert written(values, 6) == "(0, 1, -25e-1), (1e-38, 123456, -1e10), (1e-1, 333333e-6, 123457e1)"
    assert written(np.array([[7.0], [-0.0], [99.9999999]]), 6) == "7, 0, 1e2"


def test_nine_digits_are_float32() -> None:
    generator = np.random.default_rng(0)
    values = (generator.normal(size=20_000) * 10 ** generator.uniform(-30, 30, 20_000)).astype(np.float32)
    again = np.array(written(values[:, None], 9).split(", "), np.float64).astype(np.float32)
    assert np.array_equal(again, values)


@pytest.mark.parametrize("suffix", [".usda", ".usdz"])
@pytest.mark.parametrize("bands", [1, 16])
def test_the_independent_decoder_reads_it(tmp_path: Path, suffix: str, bands: int) -> None:
    splats = small_gaussians(500, bands)
    save_gaussians(splats, tmp_path / f"a{suffix}")
    decoded = decode_splats(tmp_path / f"a{suffix}")
    assert (decoded.kind, decoded.axes, decoded.nonfinite) == (suffix, "RUB", 0)
    turned = with_axes(splats, "RDF", "RUB")
    assert np.array_equal(decoded.means, turned.means)
    for name in ("scales", "opacities", "harmonics", "quaternions"):
        np.testing.assert_allclose(getattr(decoded, name), getattr(turned, name), rtol=1e-5, atol=1e-6)


def test_structure(tmp_path: Path) -> None:
    save_gaussians(small_gaussians(3, 4), tmp_path / "a.usda")
    text = (tmp_path / "a.usda").read_text()
    assert text.startswith("#usda 1.0\n(\n")
    for line in (
        'defaultPrim = "Splats"',
        'upAxis = "Y"',
        "metersPerUnit = 1",
        'def ParticleField3DGaussianSplat "Splats"',
    ):
        assert line in text
    declared = dict(re.findall(r"^    (?:uniform )?(\S+) (\S+) = ", text, re.M)).items()
    assert {(name, kind) for kind, name in declared} >= {("positions", "point3f[]"), ("orientations", "quatf[]")}
    assert text.count("(") - 1 == 2 + 3 + 3 + 3 + 3 * 4, "extent, positions, orientations, scales, harmonics"


def test_a_package_is_laid_out_as_usd_demands(tmp_path: Path) -> None:
    save_gaussians(small_gaussians(50), tmp_path / "a.usdz")
    data = (tmp_path / "a.usdz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.usdz") as package:
        [entry] = package.infolist()
    assert (entry.filename, entry.compress_type) == ("splats.usda", zipfile.ZIP_STORED)
    name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
    start = entry.header_offset + 30 + name + extra
    assert start % 64 == 0
    assert data[start : start + 9] == b"#usda 1.0"


def test_refusals(tmp_path: Path) -> None:
    save_gaussians(small_gaussians(50), tmp_path / "a.usda")
    with pytest.raises(InputError, match=r"\.usda, which da3gs only writes"):
        load_gaussians(tmp_path / "a.usda")
    text = (tmp_path / "a.usda").read_bytes()
    for data, message in (
        (text[: len(text) // 3], "broken or cut short"),
        (b'#usda 1.0\ndef Mesh "a" {}', "holds no text of a ParticleField3DGaussianSplat"),
        (text.replace(b"float3[] scales", b"float3[] scalps"), "has no scales"),
    ):
        (tmp_path / "b.usda").write_bytes(data)
        with pytest.raises(InputError, match=message):
            decode_splats(tmp_path / "b.usda")
    (tmp_path / "c.usdz").write_bytes(b"PK\3\4" + bytes(90))
    with pytest.raises(InputError, match="broken or cut short"):
        decode_splats(tmp_path / "c.usdz")
    bad = small_gaussians()
    bad.means[0, 0] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        save_gaussians(bad, tmp_path / "d.usda")
    assert not (tmp_path / "d.usda").exists()
