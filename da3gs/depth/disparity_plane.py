"""Depth laid on sparse points where a scale and a shift are not enough: inverse depth bent by a plane."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.projection import project

_LEAST = 24  # points, and half as many inliers, that four numbers need
_SAMPLES = 1024
_BOUND = 0.03  # relative error of an inlier
_ROUNDS = 8
_NEAREST, _FARTHEST = 0.3, 4.0  # times the nearest tenth and the farthest tenth of the points: what may come out


def surface_depth(
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    points: Float[Tensor, "N 3"],
    *,
    visible: Bool[Tensor, "V N"],
    masks: Bool[Tensor, "V H W"] | None = None,
    seed: int = 0,
) -> tuple[Float[Tensor, "V H W"], list[int]]:
    """Each view's depth as ``1 / z = e / d + a u + b v + c``, fitted by RANSAC to the points that the view sees.

    A plane in space is a plane in inverse depth, so tables, floors and walls come out right whatever the network says
    (then ``e`` is near 0), and where it is right but for its own scale, shift and tilt, it still decides.

    Args:
        depth: positive.
        cameras: exact, in the points' world.
        points: world coordinates; half of them may be wrong.
        visible: which views see which points.
        masks: False where a pixel says nothing.
        seed: of the samples.

    Returns:
        The depth, and how many points it was fitted to in each view; 0: too few, and the depth is as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    fitted = [
        _fitted(depth[v], cameras[v], points[visible[v]], None if masks is None else masks[v], generator)
        for v in range(len(depth))
    ]
    return torch.stack([own for own, _ in fitted]), [count for _, count in fitted]


def _fitted(
    depth: Float[Tensor, "H W"],
    camera: Cameras,
    points: Float[Tensor, "n 3"],
    mask: Bool[Tensor, "H W"] | None,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "H W"], int]:
    height, width = depth.shape
    network = depth.detach().double().cpu()
    pixels, far = project(points.double().cpu(), camera.intrinsics.double().cpu(), camera.world_to_cam.double().cpu())
    inside = (far > 0) & (pixels >= 0).all(-1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    column, row = pixels[inside].floor().long().unbind(-1)
    pixels, far, near = pixels[inside], far[inside], network[row, column]
    usable = torch.isfinite(near) & (near > 0)
    if mask is not None:
        usable &= mask.cpu()[row, column]
    pixels, far, near = pixels[usable], far[usable], near[usable]
    if len(far) < _LEAST:
        return depth, 0
    typical = near.median()

    def terms(near: Tensor, column: Tensor, row: Tensor) -> Tensor:
        """What the disparity is fitted with: a share of its own, a slope, a constant."""
        return torch.stack((typical / near, column / width - 0.5, row / height - 0.5, torch.ones_like(near)), -1)

    table = terms(near, pixels[:, 0], pixels[:, 1])
    best, count = _consensus(table, far, generator)
    if best is None or count < _LEAST // 2:
        return depth, 0
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    inverse = terms(network.clamp(min=1e-12), columns.double(), rows.double()) @ best
    ordered = far.sort().values
    low = _NEAREST * ordered[len(ordered) // 10]
    high = _FARTHEST * ordered[-1 - len(ordered) // 10]
    return (1 / inverse.clamp(min=1 / high, max=1 / low)).to(depth), count


def _consensus(
    table: Float[Tensor, "n 4"], far: Float[Tensor, "n"], generator: torch.Generator
) -> tuple[Float[Tensor, "4"] | None, int]:
    """The numbers that most points agree with, by samples of 4 and rounds of least squares, and how many agree.

    Samples of 3 leave the network's depth out; what would turn it inside out is no answer.
    """
    guesses = torch.cat((_guesses(table, far, generator), _guesses(table[:, 1:], far, generator)))
    guesses = guesses[guesses[:, 0] >= 0]
    if not len(guesses):
        return None, 0
    off = (guesses @ table.T * far - 1).abs().clamp(max=_BOUND).sum(-1)
    best = guesses[off.argmin()]
    for _ in range(_ROUNDS):
        weights = (_agrees(table, far, best) * far)[:, None]
        if int((weights > 0).sum()) < _LEAST // 2:
            return None, 0
        best = _least_squares(table * weights, weights / far[:, None])
        if best[0] < 0:
            best = torch.cat((best.new_zeros(1), _least_squares(table[:, 1:] * weights, weights / far[:, None])))
    return best, int(_agrees(table, far, best).sum())


def _guesses(table: Float[Tensor, "n k"], far: Float[Tensor, "n"], generator: torch.Generator) -> Float[Tensor, "m 4"]:
    """Exact answers of random samples; the first of four numbers is 0 where the table lacks its column."""
    terms = table.shape[1]
    pick = torch.randint(len(far), (_SAMPLES, terms), generator=generator)
    answers, failed = torch.linalg.solve_ex(table[pick], (1 / far)[pick][..., None])
    answers = answers[..., 0][failed == 0]
    answers = answers[torch.isfinite(answers).all(-1)]
    return torch.nn.functional.pad(answers, (4 - terms, 0))


def _agrees(table: Float[Tensor, "n 4"], far: Float[Tensor, "n"], numbers: Float[Tensor, "4"]) -> Bool[Tensor, "n"]:
    return ((table @ numbers) * far - 1).abs() < _BOUND


def _least_squares(table: Float[Tensor, "n k"], wanted: Float[Tensor, "n 1"]) -> Float[Tensor, "k"]:
    return torch.linalg.lstsq(table, wanted, driver="gelsd").solution[:, 0]
