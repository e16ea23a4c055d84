"""Names: separators, case, Unicode forms, folders and links, the same way for photos, masks and models."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3gs.errors import InputError
from da3gs.photos.folders.matching import Files
from da3gs.photos.naming import unique_stems
from tests.hostile.right import case, right
from tests.hostile.right.layouts import (
    HEIGHT,
    WIDTH,
    accounted_for,
    colmap,
    files_of,
    load,
    photo,
    posed_as,
    reasons,
    transforms,
)

NFC, NFD = (unicodedata.normalize(form, "Café/Été") for form in ("NFC", "NFD"))
SPELLINGS: dict[str, tuple[Callable[[int], str], Callable[[int], str]]] = {
    "windows-separators": (lambda i: f"images/cam/{i}.jpg", lambda i: f"images\\cam\\{i}.jpg"),
    "dot-and-windows-separators": (lambda i: f"images/cam/{i}.jpg", lambda i: f".\\images\\cam\\{i}.jpg"),
    "upper-case-suffix": (lambda i: f"images/{i}.JPG", lambda i: f"images/{i}.jpg"),
    "lower-case-suffix": (lambda i: f"images/{i}.jpg", lambda i: f"images/{i}.JPG"),
    "case-of-folders": (lambda i: f"Images/A_{i}.jpg", lambda i: f"images/a_{i}.jpg"),
    "composed-and-decomposed": (lambda i: f"images/{NFD}_{i}.jpg", lambda i: f"images/{NFC}_{i}.jpg"),
    "decomposed-and-composed": (lambda i: f"images/{NFC}_{i}.jpg", lambda i: f"images/{NFD}_{i}.jpg"),
    "doubled-slashes": (lambda i: f"images/{i}.jpg", lambda i: f"./images//{i}.jpg"),
    "backslash-in-the-name-itself": (lambda i: f"images/a\\{i}.jpg", lambda i: f"images/a\\{i}.jpg"),
    "spaces-and-percent": (lambda i: f"images/my photo %20 {i}.jpg", lambda i: f"images/my photo %20 {i}.jpg"),
}
"""On the disk, and as a program wrote them."""


def _transforms_spelling(name: str, folder: Path) -> None:
    real, written = SPELLINGS[name]
    for i in range(3):
        photo(folder / real(i), i)
    transforms(folder / "transforms.json", [written(i) for i in range(3)])
    loaded = load(folder)
    posed_as(loaded, range(3))
    accounted_for(loaded, folder)


def _colmap_spelling(name: str, folder: Path) -> None:
    real, written = SPELLINGS[name]
    for i in range(3):
        photo(folder / real(i), i)
    names = [written(i).replace("\\", "/").replace("//", "/").removeprefix("./") for i in range(3)]
    if "windows" in name or "backslash" in name:
        names = [written(i) for i in range(3)]
    start = 7 if names[0].lower().startswith("images") else 0
    colmap(folder / "sparse/0", [n[start:] for n in names] if "dot-and" not in name else names)
    loaded = load(folder)
    posed_as(loaded, range(3))
    accounted_for(loaded, folder)


def _mask_spelling(name: str, folder: Path) -> None:
    real, written = SPELLINGS[name]
    for i in range(3):
        photo(folder / "photos" / real(i), i)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, : 20 + 10 * i] = 255
        place = folder / "masks" / written(i).replace("\\" if "windows" in name else "\0", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place.with_suffix(".png"))
    loaded = load(folder / "photos", masks=folder / "masks")
    widths = [int(p.read().mask.any(0).sum()) for p in loaded.photos]  # type: ignore[union-attr]
    assert widths == [20, 30, 40]
    assert loaded.notes == ()


for name in SPELLINGS:
    case("names", f"transforms-{name}", functools.partial(_transforms_spelling, name))
    case("names", f"colmap-{name}", functools.partial(_colmap_spelling, name))
    case("names", f"masks-{name}", functools.partial(_mask_spelling, name))


@right("names")
def a_near_match_is_named(tmp_path: Path) -> None:
    """Another suffix, another folder, other zeros; a different photo is not."""
    photo(tmp_path / "images" / "IMG_0.jpeg", 0)
    photo(tmp_path / "img" / "IMG_1.jpg", 1)
    photo(tmp_path / "images" / "IMG_0002.jpg", 2)
    photo(tmp_path / "images" / "IMG_4.jpg", 4)
    transforms(tmp_path / "transforms.json", [f"images/IMG_{i}.jpg" for i in range(5)])
    loaded = load(tmp_path)
    posed_as(loaded, (4,))
    told = {d.name: d.reason for d in loaded.dropped if d.counted_as == "is missing"}
    assert told == {
        "images/IMG_0.jpg": "is missing (images/IMG_0.jpeg is there)",
        "images/IMG_1.jpg": "is missing (img/IMG_1.jpg is there)",
        "images/IMG_2.jpg": "is missing (images/IMG_0002.jpg is there)",
        "images/IMG_3.jpg": "is missing",
    }
    assert reasons(loaded)["is missing"] == 4


@right("names")
def names_that_differ_by_case_alone_have_to_be_exact(tmp_path: Path) -> None:
    """Two files answer to a third spelling: it is refused."""
    photo(tmp_path / "a.jpg", 0)
    photo(tmp_path / "A.jpg", 1)
    if not (tmp_path / "a.jpg").samefile(tmp_path / "A.jpg"):
        transforms(tmp_path / "transforms.json", ["a.jpg", "A.jpg"])
        posed_as(load(tmp_path), (0, 1))
        transforms(tmp_path / "transforms.json", ["a.JPG"])
        with pytest.raises(InputError, match=r"'a\.JPG' may be A\.jpg and a\.jpg; write it exactly"):
            load(tmp_path)


@right("names")
def masks_lie_in_folders_like_the_photos(tmp_path: Path) -> None:
    """The same name in two folders: each its own mask."""
    for k, camera in enumerate(("front", "back")):
        photo(tmp_path / "images" / camera / "0001.jpg", k)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, : 30 + 20 * k] = 255
        (tmp_path / "masks" / camera).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "masks" / camera / "0001.png")
    loaded = load(tmp_path, masks=tmp_path / "masks")
    widths = {p.index: int(p.read().mask.any(0).sum()) for p in loaded.photos}  # type: ignore[union-attr]
    assert sorted(widths.values()) == [30, 50]
    by_name = {loaded.photos[i].index: loaded.photos[i].sha256 for i in range(2)}
    back = next(p for p in loaded.photos if p.sha256 == by_name[0])
    assert int(back.read().mask.any(0).sum()) == 50  # type: ignore[union-attr]
    accounted_for(loaded, tmp_path)


@right("names")
def no_mask_is_shared_by_accident(tmp_path: Path) -> None:
    """One flat mask, two photos of its name: refused, unless both names of views are there."""
    for k, camera in enumerate(("front", "back")):
        photo(tmp_path / "photos" / camera / "0001.jpg", k)
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(masks / "0001.png")
    with pytest.raises(InputError, match=r"the mask 0001\.png fits 2 photos \(back/0001\.jpg and front/0001\.jpg\)"):
        load(tmp_path / "photos", masks=masks)
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(masks / "0001_2.png")
    assert len(load(tmp_path / "photos", masks=masks).views) == 2
    photo(tmp_path / "same" / "a.jpg", 3)
    photo(tmp_path / "same" / "a.png", 4)
    (masks / "0001.png").rename(masks / "a.png")
    with pytest.raises(InputError, match="fits 2 photos"):
        load(tmp_path / "same", masks=masks)
    (masks / "a.png").rename(masks / "a.jpg.png")
    (masks / "0001_2.png").rename(masks / "a.png.png")
    assert load(tmp_path / "same", masks=masks).notes == ()


@right("names")
def photos_without_a_mask_are_counted(tmp_path: Path) -> None:
    """They count whole, and a note says so."""
    for i in range(3):
        photo(tmp_path / "photos" / f"{i}.jpg", i)
    photo(tmp_path / "masks" / "1_mask.png", 5)
    loaded = load(tmp_path / "photos", masks=tmp_path / "masks")
    assert loaded.notes == ("2 of 3 photos have no mask (0.jpg, 2.jpg) and count whole",)


@right("names")
def a_link_to_photos_elsewhere_says_where(tmp_path: Path) -> None:
    """images is a link out of the project; inside it is none."""
    for i in range(3):
        photo(tmp_path / "nas/raw" / f"{i}.jpg", i)
        photo(tmp_path / "inside/input" / f"{i}.jpg", i)
    (tmp_path / "project").mkdir()
    os.symlink("../nas/raw", tmp_path / "project/images")
    with pytest.raises(InputError, match=r"images is a link that leads out \(to \.\./nas/raw\): name that folder"):
        load(tmp_path / "project")
    colmap(tmp_path / "project/sparse/0", [f"{i}.jpg" for i in range(3)])
    with pytest.raises(InputError, match=r"leads out of project by the link images \(to raw\)"):
        load(tmp_path / "project")
    os.symlink("input", tmp_path / "inside/images")
    colmap(tmp_path / "inside/sparse/0", [f"{i}.jpg" for i in range(3)])
    loaded = load(tmp_path / "inside")
    posed_as(loaded, range(3))
    accounted_for(loaded, tmp_path / "inside")
    os.symlink("nas/raw", tmp_path / "photos")
    assert len(load(tmp_path / "photos").views) == 3


@right("names")
def links_that_lead_round_in_circles(tmp_path: Path) -> None:
    """To the folder itself, to each other, to nothing."""
    photo(tmp_path / "set/a/0.jpg", 0)
    photo(tmp_path / "set/1.jpg", 1)
    os.symlink(".", tmp_path / "set/self")
    os.symlink("..", tmp_path / "set/a/up")
    os.symlink("loop_b", tmp_path / "set/loop_a")
    os.symlink("loop_a", tmp_path / "set/loop_b")
    os.symlink("me.jpg", tmp_path / "set/me.jpg")
    os.symlink("nothing.jpg", tmp_path / "set/broken.jpg")
    loaded = load(tmp_path / "set")
    assert sorted(files_of(loaded)) == ["0.jpg", "1.jpg"]
    assert reasons(loaded)["is a link that leads nowhere"] == 4
    accounted_for(loaded, tmp_path / "set")


@right("names")
def photo_paths_that_are_no_files(tmp_path: Path) -> None:
    """A web address or a folder in a list is an error, not a missing photo."""
    photo(tmp_path / "images" / "0.jpg", 0)
    for written, words in (
        ("https://example.org/a.jpg", "is a web address; download the file"),
        ("s3://bucket/a.jpg", "is a web address"),
        ("images", "'images' is a folder; name a file"),
        ("images/", "is a folder"),
        ("./", "is a folder"),
    ):
        transforms(tmp_path / "transforms.json", ["images/0.jpg", written])
        with pytest.raises(InputError, match=f"frame 1: .*{words}"):
            load(tmp_path)


@right("names")
def a_photo_beats_a_folder_of_its_name(tmp_path: Path) -> None:
    """./train/r_0 without a suffix, where train/r_0/ holds something else."""
    photo(tmp_path / "train/r_0.png", 0)
    photo(tmp_path / "train/r_0/x.png", 1)
    transforms(tmp_path / "transforms.json", ["./train/r_0"])
    assert files_of(load(tmp_path)) == ["r_0.png"]


@right("names")
def views_of_two_spellings_have_two_names(_: Path) -> None:
    """Names of views become file names, which a disk may not tell apart."""
    assert unique_stems(["a/É.jpg", "b/e\u0301.jpg", "A.jpg", "a.jpg"]) == ["É", "e\u0301_2", "A", "a_2"]


@right("names")
def nothing_is_looked_through_for_exact_names(tmp_path: Path) -> None:
    """A name that fits needs no walk over the folder."""
    photo(tmp_path / "a.jpg", 0)
    files = Files(tmp_path)
    assert files.find("a.jpg", "here") == tmp_path / "a.jpg"
    assert files._by_key is None
