"""A textured, slanted plane seen by a few cameras: photos and depth by formula, nothing of ours in the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from da3gs import Cameras, Prediction, Views
from da3gs.cameras import look_at
from da3gs.geometry.rotations import orthonormalized
from da3gs.geometry.similarity import Similarity


def plane_scene(count: int = 5, height: int = 84, width: int = 112) -> tuple[Views, torch.Tensor]:
    """Views with true cameras, and their depth; the plane is z = 4 + 0.3 x, the cameras stand on an arc before it."""
    offsets = torch.linspace(-0.6, 0.6, count)
    eye = torch.stack((offsets, 0.1 * torch.cos(3 * offsets), 0.2 * offsets.abs()), -1)
    pose = look_at(eye, torch.tensor([[0.0, 0, 4]]).expand(count, 3), torch.tensor([[0.0, -1, 0]]))
    intrinsics = torch.tensor([[100.0, 0, 55], [0, 104, 43], [0, 0, 1]]).repeat(count, 1, 1)
    cameras = Cameras(world_to_cam=pose, intrinsics=intrinsics, height=height, width=width)
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    local = torch.stack(((u - 55) / 100, (v - 43) / 104, torch.ones_like(u)), -1)
    rays = torch.einsum("vij,hwj->vhwi", cameras.cam_to_world[:, :3, :3], local)
    normal = torch.tensor([-0.3, 0, 1])
    depth = (4 - (cameras.centers @ normal))[:, None, None] / (rays @ normal)
    points = cameras.centers[:, None, None] + depth[..., None] * rays
    x, y = points[..., 0], points[..., 1]
    colors = torch.stack((torch.sin(5 * x + 2 * y), torch.sin(7 * y - 3 * x), torch.sin(4 * x * y + 1)), -1)
    images = (0.5 + 0.35 * colors).movedim(-1, 1).contiguous()
    return Views(images=images, names=tuple(f"photo_{i}" for i in range(count)), cameras=cameras), depth


def write_photos(views: Views, folder: Path) -> Path:
    """The photos as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(views.names, views.images, strict=True):
        Image.fromarray((image.movedim(0, -1) * 255).round().byte().numpy()).save(folder / f"{name}.png")
    return folder


def write_transforms(views: Views, folder: Path, world: Similarity | None = None) -> Path:
    """Photos beside a transforms.json, in a world moved by a similarity."""
    write_photos(views, folder / "images")
    assert views.cameras is not None
    cameras = views.cameras.to(dtype=torch.float64)
    poses = cameras.cam_to_world
    poses[:, :3, :3] = orthonormalized(poses[:, :3, :3])  # far from the origin the last digits count
    poses = poses if world is None else world.apply_to_cameras(poses)
    frames = [
        {"file_path": f"images/{name}.png", "transform_matrix": (pose.numpy() @ np.diag([1.0, -1, -1, 1])).tolist()}
        for name, pose in zip(views.names, poses, strict=True)
    ]
    k = cameras.intrinsics[0]
    content = {
        "w": cameras.width, "h": cameras.height, "fl_x": float(k[0, 0]), "fl_y": float(k[1, 1]),
        "cx": float(k[0, 2]), "cy": float(k[1, 2]), "frames": frames,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


class TruthNetwork(nn.Module):
    """Answers with the true depth and cameras of those of its photos that it is shown, in a frame of its own."""

    def __init__(self, views: Views, depth: torch.Tensor, frame: Similarity) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)  # tells the device
        self.views, self.depth, self.frame = views, depth, frame

    def forward(self, views: Views, *, poses: str = "camera", **ignored: bool) -> Prediction:
        """Recognise the photos by their pixels."""
        assert self.views.cameras is not None
        flat = self.views.images.flatten(1)
        index = [int((flat - image.flatten()).abs().mean(-1).argmin()) for image in views.images]
        return Prediction(
            depth=self.depth[index] * self.frame.scale.float(),
            confidence=torch.full_like(self.depth[index], 2.0),
            cameras=self.views.cameras[index].transformed(self.frame),
        )
