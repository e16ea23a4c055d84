"""Programs that others wrote, each as a reader or writer of splat files: what numbers they see, in one record."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from da3gs.exports.independent import decode_splats
from da3gs.exports.independent.ply import decode
from da3gs.exports.independent.record import DecodedSplats
from da3gs.formats import save_gaussians
from da3gs.formats.axes import with_axes
from da3gs.formats.encoding.quantising import to_gaussians
from da3gs.formats.splats.spz import save_spz
from da3gs.gaussians import Gaussians
from tests.small_scene import small_gaussians

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
SPLAT_TRANSFORM = MODULES / ".bin" / "splat-transform"
_RECORD = ("means", "scales", "quaternions", "opacities", "harmonics")
_VALIDATE = """
const fs = require("fs"), validator = require(process.argv[1]);
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])), {maxIssues: 1000})
  .then((report) => console.log(JSON.stringify(report.issues.messages)));
"""

_TO_KSPLAT = """
globalThis.window = globalThis;
const {PlyLoader} = await import(process.argv[1]), fs = await import("fs");
const data = fs.readFileSync(process.argv[2]);
const buffer = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
const splats = await PlyLoader.loadFromFileData(buffer, 0, Number(process.argv[4]), true, 2);
fs.writeFileSync(process.argv[3], Buffer.from(splats.bufferData));
process.exit(0);
"""


def version(package: str) -> str | None:
    """The installed version of a package of npm or Python, None where it is not installed."""
    about = MODULES / package / "package.json"
    if about.is_file():
        return str(json.loads(about.read_text())["version"]) if shutil.which("node") else None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def save_as(gaussians: Gaussians, path: Path) -> Path:
    """Write the format that the name says; ``3.spz`` is of version 3."""
    if not path.name.endswith(".json"):  # a folder of its own, which must not be there
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "3.spz":
        save_spz(gaussians, path, version=3)
    else:
        save_gaussians(gaussians, path)
    return path


def splats_for(name: str, count: int = 1500) -> Gaussians:
    """Splats that the format of a name can hold: colours of a byte, and harmonics where it has any."""
    splats = small_gaussians(count, 1 if name.endswith(".splat") else 16)
    splats.harmonics[:, 0].clamp_(-1.7, 1.7)
    return splats


def splat_transform(*arguments: object, timeout: float = 300) -> None:
    """Run PlayCanvas' converter on the CPU.

    Raises:
        RuntimeError: it refuses.
    """
    command = [str(SPLAT_TRANSFORM), "-q", "-w", "-g", "cpu", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError((done.stderr or done.stdout).strip()[-2000:])


def write_ksplat(source: Path, target: Path, level: int) -> None:
    """Make a ``.ksplat`` of a PLY with the program of the format's author, by its level of compression, 0 to 2."""
    library = MODULES / "@mkkellogg" / "gaussian-splats-3d" / "build" / "gaussian-splats-3d.module.js"
    command = ["node", "--input-type=module", "-e", _TO_KSPLAT, str(library), str(source), str(target), str(level)]
    subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


def seen_by_splat_transform(path: Path, scratch: Path) -> DecodedSplats:
    """What it reads, by way of a PLY that it writes into ``scratch``."""
    plain = scratch / f"{path.name}.seen.ply"
    splat_transform(path, plain)
    return decode(plain)


def seen_by_gsply(path: Path) -> DecodedSplats:
    """What gsply reads; it keeps logarithms and logits, and turns no axes."""
    import gsply
    from gsply.sog_reader import sogread
    from gsply.spz import read_spz

    readers = {".spz": read_spz, ".sog": sogread, ".json": sogread}
    data = readers.get(path.suffix, gsply.plyread)(str(path))
    return DecodedSplats.of(
        path.suffix,
        np.concatenate((data.sh0[:, None], data.shN.reshape(len(data.means), -1, 3)), 1),
        means=data.means,
        scales=np.exp(data.scales),
        quaternions=data.quats,
        opacities=1 / (1 + np.exp(-data.opacities.astype(np.float64).ravel())),
    )


def seen_by_openusd(path: Path) -> DecodedSplats:
    """What OpenUSD's own schema gives."""
    from pxr import Usd, UsdVol

    stage = Usd.Stage.Open(str(path))  # prims live no longer than their stage
    prim = UsdVol.ParticleField3DGaussianSplat(stage.GetDefaultPrim())
    means = np.array(prim.GetPositionsAttr().Get())
    return DecodedSplats.of(
        path.suffix,
        np.array(prim.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()).reshape(len(means), -1, 3),
        means=means,
        scales=np.array(prim.GetScalesAttr().Get()),
        quaternions=np.roll([[*turn.imaginary, turn.real] for turn in prim.GetOrientationsAttr().Get()], 1, 1),
        opacities=np.array(prim.GetOpacitiesAttr().Get()),
        axes="RUB",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberReader:
    """A program whose numbers can be had."""

    name: str
    package: str
    """Of npm or pip."""
    seen: Callable[[Path, Path], DecodedSplats]
    """What it reads of a file; it may write into the folder."""
    opened: tuple[str, ...]
    """Names that ``save_as`` knows of the formats that it reads."""


NUMBER_READERS = (
    NumberReader(
        name="splat-transform",
        package="@playcanvas/splat-transform",
        seen=seen_by_splat_transform,
        opened=(
            "a.ply", "a.compressed.ply", "a.splat", "a.spz", "3.spz", "a.sog", "sog/meta.json", "lod/lod-meta.json",
        ),
    ),
    NumberReader(
        name="gsply",
        package="gsply",
        seen=lambda path, _: seen_by_gsply(path),
        opened=("a.ply", "a.compressed.ply", "a.spz", "3.spz", "a.sog", "sog/meta.json"),
    ),
    NumberReader(
        name="OpenUSD",
        package="usd-core",
        seen=lambda path, _: seen_by_openusd(path),
        opened=("a.usda", "a.usdz"),
    ),
)  # fmt: skip


def decoded_usd(path: Path) -> Gaussians:
    """Splats of a file that da3gs only writes, in a PLY's axes, by its independent decoder."""
    seen = decode_splats(path)
    return with_axes(to_gaussians({name: getattr(seen, name) for name in _RECORD}), seen.axes, "RDF")


def openusd_complaints(path: Path) -> list[str]:
    """What all of OpenUSD's validators find."""
    from pxr import Usd, UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return [f"{error.GetName()}: {error.GetMessage()}" for error in found]


def gltf_complaints(path: Path) -> list[dict[str, Any]]:
    """What Khronos' validator finds: code, severity (0 is an error) and place."""
    command = ["node", "-e", _VALIDATE, str(MODULES / "gltf-validator"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Differences:
    """The largest differences between two readings of the same splats."""

    means: float
    scales: float
    """Of logarithms."""
    rotations: float
    """An angle, in radians; an ellipsoid turned by half a turn about one of its axes is the same."""
    opacities: float
    constant: float
    """Of the constant harmonic."""
    rest: float
    """Of the other harmonics that both have."""

    @property
    def largest(self) -> float:
        """Of all."""
        return max(dataclasses.astuple(self))


def differences(one: Gaussians | DecodedSplats, other: Gaussians | DecodedSplats, *, sort: bool = False) -> Differences:
    """Splat by splat in their order, or, with ``sort``, each of ``one`` beside the nearest of ``other``.

    Raises:
        AssertionError: they are not as many, or two have the same nearest.
    """
    first, second = _arrays(one), _arrays(other)
    count = len(first["means"])
    assert len(second["means"]) == count, f"{count} splats, {len(second['means'])} read"
    if sort:
        nearest = _nearest(first["means"], second["means"])
        assert len(np.unique(nearest)) == count, "two splats have the same nearest"
        second = {name: array[nearest] for name, array in second.items()}
    bands = min(first["harmonics"].shape[1], second["harmonics"].shape[1])
    apart = np.abs(first["harmonics"][:, :bands] - second["harmonics"][:, :bands])
    return Differences(
        means=float(np.abs(first["means"] - second["means"]).max()),
        scales=float(np.abs(np.log(first["scales"]) - np.log(second["scales"])).max()),
        rotations=_angle(first["quaternions"], second["quaternions"]),
        opacities=float(np.abs(first["opacities"] - second["opacities"]).max()),
        constant=float(apart[:, 0].max()),
        rest=float(apart[:, 1:].max(initial=0)),
    )


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    """The largest angle between the axes of two ellipsoids, which have no front and no back."""
    w, x, y, z = other.T
    same = [np.stack(turned, 1) for turned in ((w, x, y, z), (-x, w, z, -y), (-y, -z, w, x), (-z, y, -x, w))]
    chords = [np.linalg.norm(one - sign * turned, axis=1) for turned in same for sign in (1, -1)]
    return float(4 * np.arcsin(np.min(chords, 0) / 2).max())


def _arrays(splats: Gaussians | DecodedSplats) -> dict[str, np.ndarray]:
    """In double precision, quaternions of unit length."""
    arrays = {name: np.asarray(getattr(splats, name), np.float64) for name in _RECORD}
    arrays["quaternions"] /= np.linalg.norm(arrays["quaternions"], axis=1, keepdims=True)
    return arrays


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The index of the nearest of ``others`` to each point."""
    found = [np.square(block[:, None] - others).sum(-1).argmin(1) for block in np.array_split(points, 50)]
    return np.concatenate(found)
