"""Streamed SOG: a ``lod-meta.json`` that divides a scene into places and each place into levels of detail.

A viewer loads coarse levels first and fine ones where they matter. Levels are SOG folders of up to half a million
splats, in which the splats of a place stand together; the tree's leaves say where.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from da3gs import __version__
from da3gs._files import open_regular
from da3gs.errors import InputError
from da3gs.formats.encoding.quantising import finite_arrays
from da3gs.formats.records import Format, SplatFile, WriteOptions
from da3gs.formats.splats.compressed_ply import morton_order
from da3gs.formats.splats.sog import FolderSource, read_sog, sog_files
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import quaternion_to_matrix

META = "lod-meta.json"

_LEAF = 1 << 16  # splats of the finest level in a place, at most
_FILE = 1 << 19  # splats in a file, about
_MOST_META = 64 << 20  # bytes
_MOST_FILES = 10_000


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Leaf:
    """A place: which splats of each level lie in it."""

    members: list[np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Node:
    """Two places side by side."""

    children: tuple[_Leaf | _Node, _Leaf | _Node]


def streamed_files(gaussians: Gaussians, name: str, options: WriteOptions) -> dict[str, bytes]:
    """The files of a folder: the finest level is ``gaussians``, coarser ones are ``options.levels``.

    Raises:
        InputError: a number is not finite, or there are no splats.
    """
    levels = [gaussians.detach(), *(level.detach() for level in options.levels)]
    means = [finite_arrays(level, name)["means"] for level in levels]
    if not len(gaussians):
        raise InputError(f"{name} would be empty: there are no splats, and a picture has to have pixels")
    tree = _divided([np.arange(len(points)) for points in means], means)
    files: dict[str, bytes] = {}
    filenames: list[str] = []
    places: dict[int, dict[str, dict[str, int]]] = {}
    for number, (level, points) in enumerate(zip(levels, means, strict=True)):
        for part, leaves in enumerate(_parts(tree, number)):
            folder, start, rows = f"{number}_{part}", 0, []
            for leaf in leaves:
                members = leaf.members[number]
                place = {"file": len(filenames), "offset": start, "count": len(members)}
                places.setdefault(id(leaf), {})[str(number)] = place
                rows.append(members[morton_order(points[members])])
                start += len(members)
            some = level.masked(torch.from_numpy(np.concatenate(rows)))
            for entry, content in sog_files(some, name, options, order=np.arange(start)).items():
                files[f"{folder}/{entry}"] = content
            filenames.append(f"{folder}/meta.json")
    meta = {
        "version": 1,
        "asset": {"generator": f"da3gs {__version__}"},
        "count": sum(map(len, levels)),
        "counts": [len(level) for level in levels],
        "lodLevels": len(levels),
        "lodErrors": False,
        "filenames": filenames,
        "tree": _described(tree, [_boxes(level) for level in levels], places),
    }
    return {META: json.dumps(meta).encode(), **files}


def stored_order(gaussians: Gaussians) -> Int[Tensor, "N"]:
    """In which order the finest level holds splats."""
    points = gaussians.means.numpy()
    leaves = [leaf.members[0] for leaf in _leaves(_divided([np.arange(len(points))], [points]))]
    return torch.from_numpy(np.concatenate([members[morton_order(points[members])] for members in leaves]))


def _divided(members: list[np.ndarray], means: list[np.ndarray]) -> _Leaf | _Node:
    """Places that are halved, at the median of the longest side, until they hold few enough splats."""
    points = means[0][members[0]]
    if len(points) <= _LEAF:
        return _Leaf(members=members)
    axis = int(np.ptp(points, axis=0).argmax())
    cut = np.median(points[:, axis])
    below = [level[axis_values < cut] for level, axis_values in _along(members, means, axis)]
    above = [level[axis_values >= cut] for level, axis_values in _along(members, means, axis)]
    if not len(below[0]) or not len(above[0]):
        return _Leaf(members=members)  # most splats in one plane
    return _Node(children=(_divided(below, means), _divided(above, means)))


def _along(members: list[np.ndarray], means: list[np.ndarray], axis: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for level, points in zip(members, means, strict=True):
        yield level, points[level, axis]


def _leaves(tree: _Leaf | _Node) -> Iterator[_Leaf]:
    """From one side to the other."""
    if isinstance(tree, _Leaf):
        yield tree
        return
    for child in tree.children:
        yield from _leaves(child)


def _parts(tree: _Leaf | _Node, level: int) -> Iterator[list[_Leaf]]:
    """Neighbouring places that share a file of one level; places without splats of the level are left out."""
    part: list[_Leaf] = []
    for leaf in _leaves(tree):
        if not len(leaf.members[level]):
            continue
        if part and sum(len(other.members[level]) for other in part) + len(leaf.members[level]) > _FILE:
            yield part
            part = []
        part.append(leaf)
    if part:
        yield part


def _boxes(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Each splat's bounds, one standard deviation to each side."""
    axes = quaternion_to_matrix(gaussians.quaternions.float().cpu()).abs()
    reach = (axes @ gaussians.scales.float().cpu()[..., None])[..., 0].numpy()
    means = gaussians.means.float().cpu().numpy()
    return means - reach, means + reach


def _described(
    tree: _Leaf | _Node, boxes: list[tuple[np.ndarray, np.ndarray]], places: dict[int, dict[str, dict[str, int]]]
) -> dict[str, Any]:
    """A node of the tree as JSON has it."""
    if isinstance(tree, _Node):
        children = [_described(child, boxes, places) for child in tree.children]
        low = np.min([child["bound"]["min"] for child in children], 0)
        high = np.max([child["bound"]["max"] for child in children], 0)
        return {"bound": {"min": low.tolist(), "max": high.tolist()}, "children": children}
    found = [(low[rows], high[rows]) for (low, high), rows in zip(boxes, tree.members, strict=True) if len(rows)]
    low = np.min([part.min(0) for part, _ in found], 0)
    high = np.max([part.max(0) for _, part in found], 0)
    return {"bound": {"min": low.tolist(), "max": high.tolist()}, "lods": places[id(tree)]}


def load_streamed_sog(path: Path | str) -> SplatFile:
    """Read the finest level of a streamed SOG, and its surroundings where there are any.

    Raises:
        InputError: a file is missing, damaged, or of another version.
    """
    path = Path(path)
    with open_regular(path) as file:
        data = file.read(_MOST_META + 1)
    try:
        meta = json.loads(data)
        if not isinstance(meta, dict) or meta.get("version", 1) != 1:
            raise InputError(f"{path.name} is no streamed SOG of version 1, the one that da3gs reads")
        names = _finest(meta["tree"], meta["filenames"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} is damaged: {' '.join(str(error).split())[:100]}") from error
    if isinstance(meta.get("environment"), str):
        names.append(meta["environment"])
    parts = []
    for name in names:
        folder, _, entry = name.rpartition("/")
        if not folder or Path(folder).name != folder or folder in (".", "..") or (path.parent / folder).is_symlink():
            raise InputError(f"{path.name} names {name[:60]!r}, which lies in no folder beside it")
        parts.append(read_sog(FolderSource(name=f"{path.parent.name}/{folder}", folder=path.parent / folder), entry))
    return SplatFile(
        gaussians=Gaussians.concatenated([part.gaussians for part in parts]),
        antialiased=any(part.antialiased for part in parts),
    )


def _finest(tree: dict[str, Any], filenames: Sequence[str]) -> list[str]:
    """The files with the finest level, in their order."""
    waiting, found = [tree], set()
    while waiting:
        node = waiting.pop()
        waiting += node.get("children", [])
        lods = node.get("lods", {})
        if lods:
            found.add(int(lods[min(lods, key=int)]["file"]))
    if not found or min(found) < 0 or len(found) > _MOST_FILES:
        raise InputError(f"the tree of {META} names no file")
    return [str(filenames[number]) for number in sorted(found)]


FORMAT = Format(
    name="streamed_sog",
    suffix=META,
    begins=lambda start, name: name == META and start.lstrip().startswith(b"{"),
    load=load_streamed_sog,
    keeps=("antialiased",),
    order=stored_order,
    encode=streamed_files,
    folder=True,
    levels=True,
    advice=lambda _: "Babylon.js lays streamed SOG on its back: set the mesh's rotation.x to 0 there",
)
"""Streamed SOG."""
