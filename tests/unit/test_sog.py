"""SOG, plain and streamed: half a step of its quantisation, its pictures, and broken files."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.errors import InputError
from da3gs.exports.independent import decode_splats
from da3gs.formats import load_gaussians, save_gaussians
from da3gs.formats.encoding.palette import codebook, palette
from da3gs.formats.records import WriteOptions
from da3gs.formats.registry import is_kind
from da3gs.formats.splats.compressed_ply import morton_order
from da3gs.formats.splats.sog import save_sog, sog_files
from da3gs.formats.splats.streamed_sog import streamed_files
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.pipeline.export import export
from da3gs.splats.detail_levels import coarser_levels
from tests.small_scene import small_gaussians, small_scene_folder


def entries(path: Path) -> dict[str, bytes]:
    """The files of a ZIP."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """A ZIP of these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def half_steps(entries: list[float], values: torch.Tensor) -> torch.Tensor:
    """Half the distance between the two entries of a codebook about each value."""
    book = torch.tensor(entries, dtype=torch.float64)
    above = torch.searchsorted(book, values.double().contiguous()).clamp(1, len(book) - 1)
    return (book[above] - book[above - 1]) / 2


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_round_trip_within_half_a_step(tmp_path: Path, bands: int) -> None:
    splats = small_gaussians(6000, bands)
    save_sog(splats, tmp_path / "a.sog")
    again = load_gaussians(tmp_path / "a.sog")
    splats = splats.masked(torch.from_numpy(morton_order(splats.means.numpy())))
    meta = json.loads(entries(tmp_path / "a.sog")["meta.json"])
    assert (meta["version"], meta["count"], len(again)) == (2, 6000, 6000)
    logs = [torch.sign(m.means) * torch.log1p(m.means.abs()) for m in (splats, again)]
    step = (np.array(meta["means"]["maxs"]) - meta["means"]["mins"]) / 65535
    assert ((logs[0] - logs[1]).abs().amax(0).numpy() <= step / 2 + 1e-6).all()
    scales = splats.scales.log()
    assert ((again.scales.log() - scales).abs() <= half_steps(meta["scales"]["codebook"], scales) + 1e-5).all()
    colors = splats.harmonics[:, 0]
    assert ((again.harmonics[:, 0] - colors).abs() <= half_steps(meta["sh0"]["codebook"], colors) + 1e-5).all()
    assert (again.opacities - splats.opacities).abs().max() <= 0.5 / 255 + 1e-6
    turns = [quaternion_to_matrix(s.quaternions) for s in (again, splats)]
    assert (turns[0] - turns[1]).abs().max() < 0.02
    assert again.harmonics.shape[1] == bands
    if bands > 1:
        lost = (again.harmonics[:, 1:] - splats.harmonics[:, 1:]).square().mean().sqrt()
        assert lost < 0.1  # noise of 0.1 in 9 to 45 dimensions has no structure that 4096 entries could hold
        assert meta["shN"]["count"] == 4096


def test_harmonics_that_repeat_are_kept(tmp_path: Path) -> None:
    splats = small_gaussians(2000, 16)
    kinds = splats.harmonics[:40, 1:].clone()
    splats.harmonics[:, 1:] = kinds[torch.arange(2000) % 40]
    save_sog(splats, tmp_path / "a.sog")
    again = load_gaussians(tmp_path / "a.sog")
    splats = splats.masked(torch.from_numpy(morton_order(splats.means.numpy())))
    book = json.loads(entries(tmp_path / "a.sog")["meta.json"])["shN"]["codebook"]
    rest = splats.harmonics[:, 1:]
    assert ((again.harmonics[:, 1:] - rest).abs() <= half_steps(book, rest) + 1e-5).all(), "and not more"


def test_pictures_are_what_the_format_says(tmp_path: Path) -> None:
    """One splat, worked out by hand: 90 degrees about x; x and z on the log scale; degree 1."""
    splat = Gaussians(
        means=torch.tensor([[1.0, -2.0, 0.0], [3.0, 5.0, 0.0]]),
        scales=torch.full((2, 3), 0.5),
        quaternions=torch.tensor([[0.5**0.5, 0.5**0.5, 0, 0], [0, 0, 0, -2.0]]),
        opacities=torch.tensor([1.0, 0.5]),
        harmonics=torch.arange(24).reshape(2, 4, 3) / 10,
    )
    files = sog_files(splat, "a", WriteOptions(antialiased=True), order=np.arange(2))
    meta = json.loads(files["meta.json"])
    assert meta["model"] == "antialiased"
    np.testing.assert_allclose(meta["means"]["mins"], [np.log(2), -np.log(3), 0], rtol=1e-6)
    np.testing.assert_allclose(meta["means"]["maxs"], [np.log(4), np.log(6), 0], rtol=1e-6)
    pixels = {}
    for name, content in files.items():
        if name.endswith(".webp"):
            picture = Image.open(io.BytesIO(content))
            assert picture.format == "WEBP"
            pixels[name] = np.asarray(picture.convert("RGBA"))
    assert {name: p.shape for name, p in pixels.items() if "centroids" not in name} == {
        f"{name}.webp": (4, 4, 4) for name in ("means_l", "means_u", "quats", "scales", "sh0", "shN_labels")
    }
    assert pixels["shN_centroids.webp"].shape == (1, 64 * 3, 4)
    assert pixels["means_u.webp"][0, :2].tolist() == [[0, 0, 0, 255], [255, 255, 0, 255]]
    assert pixels["quats.webp"][0, 0].tolist()[1:] == [128, 128, 252]
    assert pixels["quats.webp"][0, 1].tolist() == [128, 128, 128, 255], "the largest is z, its sign is free"
    assert pixels["sh0.webp"][0, :2, 3].tolist() == [255, 128]
    book = np.array(meta["sh0"]["codebook"])
    np.testing.assert_allclose(book[pixels["sh0.webp"][0, 1, :3]], [1.2, 1.3, 1.4], atol=1e-6)
    labels = pixels["shN_labels.webp"][0, :2, :2].astype(int) @ [1, 256]
    rest = np.array(meta["shN"]["codebook"])[pixels["shN_centroids.webp"][0, labels[1] * 3 : labels[1] * 3 + 3, :3]]
    np.testing.assert_allclose(rest, splat.harmonics[1, 1:], atol=1e-6)


def test_transparent_splats_keep_their_colours(tmp_path: Path) -> None:
    """Encoders may throw away colours where alpha is 0."""
    splats = small_gaussians(200, 1)
    splats.opacities[:] = 0
    save_sog(splats, tmp_path / "a.sog")
    again = load_gaussians(tmp_path / "a.sog")
    splats = splats.masked(torch.from_numpy(morton_order(splats.means.numpy())))
    assert (again.harmonics - splats.harmonics).abs().max() < 0.1
    assert again.opacities.max() == 0


def test_a_folder_and_a_zip_hold_the_same(tmp_path: Path) -> None:
    splats = small_gaussians(300, 9)
    save_gaussians(splats, tmp_path / "a.sog")
    save_gaussians(splats, tmp_path / "b" / "meta.json")
    assert entries(tmp_path / "a.sog") == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    one, other, folder = (load_gaussians(tmp_path / name) for name in ("a.sog", "b/meta.json", "b"))
    assert torch.equal(one.harmonics, other.harmonics)
    assert torch.equal(one.means, folder.means)


def test_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3gs.formats.splats.streamed_sog._LEAF", 500)
    monkeypatch.setattr("da3gs.formats.splats.streamed_sog._FILE", 1200)
    monkeypatch.setattr("da3gs.splats.detail_levels._FEWEST", 100)
    splats = small_gaussians(3000, 4)
    levels = coarser_levels(splats)
    assert [len(level) for level in levels] == [750, 187]
    files = streamed_files(splats, "lod-meta.json", WriteOptions(levels=levels))
    meta = json.loads(files["lod-meta.json"])
    assert (meta["version"], meta["lodLevels"], meta["counts"]) == (1, 3, [3000, 750, 187])
    assert meta["filenames"] == ["0_0/meta.json", "0_1/meta.json", "0_2/meta.json", "1_0/meta.json", "2_0/meta.json"]
    seen = dict.fromkeys(range(len(meta["filenames"])), 0)
    stored: list[torch.Tensor] = []
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    def walk(node: dict[str, Any]) -> None:
        low, high = torch.tensor(node["bound"]["min"]), torch.tensor(node["bound"]["max"])
        for child in node.get("children", []):
            walk(child)
            assert (torch.tensor(child["bound"]["min"]) >= low - 1e-6).all()
        for place in node.get("lods", {}).values():
            assert place["offset"] == seen[place["file"]]
            seen[place["file"]] += place["count"]
            part = load_gaussians(tmp_path / meta["filenames"][place["file"]])
            inside = part.means[place["offset"] : place["offset"] + place["count"]]
            assert len(inside) == place["count"] > 0
            assert ((inside >= low - 1e-3) & (inside <= high + 1e-3)).all()
            if place["file"] < 3:
                stored.append(inside)

    walk(meta["tree"])
    assert sum(seen.values()) == meta["count"] == 3937
    assert len(stored) == 8
    nearest = torch.cdist(splats.means, torch.cat(stored)).argmin(1)
    assert len(nearest.unique()) == 3000
    again, decoded = load_gaussians(tmp_path), decode_splats(tmp_path)
    assert len(again) == len(decoded.means) == 3000
    order = torch.cdist(again.means, torch.from_numpy(decoded.means)).argmin(1)
    np.testing.assert_allclose(decoded.harmonics[order.numpy()], again.harmonics, atol=1e-5)


def test_streamed_export_and_its_overwriting(tmp_path: Path) -> None:
    folder, target = small_scene_folder(tmp_path / "scene"), tmp_path / "web" / "lod-meta.json"
    assert export(folder, target) == 300
    assert {path.name for path in target.parent.iterdir()} == {"lod-meta.json", "0_0"}
    with pytest.raises(InputError, match="web exists already"):
        export(folder, target)
    export(folder, target, overwrite=True)
    (target.parent / "0_0" / "holiday.webp").write_bytes(b"mine")
    assert not is_kind(target, "lod-meta.json")
    with pytest.raises(InputError, match="leaves it alone"):
        export(folder, target, overwrite=True)
    assert (target.parent / "0_0" / "holiday.webp").read_bytes() == b"mine"
    with pytest.raises(InputError, match="inside the input"):
        export(folder, tmp_path / "scene" / "meta.json", overwrite=True)
    assert (tmp_path / "scene" / "scene.ply").is_file()


def test_codebook() -> None:
    few = np.array([3.0, 1, 2, 3, 3], np.float32)
    entries, labels = codebook(few)
    assert np.array_equal(entries[labels], few)
    assert len(entries) == 256
    many = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    many[0] = 40  # far from the others
    entries, labels = codebook(many)
    assert (np.diff(entries) >= 0).all()
    best = np.abs(many[..., None] - entries).min(-1)
    assert np.abs(entries[labels] - many).max() <= best.max() + 1e-6
    uniform = np.linspace(many.min(), many.max(), 256)
    error = np.square(entries[labels] - many).mean()
    assert error < 0.05 * np.square(np.abs(many[..., None] - uniform).min(-1)).mean()


def test_palette() -> None:
    generator = np.random.default_rng(0)
    middles = generator.normal(size=(64, 9)).astype(np.float32)
    vectors = middles[generator.integers(64, size=4000)] + 0.01 * generator.normal(size=(4000, 9)).astype(np.float32)
    centroids, labels = palette(vectors, 256)
    assert len(centroids) == 256
    assert np.square(centroids[labels] - vectors).mean() < 3 * 0.01**2
    same, labels = palette(vectors[:50], 64)
    assert np.array_equal(same[labels], vectors[:50])
    flat, labels = palette(np.ones((100, 3), np.float32), 16)
    assert np.allclose(flat[labels], 1)


def with_meta(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], object]:
    def spoil(files: dict[str, bytes]) -> None:
        meta = json.loads(files["meta.json"])
        change(meta)
        files["meta.json"] = json.dumps(meta).encode()

    return spoil


def webp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (width, height), (255, 255, 255, 255)).save(file, "WEBP", lossless=True)
    return file.getvalue()


def replaced(name: str, content: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({name: content})


BROKEN: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "no meta": (lambda f: f.pop("meta.json"), "lacks meta.json"),
    "no picture": (lambda f: f.pop("quats.webp"), "lacks quats.webp"),
    "version 1": (with_meta(lambda m: m.pop("version")), "SOG version None; da3gs reads 2"),
    "version 3": (with_meta(lambda m: m.update(version=3)), "SOG version 3"),
    "a list": (replaced("meta.json", b"[]"), "SOG version None"),
    "no JSON": (replaced("meta.json", b"{"), "is damaged"),
    "deep JSON": (replaced("meta.json", b"[" * 100_000), "is damaged"),
    "huge count": (with_meta(lambda m: m.update(count=2**31)), "2147483648 splats"),
    "count of many": (with_meta(lambda m: m.update(count=10_000_000)), "pixels, not 10000000"),
    "count a text": (with_meta(lambda m: m.update(count="many")), "announces many splats"),
    "count negative": (with_meta(lambda m: m.update(count=-1)), "announces -1"),
    "picture small": (replaced("means_u.webp", webp(4, 4)), "4 x 4 pixels, not 300"),
    "picture huge": (replaced("sh0.webp", webp(4000, 4000)), "4000 x 4000 pixels"),
    "no picture at all": (replaced("sh0.webp", b"hello"), "is damaged"),
    "another kind": (replaced("sh0.webp", b"\x89PNG\r\n\x1a\n" + bytes(50)), "is damaged"),
    "picture cut": (lambda f: f.update({"sh0.webp": f["sh0.webp"][:80]}), "is damaged"),
    "palette width": (replaced("shN_centroids.webp", webp(64, 4)), "palette picture of 64 x 4"),
    "palette height": (replaced("shN_centroids.webp", webp(512, 1)), "palette picture of 512 x 1"),
    "palette bands": (with_meta(lambda m: m["shN"].update(bands=4)), "for degree 4"),
    "palette count": (with_meta(lambda m: m["shN"].update(count=3)), "of a palette of 3"),
    "palette huge": (with_meta(lambda m: m["shN"].update(count=2**20)), "a palette of 1048576"),
    "book short": (with_meta(lambda m: m["sh0"].update(codebook=[])), "a list of 256 numbers"),
    "book NaN": (with_meta(lambda m: m["sh0"]["codebook"].__setitem__(3, float("nan"))), "not finite"),
    "book huge": (with_meta(lambda m: m["scales"]["codebook"].__setitem__(3, 1e30)), "too large"),
    "bounds infinite": (with_meta(lambda m: m["means"].update(maxs=[1, 2, float("inf")])), "not finite"),
    "bounds two": (with_meta(lambda m: m["means"].update(maxs=[1, 2])), "a list of 3 numbers"),
    "name a number": (with_meta(lambda m: m["quats"].update(files=[7])), "name is no text"),
    "no files": (with_meta(lambda m: m["quats"].pop("files")), "is damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(tmp_path: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    save_sog(small_gaussians(300, 9), tmp_path / "a.sog")
    files = entries(tmp_path / "a.sog")
    spoil(files)
    with pytest.raises(InputError, match=message) as caught:
        load_gaussians(packed(tmp_path / "b.sog", files))
    assert "\n" not in str(caught.value)


def test_bombs(tmp_path: Path) -> None:
    save_sog(small_gaussians(300, 1), tmp_path / "a.sog")
    files = entries(tmp_path / "a.sog")
    for name in ("sh0.webp", "meta.json"):
        with zipfile.ZipFile(tmp_path / "b.sog", "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in files.items():
                archive.writestr(entry, bytes(64 << 20) if entry == name else content)
        with pytest.raises(InputError, match="more than"):
            load_gaussians(tmp_path / "b.sog")
    whole = (tmp_path / "a.sog").read_bytes()
    for data in (whole[:-30], whole[: len(whole) // 2], b"PK\3\4" + bytes(60)):
        (tmp_path / "c.sog").write_bytes(data)
        with pytest.raises(InputError, match="damaged or cut short"):
            load_gaussians(tmp_path / "c.sog")


def test_folders_lead_nowhere_else(tmp_path: Path) -> None:
    save_gaussians(small_gaussians(100, 1), tmp_path / "a" / "meta.json")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name in ("../b/quats.webp", "", "/etc/passwd", ".."):
        meta = json.loads((tmp_path / "a" / "meta.json").read_bytes())
        meta["quats"]["files"] = [name]
        (tmp_path / "a" / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(InputError, match="no file beside it"):
            load_gaussians(tmp_path / "a")
    (tmp_path / "b" / "quats.webp").rename(tmp_path / "q.webp")
    (tmp_path / "b" / "quats.webp").symlink_to(tmp_path / "q.webp")
    with pytest.raises(InputError, match="no file beside it"):
        load_gaussians(tmp_path / "b")
    for change in ({"filenames": ["../a/meta.json"]}, {"filenames": []}, {"version": 2}, {"tree": {}}, {"tree": []}):
        save_gaussians(small_gaussians(100, 1), tmp_path / "c" / "lod-meta.json", overwrite=True)
        meta = json.loads((tmp_path / "c" / "lod-meta.json").read_bytes())
        (tmp_path / "c" / "lod-meta.json").write_text(json.dumps(meta | change))
        with pytest.raises(InputError, match=r"lod-meta\.json"):
            load_gaussians(tmp_path / "c")


def test_nothing_to_write(tmp_path: Path) -> None:
    for name in ("a.sog", "b/meta.json", "b/lod-meta.json"):
        with pytest.raises(InputError, match="would be empty"):
            save_gaussians(small_gaussians(0), tmp_path / name)
    assert not list(tmp_path.iterdir())
