"""Accounts of what is passed over: whatever lies in a folder is kept, read or dropped, and every reason is told."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from da3gs.errors import InputError
from da3gs.photos.accounts import counted, recorded, restored, told
from da3gs.photos.records import Dropped
from tests.hostile.right.layouts import accounted_for, load, photo, transforms

LENIENT = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
WORDS = st.sampled_from([
    "a", "IMG_1", "b c", "ü", "u\u0308", "depth", "masks", "images", "images_2", "input", "thumb", ".hidden", "@eaDir",
    "__MACOSX", "1_depth", "normals", "sparse", "keyframes", "x" * 80, "a.b", "Thumbs",
])  # fmt: skip
SUFFIXES = st.sampled_from(
    ["", ".jpg", ".JPG", ".png", ".txt", ".nef", ".exr", ".mp4", ".json", ".db", ".zip", ".jpeg"]
)
CONTENTS = st.sampled_from(["photo", "same", "small", "empty", "noise", "link", "out", "folder"])


DROPPED = st.builds(
    Dropped,
    name=st.text(max_size=9),
    reason=st.text(min_size=1, max_size=9),
    kind=st.sampled_from(["", "is a", "is b"]),
    count=st.integers(1, 9),
)


@given(st.lists(DROPPED, max_size=40))
@LENIENT
def test_counts_are_kept(dropped: list[Dropped]) -> None:
    counts = counted(dropped)
    assert sum(counts.values()) == sum(item.count for item in dropped)
    again = restored(json.loads(json.dumps(recorded(dropped))))
    assert counted(again) == counts
    lines = told(dropped)
    assert sum(int(line.partition(":")[0]) for line in lines) == sum(counts.values())
    assert told(again) == lines


def test_forty_reasons_are_told_by_name() -> None:
    lines = told([Dropped(name=f"{i}.x", reason=f"is of kind {i:02d}") for i in range(40)])
    assert all(any(f"is of kind {i:02d}" in line for line in lines) for i in range(40))


def _put(root: Path, place: list[str], name: str, content: str, seed: int) -> None:
    folder = root.joinpath(*place)
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            return
        match content:
            case "photo" | "same" | "small":
                size = {"height": 20, "width": 20} if content == "small" else {}
                made = photo(root.parent / "made.png", 0 if content == "same" else seed, **size)
                path.write_bytes(made.read_bytes())
            case "empty":
                path.touch()
            case "noise":
                path.write_bytes(bytes([seed % 256]) * 50)
            case "link":
                os.symlink(root, path)
            case "out":
                os.symlink(root.parent, path)
            case "folder":
                path.mkdir()
    except OSError:  # a file where a folder is wanted
        return


@given(
    st.lists(st.tuples(st.lists(WORDS, max_size=3), WORDS, SUFFIXES, CONTENTS), min_size=1, max_size=10),
    st.booleans(),
)
@settings(LENIENT, max_examples=12)
def test_kept_and_dropped_are_everything(pieces: list[tuple[list[str], str, str, str]], posed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        photo(root / "first.png", 99)
        if posed:
            photo(root / "images" / "second.png", 98)
            transforms(root / "transforms.json", ["first.png", "images/second.png"])
        for seed, (place, word, suffix, content) in enumerate(pieces):
            _put(root, place, word + suffix, content, seed + 1)
        try:
            loaded = load(root)
        except InputError:  # two sets of cameras for the same photos, and the like
            return
        accounted_for(loaded, root)
