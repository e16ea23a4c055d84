"""Depth by a teacher in place of depth that was measured: clean, dense, and laid onto what is known of the scene."""

from __future__ import annotations

import dataclasses

import torch

from da3gs.checkpoints import load_model
from da3gs.errors import InputError
from da3gs.network.metric import is_sky
from da3gs.network.model import DepthAnything3
from da3gs.training.config import TrainConfig
from da3gs.training.data.batch import Batch
from da3gs.training.losses.alignment import ransac_alignment

_FEWEST = 32  # known depths that an alignment needs


class Labeller:
    """Replaces the depth of batches by a monocular teacher's.

    Each view's teacher depth is laid onto the view's own by a scale and a shift (RANSAC). Where a view has too few
    known depths, an any-view network is told none; a monocular student takes the teacher's as it is.

    Raises:
        InputError: the teacher is not a monocular model.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        teacher = load_model(config.teacher, device=device)
        if not isinstance(teacher, DepthAnything3) or teacher.camera_decoder is not None:
            raise InputError(f"teacher = {config.teacher!r} is no monocular model; name one such as 'da3mono-large'")
        self._teacher = teacher
        self._alone = config.objective == "monocular"

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the teacher's depth and sky."""
        with torch.no_grad():
            outputs = self._teacher.raw(batch.images.flatten(0, 1)[:, None])
        told = outputs.depth[:, 0].reshape(batch.depth.shape)
        sky = None if outputs.sky is None else is_sky(outputs.sky[:, 0]).reshape(batch.depth.shape)
        generator = torch.Generator().manual_seed(batch.number)
        depth = batch.depth.clone()
        for scene in range(depth.shape[0]):
            for view in range(depth.shape[1]):
                known = batch.depth[scene, view] > 0
                if sky is not None:
                    known = known & ~sky[scene, view]
                if int(known.sum()) >= _FEWEST:
                    values = told[scene, view][known], batch.depth[scene, view][known]
                    scale, shift = ransac_alignment(*values, generator=generator)
                    depth[scene, view] = (scale * told[scene, view] + shift).clamp(min=0)
                elif self._alone:
                    depth[scene, view] = told[scene, view]
                else:
                    depth[scene, view] = 0
        if sky is not None:
            depth[sky] = 0
        return dataclasses.replace(batch, depth=depth, sky=batch.sky if sky is None else sky)
