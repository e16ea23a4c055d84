"""With true depth, splats must show held-out views: what is missing to that is never the network's fault."""

import math

import numpy as np
import torch

from da3gs import Cameras, Views
from da3gs.geometry.projection import rigid_inverse
from da3gs.prediction import Placed
from da3gs.procedural.cameras import PLAIN, color_map, depth_map, develop
from da3gs.procedural.demo_scene import demo_poses, desk_scene
from da3gs.procedural.textures import make_textures
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.splats.from_prediction import assemble
from da3gs.splats.pruning import Limits, kept_splats


def desk(height: int = 168, width: int = 224) -> tuple[Views, torch.Tensor]:
    """The desk of the demo photos, supersampled, with exact cameras and depth."""
    generator = np.random.default_rng(4)
    bank = make_textures(generator, 66, 256)
    scene = desk_scene(generator, bank)
    focal = np.full(2, width / 2 / math.tan(math.radians(58) / 2))
    poses = demo_poses(8)
    hits = [depth_map(scene, pose, focal, height, width) for pose in poses]
    colors = [
        color_map(scene, bank, pose, focal, hit, quality=PLAIN, seed=i)
        for i, (pose, hit) in enumerate(zip(poses, hits, strict=True))
    ]
    photos = develop(generator, colors, plain=True)
    depth = torch.from_numpy(np.stack([along for along, _ in hits])).float()
    intrinsics = torch.tensor([[focal[0], 0, width / 2], [0, focal[1], height / 2], [0, 0, 1]]).float().repeat(8, 1, 1)
    cameras = Cameras(
        world_to_cam=rigid_inverse(torch.from_numpy(poses)).float(), intrinsics=intrinsics, height=height, width=width
    )
    images = torch.from_numpy(photos).permute(0, 3, 1, 2).contiguous()
    return Views(images=images, names=tuple(f"desk_{i}" for i in range(8)), cameras=cameras), depth


def test_true_depth_shows_held_out_views():
    """At least 20 dB at photos that no splat was made from; most of what is lost is what no other photo saw."""
    views, depth = desk()
    context, held = [0, 1, 3, 4, 6, 7], [2, 5]
    assert views.cameras is not None
    placed = Placed(depth=depth[context], cameras=views.cameras[context], poses="given")
    everything = assemble(placed, views[context])
    keep, _ = kept_splats(
        everything.gaussians,
        wanted=everything.wanted,
        edge=everything.provenance.edge.float(),
        limits=Limits(edge=0.5),  # true depth has no flyers
    )
    kept = everything.gaussians.masked(keep)
    assert min(photo_psnr(kept, views.cameras[held], views[held])) > 20
    own = everything.gaussians.masked(everything.provenance.view == 0)
    assert photo_psnr(own, views.cameras[[0]], views[[0]])[0] > 28
