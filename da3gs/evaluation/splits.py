"""Splits into frames that a model sees and frames it is asked for: split files of the field, and rules.

A split file is checked, whole, before anything is computed. Three formats are told apart by their content: pixelSplat's
``{scene: {"context": [int], "target": [int]} | null}``, FLARE's ``{scene: {"input": ..., "target": ...}}`` and
Long-LRM's list of ``{"scene_name", "fold_8_kmeans_16_input", ...}``, whose targets are every 8th frame of the scene.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from da3gs.errors import InputError
from da3gs.formats.jsonfile import load_json
from da3gs.photos.naming import shown

Format = Literal["pixelsplat", "flare", "long-lrm", "da3-12", "every"]
"""Where a split's frames come from."""

SCENE_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_FOLD = re.compile(r"fold_(\d{1,4})_kmeans_(\d{1,4})_input")
_MOST_FRAMES = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SceneSplit:
    """One scene's frames, as positions in its frame list counted from 0."""

    name: str
    """The scene's key."""
    context: tuple[int, ...] | None
    """What the model sees; None: by the split's rule."""
    target: tuple[int, ...] | None
    """What it is asked for; None: by the split's rule."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Frames of every scene, or the rule that chooses them."""

    name: str
    """The file's name, or the rule as it was asked for."""
    format: Format
    """How the frames were told."""
    scenes: tuple[SceneSplit, ...] = ()
    """Empty where a rule chooses for any scene."""
    skipped: tuple[str, ...] = ()
    """Scenes that the file lists with null."""
    every: int = 8
    """Of a rule: every how many-th frame is a target."""
    views: int | None = None
    """Of a rule: how many context views; None: as many as the model takes."""

    @property
    def digest(self) -> str:
        """A fingerprint of the content, whatever the file's formatting."""
        content = [[s.name, s.context, s.target] for s in sorted(self.scenes, key=lambda s: s.name)]
        text = json.dumps([self.format, self.every, self.views, content], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def frames(self, scene: SceneSplit, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Context and target positions of a listed scene with ``count`` frames, checked against it.

        Raises:
            InputError: an index is out of range, or nothing is left to ask for.
        """
        target = tuple(range(0, count, self.every)) if scene.target is None else scene.target
        assert scene.context is not None
        for role, indices in (("context", scene.context), ("target", target)):
            if indices and max(indices) >= count:
                raise InputError(
                    f"{self.name}: {role} {max(indices)} of scene {_short(scene.name)} is out of range, since it has "
                    f"{count} frames; use the split that belongs to these data"
                )
        if set(target) <= set(scene.context):
            raise InputError(
                f"{self.name}: all {len(target)} targets of scene {_short(scene.name)} are context frames; name some "
                "that the model does not see"
            )
        return scene.context, target


def parse_split(text: str, *, context: int | None = None) -> Split:
    """The split that ``--split`` names: a file, ``da3-12`` or ``every:K``.

    Args:
        text: what was asked for.
        context: which of Long-LRM's numbers of inputs to take; the smallest by default.

    Raises:
        InputError: it is none of these, or a file that is wrong.
    """
    if text == "da3-12":
        return Split(name=text, format="da3-12", views=12)
    if match := re.fullmatch(r"every:(\d{1,6})", text):
        if int(match[1]) < 2:
            raise InputError(f"--split every:K needs K of 2 or more, got {text!r}")
        return Split(name=text, format="every", every=int(match[1]), views=context)
    if text.startswith("every:"):
        raise InputError(f"--split every:K needs a whole number K of 2 or more, got {text!r}")
    path = Path(text)
    if not path.is_file():
        raise InputError(f"--split {shown(text)!r} is no file, nor da3-12 or every:K; check the path")
    return load_split(path, context=context)


def load_split(path: Path, *, context: int | None = None) -> Split:
    """Read a split file; its format is told by its content.

    Raises:
        InputError: it is no split, or what it says cannot be.
    """
    name, content = shown(path.name), load_json(path)
    match content:
        case dict() if content:
            return _by_scene(name, content)
        case list() if content:
            return _long_lrm(name, content, context)
        case dict() | list():
            raise InputError(f"{name} is an empty split; give one with scenes")
    raise InputError(
        f"{name} is no split file (a JSON {type(content).__name__}); it has to be {{scene: {{context, target}}}}"
    )


def _by_scene(name: str, content: dict[str, Any]) -> Split:
    """pixelSplat's and FLARE's: the word for context tells which."""
    scenes, skipped, words = [], [], set()
    for key, entry in content.items():
        _check_key(name, key)
        if entry is None:
            skipped.append(key)
            continue
        if not isinstance(entry, dict) or "target" not in entry or not ({"context", "input"} & set(entry)):
            raise InputError(f"{name}: scene {_short(key)} has no lists context and target; check the file")
        word = "context" if "context" in entry else "input"
        words.add(word)
        scenes.append(_checked(name, key, entry[word], entry["target"]))
    if not scenes:
        raise InputError(f"{name} lists {len(skipped)} scenes, all null; give a split with frames")
    if len(words) > 1:
        raise InputError(f"{name} mixes the words context and input; write it in one format")
    kind: Format = "pixelsplat" if words == {"context"} else "flare"
    return Split(name=name, format=kind, scenes=tuple(scenes), skipped=tuple(skipped))


def _long_lrm(name: str, content: list[Any], wanted: int | None) -> Split:
    """Long-LRM's: inputs chosen by k-means from the frames that are not every 8th."""
    scenes: list[SceneSplit] = []
    taken: set[str] = set()
    choice: tuple[int, int] | None = None
    for entry in content:
        if not isinstance(entry, dict) or not isinstance(entry.get("scene_name"), str):
            raise InputError(f"{name}: an entry of the list has no scene_name; check the file")
        key = entry["scene_name"]
        _check_key(name, key)
        if key in taken:
            raise InputError(f"{name}: scene {_short(key)} is listed twice; leave one out")
        taken.add(key)
        offered = {(int(m[1]), int(m[2])): v for k, v in entry.items() if (m := _FOLD.fullmatch(k))}
        if choice is None:
            choice = _fold_choice(name, list(offered), wanted)
        if choice not in offered:
            raise InputError(f"{name}: scene {_short(key)} has no list of {choice[1]} inputs; check the file")
        scenes.append(_checked(name, key, offered[choice], None))
    assert choice is not None
    return Split(name=name, format="long-lrm", scenes=tuple(scenes), every=choice[0], views=choice[1])


def _fold_choice(name: str, offered: list[tuple[int, int]], wanted: int | None) -> tuple[int, int]:
    matching = sorted(pair for pair in offered if wanted in (None, pair[1]) and pair[0] >= 2)
    if not matching:
        there = ", ".join(str(pair[1]) for pair in sorted(offered)) or "none"
        raise InputError(f"{name} has no list of {wanted or 'any'} inputs a scene (there are: {there}); see --context")
    return matching[0]


def _check_key(name: str, key: object) -> None:
    if not isinstance(key, str) or SCENE_KEY.fullmatch(key) is None:
        raise InputError(
            f"{name}: {_short(str(key))!r} is no scene key; use letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit"
        )


def _checked(name: str, key: str, context: Any, target: Any) -> SceneSplit:
    lists = [_indices(name, key, "context", context)]
    if target is not None:
        lists.append(_indices(name, key, "target", target))
        if set(lists[1]) <= set(lists[0]):
            raise InputError(
                f"{name}: all {len(lists[1])} targets of scene {_short(key)} are context frames; name some that the "
                "model does not see"
            )
    return SceneSplit(name=key, context=lists[0], target=None if target is None else lists[1])


def _indices(name: str, key: str, role: str, value: Any) -> tuple[int, ...]:
    where = f"{name}: {role} of scene {_short(key)}"
    if not isinstance(value, list):
        raise InputError(f"{where} is no list ({type(value).__name__}); check the file")
    if not value:
        raise InputError(f"{where} is empty; name at least one frame")
    for index in value:
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < _MOST_FRAMES:
            raise InputError(f"{where} holds {_short(str(index))!r}, which is no frame's position from 0 up")
    if len(set(value)) != len(value):
        twice = next(i for i in value if value.count(i) > 1)
        raise InputError(f"{where} names frame {twice} twice; leave one out")
    return tuple(value)


def _short(text: str) -> str:
    text = shown(text)
    return text if len(text) <= 24 else f"{text[:16]}..."


def rule_frames(
    split: Split, cam_to_world: Float[np.ndarray, "V 4 4"] | None, count: int, *, most: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Context and target positions that a rule chooses for a scene of ``count`` frames.

    Targets are the frames 0, K, 2K ...; context views are chosen among the rest: ``da3-12`` by farthest-point sampling
    (see ``farthest_views``), ``every:K`` takes all where the model takes as many, else ``most`` of them by the same
    sampling, or evenly where no poses are known.

    Raises:
        InputError: ``da3-12`` without poses, or too few frames.
    """
    target = tuple(range(0, count, split.every))
    rest = [i for i in range(count) if i % split.every]
    if not rest:
        raise InputError(f"{split.name}: a scene of {count} frame leaves none to reconstruct from; give more photos")
    wanted = min(split.views or most, len(rest))
    if cam_to_world is not None and (split.format == "da3-12" or wanted < len(rest)):
        chosen = [rest[i] for i in farthest_views(cam_to_world[rest], wanted)]
    elif split.format == "da3-12":
        raise InputError("--split da3-12 chooses context by camera poses, and the input has none; use --split every:8")
    elif wanted == len(rest):
        chosen = rest
    else:
        chosen = [rest[round(i)] for i in np.linspace(0, len(rest) - 1, wanted).tolist()]
    return tuple(sorted(chosen)), target


def farthest_views(cam_to_world: Float[np.ndarray, "V 4 4"], wanted: int) -> list[int]:
    """Positions of the cameras that farthest-point sampling picks, in the order of picking.

    The distance of two cameras is ``|c_i - c_j| / D + angle(R_i, R_j) / pi``, with D the largest distance of two
    centres: translation and rotation weigh alike. The first camera in the list begins; then always the one whose
    nearest picked camera is farthest away, the earlier of equals.
    """
    poses = cam_to_world.astype(np.float64)
    centers = poses[:, :3, 3]
    shift = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    cosine = (np.einsum("iab,jab->ij", poses[:, :3, :3], poses[:, :3, :3]) - 1) / 2
    apart = shift / max(float(shift.max()), 1e-12) + np.arccos(cosine.clip(-1, 1)) / np.pi
    picked, nearest = [0], apart[0].copy()
    while len(picked) < min(wanted, len(poses)):
        nearest[picked] = -1
        picked.append(int(np.round(nearest, 9).argmax()))
        nearest = np.minimum(nearest, apart[picked[-1]])
    return picked
