"""Adam on the parameters of Gaussians (and cameras), one photo a step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.optimisation.densification import error_shares, halves, most_erring
from da3gs.optimisation.photometric_loss import PhotometricLoss
from da3gs.rendering import Backend, render
from da3gs.splats.merging import footprints
from da3gs.views import Views

RATES = {"means": 0.4, "scales": 0.02, "quaternions": 0.01, "opacities": 0.05, "harmonics": 0.02}
"""Step sizes: means in pixels (of the photo that shows the splat largest), log scales, unit quaternions, opacity
logits, harmonics."""
CAMERA_RATE = 5e-4
"""Radians, and lengths as a share of the scene's distance, a step."""
EXPOSURE_RATE = 2e-3
"""Share of the brightness a step."""
_LAST = 0.1
"""What is left of the step sizes at the end."""
_HIGHER_BANDS = 0.05
"""Step size of view-dependent colour as a share of that of colour: few photos tell little of it."""
_FAINT = 0.005
_GROWTH = (0.15, 0.3, 0.45, 0.6)
"""Shares of the way at which dead splats go and erring ones are split."""
_GROWN = 0.05
"""Share of the splats that are split each time."""
_BETWEEN = 12
"""Steps between two such times at least: Adam has to know the new splats before there are more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """When to stop: after so many steps, or after so many seconds, whichever comes first."""

    steps: int | None = None
    """Steps, at least 1."""
    seconds: float | None = None
    """Wall-clock seconds."""

    def share(self, step: int, elapsed: float) -> float:
        """Share of the way that is gone, 1 at the end."""
        by_steps = 0.0 if self.steps is None else step / max(self.steps, 1)
        by_time = 0.0 if self.seconds is None else elapsed / max(self.seconds, 1e-9)
        return max(by_steps, by_time)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: what is optimised beside the splats, and how strongly the start is held on to."""

    cameras: bool = False
    """Move the cameras too, all but the first."""
    exposure: bool = True
    """Give every photo a gain and an offset a colour channel while optimising; renders have none."""
    faint: float = 0.01
    """Weight of the mean opacity."""
    large: float = 0.01
    """Weight of the mean growth in log size."""
    anchor: float = 0.01
    """Weight of the mean squared move in pixels."""
    rates: dict[str, float] = dataclasses.field(default_factory=lambda: dict(RATES))
    """Step sizes."""
    backgrounds: tuple[float, ...] = (0.0,)
    """Grey values behind the splats, of the photos in turn: with more than one, colour does not pass for opacity."""
    most: int = 0
    """Splats may be split up to this count."""
    seed: int = 0
    """Of the order of the photos."""
    antialias: bool | None = None
    """Draw splats smaller than a pixel fainter rather than larger; None: where they are made for it."""
    backend: Backend = "auto"
    """Draws the splats."""


class SplatOptimizer:
    """Gradient descent on splats (and cameras); ``run`` goes on, ``splats`` and ``cameras`` are its present values.

    It computes on the device that the splats lie on.
    """

    def __init__(self, gaussians: Gaussians, cameras: Cameras, views: Views, options: Options) -> None:
        """Take copies of everything, so that the caller's records never change."""
        self._options = options
        self._device = device = gaussians.device
        self._start = gaussians.map(lambda t: t.detach().float().clone())
        self._cameras = cameras.map(lambda t: t.detach().to(device).clone())
        self._size = footprints(self._start.means, self._cameras)[:, None]
        self._pivot = float((self._start.means - self._cameras.centers.mean(0)).norm(dim=-1).median())
        self._losses = [
            PhotometricLoss.of(
                image.movedim(0, -1).to(device), None if views.masks is None else views.masks[i].to(device)
            )
            for i, image in enumerate(views.images)
        ]
        start, count = self._start, len(views)
        self._values = {
            "means": torch.zeros_like(start.means),
            "scales": start.scales.clamp(min=1e-12).log(),
            "quaternions": torch.nn.functional.normalize(start.quaternions, dim=-1),
            "opacities": torch.logit(start.opacities.clamp(_FAINT, 0.99)),
            "harmonics": start.harmonics[:, :1].clone(),
        }
        rates = dict(options.rates)
        if start.degree:
            self._values["bands"] = start.harmonics[:, 1:].clone()
            rates["bands"] = rates["harmonics"] * _HIGHER_BANDS
        if options.exposure and count > 1:
            self._values["exposure"], rates["exposure"] = torch.zeros(count, 2, 3, device=device), EXPOSURE_RATE
        if options.cameras and count > 1:
            self._values["cameras"], rates["cameras"] = torch.zeros(count, 6, device=device), CAMERA_RATE
        for value in self._values.values():
            value.requires_grad_(True)
        self._rates = rates
        groups = [{"params": [value], "lr": rates[name], "name": name} for name, value in self._values.items()]
        self._adam = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self._generator = torch.Generator().manual_seed(options.seed)
        self._order: list[int] = []
        self._log_scales = self._values["scales"].detach().clone()
        self.steps = 0
        """Steps taken."""
        self.origins = torch.arange(len(start), device=device)
        """Which splat of the start each one comes from."""

    def splats(self) -> Gaussians:
        """The splats as they are now; differentiable."""
        value = self._values
        harmonics = value["harmonics"]
        return Gaussians(
            means=self._start.means + self._size * value["means"],
            scales=value["scales"].exp(),
            quaternions=value["quaternions"],
            opacities=torch.sigmoid(value["opacities"]),
            harmonics=torch.cat((harmonics, value["bands"]), -2) if "bands" in value else harmonics,
            antialiased=self._start.antialiased,
        )

    def cameras(self) -> Cameras:
        """The cameras as they are now; differentiable. The first one never moves."""
        if "cameras" not in self._values:
            return self._cameras
        value, dtype = self._values["cameras"], self._cameras.world_to_cam.dtype
        moves = torch.cat((torch.zeros_like(value[:1]), value[1:])).to(dtype)
        moved = _rigid(moves[:, :3], moves[:, 3:] * self._pivot) @ self._cameras.world_to_cam
        return dataclasses.replace(self._cameras, world_to_cam=moved)

    def run(
        self,
        limit: Limit,
        on_step: Callable[[int, float], bool | None] = lambda step, share: None,
        *,
        decay: bool = True,
    ) -> None:
        """Step until the limit; ``on_step`` gets the step and the share of the way, and True from it ends the run.

        With ``decay`` the step sizes fall on the way and splats are split; without, a run can be continued.
        """
        begin, first, stations = time.perf_counter(), self.steps, list(_GROWTH) if decay else []
        grown = first
        while (share := limit.share(self.steps - first, time.perf_counter() - begin)) < 1:
            if stations and share >= stations[0]:
                stations = [station for station in stations if station > share]
                if self.steps - grown >= _BETWEEN:
                    self.densify_and_prune()
                    grown = self.steps
            for group in self._adam.param_groups:
                group["lr"] = self._rates[group["name"]] * (_LAST**share if decay else 1.0)
            self._step()
            self.steps += 1
            if on_step(self.steps - first, limit.share(self.steps - first, time.perf_counter() - begin)):
                return

    def densify_and_prune(self) -> None:
        """Remove splats that have faded, and split those with the largest share of the error, within the count."""
        splats = self.splats().detach()
        alive = splats.opacities >= _FAINT
        if not alive.any():
            return
        room = min(self._options.most - int(alive.sum()), int(_GROWN * len(splats)))
        split = torch.zeros(0, dtype=torch.int64, device=self._device)
        if room > 0:
            antialias, backend = self._options.antialias, self._options.backend
            cameras = self.cameras().detach()
            shares = error_shares(splats, cameras, self._losses, antialias=antialias, backend=backend)
            split = most_erring(torch.where(alive, shares, 0), room)
        if alive.all() and not len(split):
            return
        whole = splats.masked(split)
        way, scales, opacities = halves(whole.scales, whole.quaternions, whole.opacities)
        kept = torch.nonzero(alive).squeeze(-1)
        self._reindex(torch.cat((kept, split)), fresh=len(split))
        place = torch.searchsorted(kept, split)
        with torch.no_grad():
            move = way / self._size[place]
            fresh = torch.arange(len(kept), len(kept) + len(split), device=self._device)
            for rows, sign in ((place, 1), (fresh, -1)):
                self._values["means"][rows] += sign * move
                self._values["scales"][rows] = scales
                self._values["opacities"][rows] = torch.logit(opacities)
                self._log_scales[rows] = scales

    def _reindex(self, rows: Int[Tensor, "M"], *, fresh: int) -> None:
        """The splats at these rows, Adam's memory of them too; the last ``fresh`` ones have no momentum yet."""
        for group in self._adam.param_groups:
            name, old = group["name"], group["params"][0]
            if name in ("exposure", "cameras"):
                continue
            state = self._adam.state.pop(old, {})
            value = old.detach()[rows].clone().requires_grad_(True)
            for key, memory in state.items():
                if memory.shape == old.shape:
                    state[key] = memory[rows].clone()
            if fresh and "exp_avg" in state:
                state["exp_avg"][-fresh:] = 0
            group["params"], self._values[name] = [value], value
            if state:
                self._adam.state[value] = state
        self._start = self._start.masked(rows)
        self._size, self._log_scales = self._size[rows], self._log_scales[rows]
        self.origins = self.origins[rows]

    def _step(self) -> None:
        if not self._order:
            self._order = torch.randperm(len(self._losses), generator=self._generator).tolist()
        view = self._order.pop()
        with torch.inference_mode(False), torch.enable_grad():
            self._adam.zero_grad()
            splats = self.splats()
            grey = self._options.backgrounds[view % len(self._options.backgrounds)]
            antialias, backend = self._options.antialias, self._options.backend
            camera, behind = self.cameras()[view], (grey, grey, grey)
            color = render(splats, camera, background=behind, antialias=antialias, backend=backend).color
            if "exposure" in self._values:
                gain, offset = self._values["exposure"][view]
                color = color * gain.exp() + offset
            with torch.no_grad():
                _, gradient = self._losses[view](color.detach())
            penalty = self._regularisation(splats)
            torch.autograd.backward([color, penalty], [gradient, torch.ones_like(penalty)])
            self._adam.step()
        if "exposure" in self._values:  # what all photos share belongs to the splats
            with torch.no_grad():
                self._values["exposure"] -= self._values["exposure"].mean(0, keepdim=True)

    def _regularisation(self, splats: Gaussians) -> Float[Tensor, ""]:
        """The penalty that keeps splats small, faint where they need not be opaque, and near their start."""
        options, value = self._options, self._values
        total = options.faint * splats.opacities.mean()
        total = total + options.large * (value["scales"] - self._log_scales).clamp(min=0).mean()
        total = total + options.anchor * value["means"].square().mean()
        if "exposure" in value:
            total = total + 0.1 * value["exposure"].square().mean()
        return total


def _rigid(turn: Float[Tensor, "V 3"], shift: Float[Tensor, "V 3"]) -> Float[Tensor, "V 4 4"]:
    """Rotations by small rotation vectors, and shifts."""
    zero = torch.zeros_like(turn[:, 0])
    x, y, z = turn.unbind(-1)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    top = torch.cat((torch.linalg.matrix_exp(skew), shift[..., None]), -1)
    bottom = top.new_tensor([0.0, 0, 0, 1]).expand(len(top), 1, 4)
    return torch.cat((top, bottom), -2)
