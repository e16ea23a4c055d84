"""Sky on a shell behind everything: seen from everywhere inside, near enough for any viewer."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.geometry.rotations import matrix_to_quaternion
from da3gs.views import Views

BEHIND = 1.5
"""The shell's radius at the least, in distances of the farthest thing seen."""
FARTHEST = 15.0
"""And at the most, since viewers have a far plane."""
FOOTPRINT = 0.5
"""Standard deviation of a splat in pixels of its own view: neighbours overlap well, at twice the size too."""
RIM = 2
"""Pixels by which the shell reaches behind what stands before it, where flyers are cleaned away."""
_OPACITY = 0.98


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shell:
    """A sphere round the cameras."""

    center: Float[Tensor, "3"]
    """The mean of the cameras' centres."""
    radius: float
    """In the scene's units."""


def sky_shell(
    depth: Float[Tensor, "V H W"], sky: Bool[Tensor, "V H W"], cameras: Cameras, masks: Bool[Tensor, "V H W"] | None
) -> Shell:
    """The shell of a scene: beyond everything that is not sky, and so far that sky seen by two cameras hardly parts.

    Two cameras a baseline b apart see a point of a shell of radius r in directions that differ by b / r; that is a
    pixel where r is b times the focal length in pixels.

    Args:
        depth: of every view.
        sky: where sky is.
        cameras: of every view.
        masks: False where a pixel is padding.
    """
    center = cameras.centers.mean(0)
    extent = (cameras.centers - center).norm(dim=-1).max().item()
    seen = ~sky & torch.isfinite(depth) & (depth > 0)
    if masks is not None:
        seen &= masks.to(seen.device)
    farthest = 0.0
    pixels = pixel_centers(*depth.shape[-2:], device=depth.device, dtype=depth.dtype)
    for view in range(len(cameras)):
        if seen[view].any():
            points = (camera_directions(cameras.intrinsics[view], pixels) * depth[view, ..., None])[seen[view]]
            world = points @ cameras.cam_to_world[view, :3, :3].T + cameras.centers[view]
            farthest = max(farthest, (world - center).norm(dim=-1).max().item())
    farthest = farthest or max(10 * extent, 1.0)
    apart = extent * cameras.intrinsics[:, (0, 1), (0, 1)].max().item()
    return Shell(center=center, radius=min(max(BEHIND * farthest, 1.2 * extent, apart), FARTHEST * farthest))


def shell_splats(photo: Float[Tensor, "3 H W"], camera: Cameras, shell: Shell, *, bands: int = 1) -> Gaussians:
    """A splat a pixel on the shell, in the order row, column: round, and as large as the pixel shows.

    Args:
        photo: sRGB in [0, 1].
        camera: a single one.
        shell: where the splats lie.
        bands: harmonics a colour; all but the first are 0.
    """
    height, width = photo.shape[-2:]
    pixels = pixel_centers(height, width, device=photo.device, dtype=photo.dtype)
    rotation, origin = camera.cam_to_world[:3, :3], camera.centers - shell.center
    rays = camera_directions(camera.intrinsics, pixels).reshape(-1, 3) @ rotation.T  # of depth 1
    along = (rays @ origin) / rays.square().sum(-1)
    inside = (shell.radius**2 - origin.square().sum()).clamp(min=0) / rays.square().sum(-1)
    depth = (along.square() + inside).sqrt() - along
    focal = camera.intrinsics[(0, 1), (0, 1)].prod().sqrt()
    harmonics = photo.new_zeros(height * width, bands, 3)
    harmonics[:, 0] = (photo.flatten(1).T - 0.5) / C0
    return Gaussians(
        means=camera.centers + rays * depth[:, None],
        scales=(FOOTPRINT * depth / focal)[:, None].expand(-1, 3).contiguous(),
        quaternions=matrix_to_quaternion(rotation).expand(height * width, 4).contiguous(),
        opacities=photo.new_full((height * width,), _OPACITY),
        harmonics=harmonics,
    )


def rim_of_sky(
    photo: Float[Tensor, "3 H W"], sky: Bool[Tensor, "H W"]
) -> tuple[Bool[Tensor, "H W"], Float[Tensor, "3 H W"]]:
    """The pixels just outside the sky, and a picture that has there the mean colour of the sky nearby."""
    weight = sky.to(photo)[None, None]
    size = 2 * RIM + 1

    def around(x: Tensor) -> Tensor:
        """The mean over a window, of what lies inside the picture."""
        return torch.nn.functional.avg_pool2d(x, size, 1, RIM, count_include_pad=False)

    share = around(weight)
    color = around(photo[None] * weight) / share.clamp(min=1e-6)
    rim = (share[0, 0] > 1e-6) & ~sky
    return rim, torch.where(rim, color[0], photo)


def laid_on_shell(
    gaussians: Gaussians, sky: Bool[Tensor, "H W"], photo: Float[Tensor, "3 H W"], camera: Cameras, shell: Shell
) -> tuple[Gaussians, Bool[Tensor, "H W"]]:
    """A view's splats with those of sky pixels replaced by the shell's, and more of the shell behind the sky's rim.

    Args:
        gaussians: a splat a pixel.
        sky: where the sky is.
        photo: sRGB.
        camera: a single one.
        shell: where the sky goes.

    Returns:
        the splats (a pixel's in its place, the rim's after them in row order), and the rim.
    """
    rim, picture = rim_of_sky(photo, sky)
    everywhere = shell_splats(picture, camera, shell, bands=gaussians.harmonics.shape[-2])
    flat = sky.flatten()
    chosen = {
        field.name: torch.where(
            flat.reshape(-1, *([1] * (getattr(gaussians, field.name).ndim - 1))),
            getattr(everywhere, field.name),
            getattr(gaussians, field.name),
        )
        for field in dataclasses.fields(Gaussians)
        if isinstance(getattr(everywhere, field.name), Tensor)
    }
    laid = dataclasses.replace(gaussians, **chosen)
    return Gaussians.concatenated([laid, everywhere.masked(rim.flatten())]), rim


def has_sky(sky: Bool[Tensor, "V H W"] | None, views: Views) -> bool:
    """Whether any photo shows sky."""
    return sky is not None and any(bool(sky[i, :h, :w].any()) for i, (h, w) in enumerate(views.sizes))
