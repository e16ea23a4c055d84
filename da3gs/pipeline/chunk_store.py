"""Finished chunks of a long prediction on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from da3gs import __version__
from da3gs._files import atomic_file
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.pipeline.settings import Settings
from da3gs.prediction import FocalResidual, Placed, PoseResidual
from da3gs.views import Views

_MAPS = ("depth", "confidence", "sky")
_SPLATS = ("means", "scales", "quaternions", "opacities", "harmonics")


class ChunkStore:
    """A folder with a file a chunk, named by everything that the chunk depends on: photos, cameras, weights, flags,
    version."""

    def __init__(self, folder: Path, network: nn.Module, settings: Settings) -> None:
        """The folder is made when the first chunk is saved."""
        self.folder = folder
        told = hashlib.sha256(json.dumps([__version__, settings.as_dict()], sort_keys=True).encode())
        for name, parameter in network.named_parameters():
            values = parameter.detach().flatten()[:64].float().cpu()
            told.update(name.encode() + values.numpy().tobytes())
        self._network = told.hexdigest()

    def _file(self, views: Views) -> Path:
        told = hashlib.sha256(self._network.encode() + "\n".join(views.names).encode())
        known = [views.images, views.masks, views.intrinsics]
        known += [] if views.cameras is None else [views.cameras.world_to_cam, views.cameras.intrinsics]
        for tensor in known:
            if tensor is not None:
                told.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return self.folder / f"chunk_{told.hexdigest()[:32]}.safetensors"

    def save(self, views: Views, chunk: Placed) -> None:
        """Keep the prediction of these views."""
        self.folder.mkdir(exist_ok=True)
        tensors: dict[str, Tensor] = {name: value for name in _MAPS if (value := getattr(chunk, name)) is not None}
        tensors |= {"world_to_cam": chunk.cameras.world_to_cam, "intrinsics": chunk.cameras.intrinsics}
        told: dict[str, Any] = {name: getattr(chunk, name) for name in ("metric", "poses", "metres", "resized")}
        for name in ("residual", "focal"):
            value = getattr(chunk, name)
            told[name] = None if value is None else dataclasses.asdict(value)
        if chunk.gaussians is not None:
            tensors |= {name: getattr(chunk.gaussians, name) for name in _SPLATS}
            told["antialiased"] = chunk.gaussians.antialiased
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic_file(self._file(views), overwrite=True) as temporary:
            save_file(plain, temporary, metadata={"told": json.dumps(told)})

    def load(self, views: Views) -> Placed | None:
        """The prediction of these views; None where it is not there, or its file is broken."""
        path = self._file(views)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                told = json.loads(file.metadata()["told"])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError, OSError):
            return None
        device = views.images.device
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        splats = None
        if "antialiased" in told:
            splats = Gaussians(**{name: moved[name] for name in _SPLATS}, antialiased=told.pop("antialiased"))
        residual, focal = told.pop("residual"), told.pop("focal")
        known = {name: moved[name] for name in ("world_to_cam", "intrinsics")}
        fields: dict[str, Any] = {**told, **{name: moved.get(name) for name in _MAPS}}
        return Placed(
            **fields, gaussians=splats, cameras=Cameras(**known, height=views.height, width=views.width),
            residual=None if residual is None else PoseResidual(**residual),
            focal=None if focal is None else FocalResidual(**focal),
        )  # fmt: skip
