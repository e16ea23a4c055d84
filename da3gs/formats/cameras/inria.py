"""The ``cameras.json`` of Inria's 3D Gaussian Splatting, which SuperSplat and others read; cx and cy are added."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.geometry.projection import rigid_inverse


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class InriaCameras:
    """Cameras that may each have a picture size of their own, in file order."""

    names: tuple[str, ...]
    """``img_name``."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each."""
    world_to_cam: Float[Tensor, "V 4 4"]
    """Rigid, OpenCV axes, float64."""
    intrinsics: Float[Tensor, "V 3 3"]
    """In pixels of each camera's own size, float64."""


def save_inria(cameras: InriaCameras, path: Path | str, *, overwrite: bool = False) -> None:
    """Write cameras.json; position and rotation are camera to world."""
    cam_to_world = rigid_inverse(cameras.world_to_cam.double().cpu())
    entries = []
    for index, (name, (height, width)) in enumerate(zip(cameras.names, cameras.sizes, strict=True)):
        k = cameras.intrinsics[index].double().cpu()
        entries.append(
            {
                "id": index,
                "img_name": name,
                "width": width,
                "height": height,
                "position": cam_to_world[index, :3, 3].tolist(),
                "rotation": cam_to_world[index, :3, :3].tolist(),
                "fy": k[1, 1].item(),
                "fx": k[0, 0].item(),
                "cx": k[0, 2].item(),
                "cy": k[1, 2].item(),
            }
        )
    with atomic_file(Path(path), overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(entries, indent=1, allow_nan=False), encoding="utf-8")


def load_inria(path: Path | str) -> InriaCameras:
    """Read cameras.json; a camera without cx, cy has its principal point in the middle.

    Raises:
        InputError: the file is missing, not JSON, or an entry is not a camera.
    """
    path = Path(path)
    with open_regular(path) as file:
        data = file.read(1 << 28)
    try:
        entries = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not JSON: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path.name} is not a list of Inria cameras")
    return to_inria(entries, path.name)


def to_inria(entries: Sequence[Any], name: str) -> InriaCameras:
    """Cameras of parsed entries, ``name`` being what messages call the file.

    Raises:
        InputError: an entry lacks a number, is not finite, or its rotation is none.
    """
    names, sizes, poses, intrinsics = [], [], [], []
    for index, entry in enumerate(entries):
        try:
            height, width = int(entry["height"]), int(entry["width"])
            fx, fy = float(entry["fx"]), float(entry["fy"])
            cx, cy = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
            rotation = torch.tensor(entry["rotation"], dtype=torch.float64).reshape(3, 3)
            position = torch.tensor(entry["position"], dtype=torch.float64).reshape(3, 1)
            names.append(str(entry.get("img_name", index)))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            raise InputError(f"{name}: camera {index} is malformed ({' '.join(str(error).split())[:80]})") from error
        numbers = torch.cat((rotation.flatten(), position.flatten(), torch.tensor([fx, fy, cx, cy]).double()))
        if not torch.isfinite(numbers).all() or min(fx, fy, height, width) <= 0:
            raise InputError(
                f"{name}: camera {index} holds a number that is not finite, or a size or focal length <= 0"
            )
        if (rotation.T @ rotation - torch.eye(3)).abs().max() > 1e-3 or torch.det(rotation) < 0:
            raise InputError(f"{name}: the rotation of camera {index} is not a rotation")
        sizes.append((height, width))
        bottom = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)
        poses.append(torch.cat((torch.cat((rotation, position), 1), bottom)))
        intrinsics.append(torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64))
    return InriaCameras(
        names=tuple(names),
        sizes=tuple(sizes),
        world_to_cam=rigid_inverse(torch.stack(poses)),
        intrinsics=torch.stack(intrinsics),
    )
