"""A picture of what a network says of held-out scenes."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from da3gs.network.model import DepthAnything3
from da3gs.training.data.batch import Batch
from da3gs.training.losses.geometric import scene_truth
from da3gs.training.losses.photometric import render_targets, splats_of, true_cameras_in_network_scale

_SCENES = 4


def validation_picture(model: DepthAnything3, batch: Batch) -> Image.Image:
    """A scene a row: photos, their true depth, the predicted depth; of splats the unseen photos and their renders."""
    truth = scene_truth(batch.depth, batch.cameras)
    photos = _eight_bits(batch.images.movedim(2, -1))
    with torch.no_grad():
        outputs = model.raw(batch.images[:, : batch.context], splats=batch.targets > 0, reference="first")
        pictures = None
        if batch.targets:
            cameras = true_cameras_in_network_scale(outputs, truth, batch.context)
            pictures = _eight_bits(render_targets(splats_of(outputs, cameras, model.config), cameras, batch.context))
    rows = []
    for scene in range(min(_SCENES, len(photos))):
        true, told = truth.depth[scene, : batch.context], outputs.depth[scene]
        known = true > 0
        low, high = (float(true[known].quantile(q)) for q in (0.02, 0.98))
        scaled = told * (true[known] / told[known].clamp(min=1e-9)).median()
        cells = [*photos[scene, : batch.context], *depth_colors(true, low, high), *depth_colors(scaled, low, high)]
        if pictures is not None:
            cells += [*photos[scene, batch.context :], *pictures[scene]]
        rows.append(np.concatenate(cells, 1))
    return Image.fromarray(np.concatenate(rows, 0))


def depth_colors(depth: Float[Tensor, "V H W"], low: float, high: float) -> UInt8[np.ndarray, "V H W 3"]:
    """Near is warm, far is cold, no depth is black."""
    share = ((high / depth.clamp(min=1e-9)).log() / max(np.log(high / max(low, 1e-9)), 1e-6)).clamp(0, 1)
    grey = (share * 255).byte().numpy()
    colors = np.stack([cv2.applyColorMap(view, cv2.COLORMAP_TURBO)[..., ::-1] for view in grey])
    return np.where((depth > 0).numpy()[..., None], colors, 0).astype(np.uint8)


def _eight_bits(images: Float[Tensor, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return (images.clamp(0, 1) * 255).round().byte().cpu().numpy()
