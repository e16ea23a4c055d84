"""Reading .ksplat: files laid out here by the format's own description, and files that are not what they should be."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from da3gs.errors import InputError
from da3gs.formats import load_gaussians
from da3gs.formats.axes import with_axes
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from tests.small_scene import small_gaussians

BUCKET, BLOCK = 16, 5.0


def rest_rows(splats: Gaussians) -> np.ndarray:
    """Harmonics as the file has them: a degree after the other, in it a colour after the other."""
    harmonics = splats.harmonics.numpy()
    parts = [harmonics[:, d * d : (d + 1) ** 2].transpose(0, 2, 1).reshape(len(splats), -1) for d in range(1, 4)]
    return np.concatenate(parts, 1)[:, : 3 * (harmonics.shape[1] - 1)]


def section(splats: Gaussians, level: int, span: tuple[float, float], room: int = 0) -> tuple[bytes, bytes]:
    """A section's header and data: full buckets, then one of what is left."""
    count, rest = len(splats), rest_rows(splats)
    means = splats.means.numpy()
    shape = "<f4" if level == 0 else "<f2"
    kind = ("<f4", "<f2", "u1")[level]
    row = np.dtype([("mean", "<f4" if level == 0 else "<u2", 3), ("scale", shape, 3), ("turn", shape, 4),
                    ("color", "u1", 4), ("rest", kind, rest.shape[1])])  # fmt: skip
    rows = np.zeros(count + room, row)
    full, left = count // BUCKET, count % BUCKET
    buckets = np.concatenate((np.repeat(np.arange(full), BUCKET), np.full(left, full)))
    centers = np.zeros((full + bool(left), 3), np.float32)
    for index in range(len(centers)):
        centers[index] = means[buckets == index].mean(0)
    rows["scale"][:count], rows["turn"][:count] = splats.scales, splats.quaternions
    colors = (splats.harmonics[:, 0] * C0 + 0.5).numpy()
    rows["color"][:count] = np.rint(np.column_stack((colors.clip(0, 1), splats.opacities)) * 255)
    if level == 0:
        rows["mean"][:count], before = means, b""
    else:
        rows["mean"][:count] = np.rint((means - centers[buckets]) * (32767 / (BLOCK / 2)) + 32767)
        before = (struct.pack("<I", left) if left else b"") + centers.tobytes()
    rows["rest"][:count] = np.floor((rest - span[0]) / (span[1] - span[0]) * 255) if level == 2 else rest
    header = bytearray(1024)
    number = len(centers) if level else 0
    struct.pack_into("<IIIIfH", header, 0, count, count + room, BUCKET, number, BLOCK, 12)
    degree = round((rest.shape[1] / 3 + 1) ** 0.5) - 1
    struct.pack_into("<IIIIH", header, 24, 32767, 0, full if level else 0, int(bool(left and level)), degree)
    return bytes(header), before + rows.tobytes()


def ksplat(parts: list[Gaussians], level: int, *, span: tuple[float, float] = (-1.0, 1.0), room: int = 0) -> bytes:
    """A file of one section a part."""
    header = bytearray(4096)
    count = sum(map(len, parts))
    struct.pack_into("<BBxxIIIIH", header, 0, 0, 1, len(parts), len(parts), count, count, level)
    struct.pack_into("<ff", header, 36, *span)
    sections = [section(part, level, span, room) for part in parts]
    return bytes(header) + b"".join(head for head, _ in sections) + b"".join(data for _, data in sections)


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels(tmp_path: Path, level: int, bands: int) -> None:
    splats = small_gaussians(75, bands)
    (tmp_path / "a.ksplat").write_bytes(ksplat([splats], level))
    again = load_gaussians(tmp_path / "a.ksplat")
    steps = {0: (0, 0, 0, 0), 1: (BLOCK / 65534 / 2, 1e-4, 1e-3, 1e-3), 2: (BLOCK / 65534 / 2, 1e-4, 1e-3, 1 / 127)}
    for name, step in zip(("means", "scales", "quaternions"), steps[level], strict=False):
        assert (getattr(again, name) - getattr(splats, name)).abs().max() <= step + 1e-6, name
    assert (again.opacities - splats.opacities).abs().max() <= 0.5 / 255 + 1e-6
    shown = [(s.harmonics[:, 0] * C0 + 0.5).clamp(0, 1) for s in (again, splats)]
    assert (shown[0] - shown[1]).abs().max() <= 0.5 / 255 + 1e-6
    assert again.harmonics.shape == splats.harmonics.shape
    if bands > 1:
        assert (again.harmonics[:, 1:] - splats.harmonics[:, 1:]).abs().max() <= steps[level][3] + 1e-6


def test_sections_of_several_degrees_with_room(tmp_path: Path) -> None:
    parts = [small_gaussians(40, 4), with_axes(small_gaussians(33, 1), "RDF", "RUB")]
    (tmp_path / "a.ksplat").write_bytes(ksplat(parts, 1, room=7))
    again = load_gaussians(tmp_path / "a.ksplat")
    assert again.harmonics.shape == (73, 4, 3)
    assert (again.means[40:] - parts[1].means).abs().max() < 1e-4
    assert again.harmonics[40:, 1:].abs().max() == 0


def patched(at: int, form: str, value: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        out = bytearray(data)
        struct.pack_into(form, out, at, value)
        return bytes(out)

    return change


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "header cut": (lambda data: data[:900], "begins with 4096 bytes"),
    "cut": (lambda data: data[:-1], "cut short"),
    "version": (patched(1, "<B", 0), "version 0.0; da3gs reads 0.1"),
    "major": (patched(0, "<B", 1), "version 1.1"),
    "level": (patched(20, "<H", 3), "compression level 3"),
    "sections": (patched(4, "<I", 2**32 - 1), "4294967295 sections"),
    "count": (patched(16, "<I", 7), "announces 7 splats and holds 40"),
    "nothing": (patched(4, "<I", 0), "announces 40 splats and holds 0"),
    "section count": (patched(4096, "<I", 99), "a section of 99 splats"),
    "section room": (patched(4100, "<I", 2**32 - 1), "cut short"),
    "degree": (patched(4096 + 40, "<H", 9), "of degree 9"),
    "few buckets": (patched(4096 + 32, "<I", 0), "do not hold 40"),
    "partial": (patched(4096 + 1024, "<I", 1), "do not hold 40"),
    "partial huge": (patched(4096 + 36, "<I", 2**32 - 1), "cut short"),
    "bucket bytes": (patched(4096 + 20, "<H", 4), "is damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    (tmp_path / "a.ksplat").write_bytes(change(ksplat([small_gaussians(40, 4)], 1)))
    with pytest.raises(InputError, match=message) as caught:
        load_gaussians(tmp_path / "a.ksplat")
    assert "\n" not in str(caught.value)
