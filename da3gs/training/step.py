"""Optimiser step: outputs, losses, gradients."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from da3gs.cameras import Cameras
from da3gs.errors import BackendError
from da3gs.network.model import DepthAnything3
from da3gs.training.config import TrainConfig
from da3gs.training.data.batch import Batch
from da3gs.training.losses.geometric import Truth, conditioning, scene_truth, total_loss
from da3gs.training.losses.matching import Probe
from da3gs.training.losses.photometric import splat_loss
from da3gs.training.losses.teacher import monocular_loss


class Objective(nn.Module):
    """A network with its losses: a batch in, the loss out (a module, so that torch can spread it over processes)."""

    def __init__(self, model: DepthAnything3, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        probed = config.objective == "geometry" and (config.weights.matching > 0 or config.weights.motion > 0)
        self.probe = Probe(model.backbone) if probed else None

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of all losses of a batch, and each of them alone."""
        config, model = self.config, self.model
        seen = batch.images[:, : batch.context]
        truth = scene_truth(batch.depth, batch.cameras)
        given = None
        if batch.posed and batch.context > 1 and model.config.camera is not None:
            given = conditioning(first_views(batch.cameras, batch.context), model.config.pose_unit)
        with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=config.bfloat16):
            outputs = model.raw(
                seen, given, rays=needs_rays(config), splats=config.objective == "splats", reference="first",
                mixed_heads=True,
            )  # fmt: skip
        match config.objective:
            case "geometry":
                truth = context_of(truth, batch.context)
                total, parts = total_loss(outputs, truth, config.weights)
                if self.probe is not None:
                    found = self.probe.losses(truth, model.config.backbone.patch)
                    total = total + sum(getattr(config.weights, name) * value for name, value in found.items())
                    parts = {**parts, **found}
                return total, parts
            case "monocular":
                sky = None if batch.sky is None else batch.sky[:, : batch.context]
                generator = torch.Generator().manual_seed(batch.number)
                depth, cameras = batch.depth[:, : batch.context], first_views(batch.cameras, batch.context)
                return monocular_loss(outputs, depth, cameras, config.teacher_weights, sky=sky, generator=generator)
            case "splats":
                total, parts = splat_loss(outputs, truth, batch.images, model.config, config.photo_weights)
                if config.photo_weights.geometry:
                    more, shape = total_loss(outputs, context_of(truth, batch.context), config.weights)
                    total, parts = total + config.photo_weights.geometry * more, {**parts, **shape}
                return total, parts


def needs_rays(config: TrainConfig) -> bool:
    """Whether the ray branch learns something."""
    joint = config.objective == "splats" and config.photo_weights.geometry > 0
    return config.objective == "geometry" or joint


def first_views(cameras: Cameras, count: int) -> Cameras:
    """The cameras (B, V) of the first views."""
    return dataclasses.replace(
        cameras, world_to_cam=cameras.world_to_cam[:, :count], intrinsics=cameras.intrinsics[:, :count]
    )


def context_of(truth: Truth, count: int) -> Truth:
    """The truth of the first views."""
    return Truth(depth=truth.depth[:, :count], cameras=first_views(truth.cameras, count))


def training_step(
    objective: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], clip: float
) -> dict[str, Tensor]:
    """One step of the optimiser over the mean of the batches' losses; returns the losses.

    Args:
        objective: an ``Objective``, maybe spread over processes.
        optimizer: of its parameters.
        batches: whose gradients are averaged.
        clip: largest norm of the gradient.

    Raises:
        BackendError: the loss or the gradient is not finite; the weights are as before.
    """
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        waits = isinstance(objective, DistributedDataParallel) and index < len(batches) - 1
        with objective.no_sync() if waits else contextlib.nullcontext():
            total, parts = objective(batch)
            (total / len(batches)).backward()
        for name, value in {"loss": total, **parts}.items():
            sums[name] = sums.get(name, torch.zeros(())) + value.detach().float().cpu() / len(batches)
    learning = [p for p in objective.parameters() if p.grad is not None]
    norm = whole(nn.utils.clip_grad_norm_(learning, clip))
    if not math.isfinite(float(sums["loss"])) or not math.isfinite(float(norm)):
        raise BackendError(
            f"the loss is {float(sums['loss'])} and its gradient {float(norm)}; the last checkpoint is intact: "
            "resume from it with a lower learning_rate"
        )
    optimizer.step()
    return {**sums, "gradient_norm": norm.detach().cpu()}


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over processes, as one (every process has to ask)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
