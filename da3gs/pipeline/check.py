"""Check of a splat file: an independent decoder's renders against those of the scene that it was made from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from da3gs._tensors import Device, drawing_device
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.exports.axis_conventions import rotation_to
from da3gs.exports.independent import DecodedSplats, decode_splats
from da3gs.formats.arrays import load_arrays
from da3gs.formats.axes import LETTERS, Frame
from da3gs.formats.far_offset import far_offset
from da3gs.gaussians import Gaussians
from da3gs.geometry.similarity import Similarity
from da3gs.metrics.image import psnr
from da3gs.rendering import Backend, render

BOUND_PLY = 60.0
"""A .ply holds float32: nothing but the half precision of the reference may be lost."""

BOUND_OTHER = 45.0
"""Other formats quantise."""

_MAX_REFERENCES = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Report of a check of a splat file."""

    file: str
    """Its name."""
    splats: int
    """How many."""
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]] | None
    """Smallest and largest finite coordinates of the centres; None where there are none."""
    nonfinite: int
    """How many stored numbers are not finite."""
    psnr: float | None
    """In dB, of the worst camera, at most 100; None where there is nothing to compare with."""
    psnr_cameras: tuple[float, ...] | None
    """In dB, of each reference camera."""
    min_psnr: float
    """The bound."""
    passed: bool
    """Some splats, every number finite, and no camera under the bound."""
    format: str = ".ply"
    """What the file is, by its content."""
    degree: int = 0
    """Of its harmonics."""
    axes: str = "RDF"
    """Directions of its x, y and z, in letters: right or left, down or up, forward or back."""
    axes_reason: str = ""
    """Why they are taken to be these."""
    precision: float | None = None
    """In dB, of the worst camera, against the scene's own splats without the harmonics that the file leaves out: what
    the format's fewer bits cost. None where there is no scene, or the file holds other splats than the scene."""
    note: str | None = None
    """What else is to be known, as a sentence."""
    antialiased: bool = False
    """Whether the file says that its splats are for a renderer that compensates for its blur; so they were drawn."""
    statements: tuple[str, ...] = ()
    """What else the file says of its world, such as its vertical axis and an offset."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **dataclasses.asdict(self),
            "bounds": None if self.bounds is None else [list(corner) for corner in self.bounds],
            "statements": list(self.statements),
            "psnr_cameras": None if self.psnr_cameras is None else list(self.psnr_cameras),
        }


def check(
    path: Path | str,
    *,
    against: Path | str | None = None,
    min_psnr: float | None = None,
    frame: Frame | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
) -> CheckReport:
    """Read a splat file with an independent decoder, render a scene's reference cameras with it, and compare.

    The decoder shares no code with the writer, and the reference was rendered before the file was written: whatever
    goes wrong in between (order, activation, axes, precision) costs PSNR here.

    Args:
        path: a scene folder, or a splat file.
        against: the scene whose references to compare with; a folder's own by default.
        min_psnr: the bound in dB; by default 60 for .ply and 45 for other formats.
        frame: the axes of the file's numbers; by default what the file says, else those of its format.
        device: where the splats are drawn.
        backend: of the rendering.

    Raises:
        InputError: the file, or the scene's reference, is missing or broken.
    """
    path = Path(path)
    if min_psnr is not None and not (math.isfinite(min_psnr) and min_psnr >= 0):
        raise InputError(f"--min-psnr is a number of dB from 0 up, got {min_psnr:g}")
    folder = path if path.is_dir() else None
    if folder is not None and not (folder / "scene.json").is_file():
        raise InputError(
            f"{path.name or path} is not a scene folder: it has no scene.json; name a scene or a splat file"
        )
    scene = folder if against is None else Path(against)
    if scene is not None and not scene.is_dir():
        raise InputError(f"{scene} is not a scene folder; --against wants one")
    reference = None if scene is None else _reference(scene)
    splats = decode_splats(path if folder is None else folder / "scene.ply")
    if frame is not None:
        splats = dataclasses.replace(splats, axes=LETTERS[frame], reason="as asked for")
    axes = rotation_to(splats.axes)
    scores, precision, moved = None, None, np.zeros(3)
    if reference is not None and len(splats.means):
        cameras = reference.cameras.transformed(axes)
        if folder is None:
            moved = _to_scene(splats, axes.rotation.numpy() @ reference.offset)
        gaussians = _tensors(dataclasses.replace(splats, means=splats.means + moved)).to(drawing_device(device))
        if not gaussians.antialiased:  # not every format has room to say so
            gaussians = dataclasses.replace(gaussians, antialiased=reference.antialiased)
        scores = _scores(gaussians, cameras, reference.color, backend)
        if scene is not None and folder is None and splats.kind != ".ply":
            precision = _precision(gaussians, scene, cameras, axes, backend)
    bound = min_psnr if min_psnr is not None else BOUND_PLY if splats.kind == ".ply" else BOUND_OTHER
    report = _report(path, splats, scores, bound, precision)
    if reference is not None and moved.any():
        told = f"compared after adding {_numbers(moved)}: the scene's offset is {_numbers(reference.offset)}"
        report = dataclasses.replace(report, note=told)
    if scene is not None and folder is None and report.psnr is not None and not report.psnr >= bound:
        whole = len(decode_splats(scene / "scene.ply").means)
        if len(splats.means) < whole:
            told = f"the file holds {len(splats.means)} of the scene's {whole} splats: what merging or cleaning changed"
            told = f"{told} costs PSNR here; --min-psnr sets another bound"
            report = dataclasses.replace(report, note="; ".join(filter(None, (report.note, told))))
    return report


def _report(
    path: Path, splats: DecodedSplats, scores: list[float] | None, bound: float, precision: float | None
) -> CheckReport:
    finite = splats.means[np.isfinite(splats.means).all(1)]
    worst = None if scores is None else _worst(scores)
    good = worst is None or (math.isfinite(worst) and worst >= bound)
    return CheckReport(
        file=path.name,
        splats=len(splats.means),
        bounds=(tuple(finite.min(0).tolist()), tuple(finite.max(0).tolist())) if len(finite) else None,
        nonfinite=splats.nonfinite,
        psnr=None if worst is None else round(worst, 3),
        psnr_cameras=None if scores is None else tuple(round(score, 3) for score in scores),
        min_psnr=bound,
        passed=bool(len(splats.means)) and splats.nonfinite == 0 and good,
        format=splats.kind,
        degree=round(splats.harmonics.shape[1] ** 0.5) - 1,
        axes=splats.axes,
        axes_reason=splats.reason,
        precision=None if precision is None else round(precision, 3),
        note=_far_note(splats),
        antialiased=splats.antialiased,
        statements=splats.statements,
    )


def _far_note(splats: DecodedSplats) -> str | None:
    """That the file lies too far from the origin for float32, where it does."""
    with np.errstate(over="ignore"):
        offset = far_offset(_tensors(splats)) if len(splats.means) else None
    if offset is None:
        return None
    return f"it lies too far from the origin for float32; it is drawn and exported minus {_numbers(offset)}"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _to_scene(splats: DecodedSplats, offset: np.ndarray) -> np.ndarray:
    """What to add to positions to get the scene's, whose ``offset`` is told in the axes of the file.

    A file that states an offset counts from there. Any other is in the world of the scene, or in the caller's where it
    lies nearer to that.
    """
    if splats.offset is not None:
        moved: np.ndarray = splats.offset - offset
        return moved
    middle = np.nanmedian(splats.means.astype(np.float64), axis=0)
    return -offset if np.linalg.norm(middle - offset) < np.linalg.norm(middle) else np.zeros(3)


def _worst(scores: list[float]) -> float:
    return min(scores, key=lambda score: -math.inf if math.isnan(score) else score)


def _precision(gaussians: Gaussians, scene: Path, cameras: Cameras, axes: Similarity, backend: Backend) -> float | None:
    """The file against the scene's own splats with as many harmonics, if it holds as many splats."""
    own = decode_splats(scene / "scene.ply")
    if len(own.means) != len(gaussians):
        return None
    bands = min(own.harmonics.shape[1], gaussians.harmonics.shape[1])
    own = dataclasses.replace(own, harmonics=own.harmonics[:, :bands])
    with torch.no_grad():
        truth = _tensors(own).to(gaussians.device).transformed(axes)
        color = torch.stack([render(truth, cameras[i], backend=backend).color.cpu() for i in range(len(cameras))])
    return _worst(_scores(gaussians, cameras, color, backend))


def _tensors(splats: DecodedSplats) -> Gaussians:
    columns = {name: torch.from_numpy(getattr(splats, name)).float() for name in _FIELDS}
    return Gaussians(**columns, antialiased=splats.antialiased)


def _scores(gaussians: Gaussians, cameras: Cameras, color: torch.Tensor, backend: Backend) -> list[float]:
    scores = []
    with torch.no_grad():
        for index in range(len(cameras)):
            again = render(gaussians, cameras[index], backend=backend).color.cpu()
            scores.append(float(psnr(again, color[index].float())))
    return scores


_FIELDS = ("means", "scales", "quaternions", "opacities", "harmonics")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Reference:
    """What a scene's file has to show."""

    cameras: Cameras
    color: torch.Tensor  # K H W 3, what they saw
    antialiased: bool  # whether it was drawn so
    offset: np.ndarray  # what to add to positions to get the caller's


def _reference(scene: Path) -> _Reference:
    """What a scene's reference.npz and scene.json say."""
    antialiased, offset = _stated(scene)
    path = scene / "reference.npz"
    if not path.exists():
        raise InputError(f"{scene.name or scene} has no reference.npz to compare with; save the scene anew")
    expected: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "color": ("f2", (None, None, None, 3)),
        "world_to_cam": ("f8", (None, 4, 4)),
        "intrinsics": ("f8", (None, 3, 3)),
    }
    arrays = load_arrays(path, expected)
    count, height, width, _ = arrays["color"].shape
    if not 0 < count <= _MAX_REFERENCES or len(arrays["world_to_cam"]) != count or len(arrays["intrinsics"]) != count:
        raise InputError(
            f"reference.npz holds {count} pictures, {len(arrays['world_to_cam'])} poses; they belong together"
        )
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise InputError("reference.npz holds numbers that are not finite; save the scene anew")
    cameras = Cameras(
        world_to_cam=torch.from_numpy(arrays["world_to_cam"]),
        intrinsics=torch.from_numpy(arrays["intrinsics"]),
        height=height,
        width=width,
    )
    return _Reference(cameras=cameras, color=torch.from_numpy(arrays["color"]), antialiased=antialiased, offset=offset)


def _stated(scene: Path) -> tuple[bool, np.ndarray]:
    """Whether a scene's splats are drawn antialiased, and its offset, by its scene.json, which states its version."""
    try:
        record = json.loads((scene / "scene.json").read_bytes().decode("utf-8-sig"))
        offset = np.array((record.get("frame") or {}).get("offset") or (0, 0, 0), np.float64).reshape(3)
        if record["format_version"] is None or not np.isfinite(offset).all():
            raise ValueError
        return record.get("antialiased") is True, offset
    except FileNotFoundError:
        raise InputError(f"{scene.name or scene} is not a scene folder: it has no scene.json") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"scene.json of {scene.name or scene} is broken; save the scene anew") from error
