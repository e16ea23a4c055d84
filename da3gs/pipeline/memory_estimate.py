"""Peak memory of a reconstruction, predicted before it runs.

The peak is a maximum over stages. What the network and the making of splats need is found by running them on tensors
without values and counting which of them live at the same time, so that no size is written down here twice.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from da3gs._memory import is_out_of_memory, release_unused
from da3gs.cameras import Cameras
from da3gs.depth.patch_match import SIDES
from da3gs.errors import BackendError
from da3gs.geometry.harmonics import harmonic_rotations
from da3gs.network import DepthAnything3
from da3gs.network.chunks import smaller_chunks
from da3gs.network.depth_splats import splats_from_depth
from da3gs.network.splats import splats_from_channels
from da3gs.optimisation.budget import DEFAULT_BUDGET, splats_in
from da3gs.optimisation.distillation import POLISHED_PHOTOS, POLISHED_SPLATS
from da3gs.pipeline.settings import REFINED, Settings

_MIB = 2**20
_CODE = 57 * _MIB
"""What of the libraries photos and network page in beyond importing them: measured with one tiny photo."""
_RENDERER = 104 * _MIB
"""The same once the network has gone and the renderer's kernels are there."""
_COMPARER = 31 * _MIB
"""And once the kernels that compare photos are there too."""
_NOTED = 12
"""Bytes of what is noted of a splat: view, pixel, confidence, edge, sky, wanted."""
_DRAWN = 16 * 4 + 4 * 2 + 2 * 8
"""Bytes of a splat while it is drawn: its record, its box, its entries in the lists of two tiles."""
_SORTED = 52
"""Bytes of a splat while it is sorted into cells: its weight, row and key, both in order, and as much to sort by."""
_ORDERED, _CELL = 8, 32
"""Bytes while cells are merged: of a splat its place in the order, of a cell where it starts and ends."""
_POLISHED, _SHOWN, _COMPARED = 600, 63, 230
"""Bytes while merged splats are polished, measured: of a splat (its numbers, gradients and moments), of each photo's
pixels (what they are to show), and of the pixels of the one that is drawn."""
_REFINED = 950
"""Bytes of a surfel while it is refined, measured: its start, numbers, gradients, moments, and its record beside."""
_READ = 60
"""Bytes that a splat without harmonics but its colour has in the file and in the hands of ``check``."""

_MATCHER = 100 * _MIB
"""What the kernels of stereo and fusion page in, measured."""
_SURFEL, _FINE, _STEREO = 4 * 14 * 2 + 4 * 8, 3 * 3 + 12, 48
"""Bytes of a surfel while colours are sharpened (its part, the whole, what is noted, the new colour); of each fine
pixel (photos and what is to be shown); of each pixel of the stereo grid (planes twice, votes, grey values)."""
_SHOWN_BEST = 0.48
"""Share of the photos' pixels that become splats where the budget allows it, typically: what two photos show counts
once."""

_Result = TypeVar("_Result")


def within_memory(work: Callable[[], _Result], too_much: Callable[[], str]) -> _Result:
    """The result of some work; where memory runs out it is tried once more in smaller pieces.

    Args:
        work: is called once or twice.
        too_much: says, where the second attempt fails too, what was asked for and what would fit.

    Raises:
        BackendError: there is not enough memory.
    """
    for attempt in (contextlib.nullcontext, smaller_chunks):
        try:
            with attempt():
                return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        release_unused()  # what the failed attempt held has gone with the error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise BackendError(too_much())


def what_fits(network: nn.Module, settings: Settings, *, views: int, height: int, width: int) -> str:
    """One line: what was asked for, what it needs, and how many views, or what resolution, would fit."""
    asked = f"out of memory with {views} views of {width}x{height}"
    device = next(network.parameters()).device
    try:
        needed = predicted_peak(network, settings, views=views, height=height, width=width)
        one = predicted_peak(network, settings, views=1, height=height, width=width)
        half = (max(14, height // 28 * 14), max(14, width // 28 * 14))
        small = predicted_peak(network, settings, views=views, height=half[0], width=half[1])
    except (MemoryError, RuntimeError):
        return f"{asked}; use about half as many, or --resolution {max(56, max(height, width) // 2)}"
    free = _available(device)
    if free is not None and device.type == "cpu":
        free += sum(p.numel() * p.element_size() for p in network.parameters())  # are there already
    told = ""
    if free is None or free >= needed:  # it failed all the same: promise less
        free = int(0.7 * needed)
    else:
        told = f" and {free / 1e9:.1f} GB free"
    fitting = 1 + int((free - one) * (views - 1) / max(1, needed - one)) if views > 1 else 0
    pixels = half[0] * half[1] + (free - small) * (height * width - half[0] * half[1]) / max(1, needed - small)
    side = int(max(height, width) * max(0.0, pixels / (height * width)) ** 0.5 // 14 * 14)
    fits = [f"--views {fitting}"] if fitting >= 1 else []
    fits += [f"--resolution {side}"] if side >= 56 else []
    says = f"{asked}: about {needed / 1e9:.1f} GB are needed{told}"
    return f"{says}; {' or '.join(fits)} would fit" if fits else f"{says}; use a smaller model"


def _available(device: torch.device) -> int | None:
    """Bytes that this process may still take; on a GPU with what it has already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
    if sys.platform != "linux":
        return None
    import resource

    fields = dict(line.split(":")[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        free = min(free, max(0, limit - pages * resource.getpagesize()))
    return free


def predicted_peak(
    network: nn.Module,
    settings: Settings,
    *,
    views: int,
    height: int,
    width: int,
    photos: int | None = None,
    by_photos: bool = False,
    fine: tuple[int, int] | None = None,
    bundled: bool = False,
    together: int | None = None,
) -> int:
    """Bytes that a reconstruction takes at the most, above what is there after the imports.

    Args:
        network: loaded.
        settings: the flags.
        views: how many the splats are made from.
        height: of the canvas.
        width: of the canvas.
        photos: how many there are with the held-out ones.
        by_photos: the photos decide between the head's splats and those made from depth.
        fine: height and width of a photo at the detail of the splats, where stereo makes these.
        bundled: the model is the bundled one, so that splats are refined unasked.
        together: how many views go through the network at once; None: all.
    """
    seen = views if photos is None else photos
    images = 4 * 3 * seen * height * width
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    maps = 4 * 2 * views * height * width
    head = settings.splats != "depth" and any(part.splat_head is not None for part in _parts(network))
    at_once = min(seen, together or seen)
    first = _CODE + weights + images + _network_peak(network, at_once, height, width, settings, head)
    if fine is not None:
        return max(first, _RENDERER + _MATCHER + images + maps + _surfel_peak(views, fine, settings, bundled))
    mixed = head and by_photos and settings.splats == "auto" and not settings.upstream
    splats = _splat_peak(network, views, height, width, settings, head, mixed)
    return max(first, _RENDERER + _COMPARER * mixed + images + maps + splats)


def _parts(network: nn.Module) -> list[DepthAnything3]:
    return [module for module in network.modules() if isinstance(module, DepthAnything3)]


def _network_peak(network: nn.Module, views: int, height: int, width: int, settings: Settings, head: bool) -> int:
    """Bytes of what lives together while the network runs, its weights and the images left out."""
    for part in _parts(network):
        if head and part.config.splats is not None:
            # it keeps what it solves once, which must be numbers and not the stand-ins of the count
            harmonic_rotations(torch.eye(3), part.config.splats.degree)

    def run() -> Callable[[], Any]:
        """Make the inputs."""
        images = torch.empty(1, views, 3, height, width, device=next(network.parameters()).device)
        cameras = _camera(views, height, width).map(lambda t: t[None].to(images.device))

        def work() -> list[Any]:
            """Run every part of the network, with what its splats need."""
            outputs: list[Any] = []
            for part in _parts(network):
                rays = settings.poses == "rays" and part.camera_decoder is not None
                splats = head and part.splat_head is not None
                outputs.append(part.raw(images, rays=rays, splats=splats))
                if splats and part.config.splats is not None:
                    outputs.append(
                        splats_from_channels(
                            outputs[-1].splats, outputs[-1].depth, cameras, part.config.splats,
                            quaternions=part.config.quaternions, depth_along=part.config.depth_along,
                        )
                    )  # fmt: skip
            return outputs

        return work

    return peak_of(run)


def _splat_peak(
    network: nn.Module, views: int, height: int, width: int, settings: Settings, head: bool, mixed: bool
) -> int:
    """Bytes of splats, and of what is made on the way, while they are made, merged, drawn and read back."""
    bands = _bands(network) if head else 1
    pixels = height * width
    splat = 4 * (11 + 3 * bands) + _NOTED
    count, drawn = views * pixels, 4 * 15 * pixels

    def run() -> Callable[[], Any]:
        """Make the inputs."""
        image, depth = torch.empty(1, 3, height, width), torch.empty(1, height, width)
        camera = _camera(1, height, width)
        return lambda: splats_from_depth(image, depth, camera, confidence=depth)

    own = pixels * (splat + _DRAWN) + drawn
    if mixed:  # splats from depth beside the head's
        own += pixels * splat
    if mixed or not head:
        own = max(own, peak_of(run))
    held = count * (4 * (11 + 3 * bands)) if head else 0  # the head's own, before they are cleaned
    making = held + count * splat + max(own, 16 * count)
    if settings.upstream:
        return max(making, held + count * (splat + _DRAWN) + drawn)
    most = budget_of(settings, bands)
    bound = 2 * max(most, DEFAULT_BUDGET)
    merging = max(_merging(count, bound, splat), _merging(min(count, bound), most, splat))
    showing = min(count, bound) * (splat + _DRAWN) + drawn
    polishing = _polishing(min(count, bound), most, splat, views, pixels)
    return max(making, held + merging, held + showing, held + polishing)


def _surfel_peak(views: int, fine: tuple[int, int], settings: Settings, bundled: bool) -> int:
    """Bytes of what stereo has found, of the photos, and of surfels while colours are sharpened or splats refined."""
    pixels = views * fine[0] * fine[1]
    grid = round(pixels * min(1.0, SIDES[-1] / max(fine)) ** 2)
    splats = min(budget_of(settings), round(_SHOWN_BEST * pixels))
    making = splats * (_SURFEL + _DRAWN) + pixels * _FINE + grid * _STEREO
    if not settings.refines(bundled=bundled, exact=True):
        return making
    shown = round(pixels * min(1.0, REFINED / max(fine)) ** 2)
    return max(making, splats * _REFINED + shown * _SHOWN)


def budget_of(settings: Settings, bands: int = 1) -> int:
    """Budget of splats, of so many harmonics."""
    return (settings.budget or DEFAULT_BUDGET) if settings.max_mb is None else splats_in(settings.max_mb, bands)


def _bands(network: nn.Module) -> int:
    """Coefficients of a colour that the network's head says."""
    return max([part.config.splats.coefficients for part in _parts(network) if part.config.splats] or [1])


def _merging(count: int, most: int, splat: int) -> int:
    """Bytes of splats while they become fewer."""
    if count <= most:
        return 0
    return count * splat + max(count * _SORTED, count * _ORDERED + most * (splat + _CELL))


def _polishing(count: int, most: int, splat: int, views: int, pixels: int) -> int:
    """Bytes of splats while the fewer that they became learn to show the same."""
    if count <= most or most > POLISHED_SPLATS:
        return 0
    photos = min(views, POLISHED_PHOTOS)
    return count * splat + most * (splat + _POLISHED) + pixels * (photos * _SHOWN + _COMPARED)


def _camera(views: int, height: int, width: int) -> Cameras:
    intrinsics = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], dtype=torch.float32)
    world_to_cam = torch.eye(4).expand(views, 4, 4)
    return Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics.expand(views, 3, 3), height=height, width=width)


def peak_of(prepared: Callable[[], Callable[[], Any]]) -> int:
    """Bytes of the tensors that live together at the worst moment of some work, without doing it.

    Args:
        prepared: makes the inputs, which are not counted, and returns the work. It may not ask for any value.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        work = prepared()
        with _LiveTensors() as live:
            work()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations return, for as long as somebody refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._held: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from torch.multiprocessing.reductions import StorageWeakRef
        from torch.utils._pytree import tree_iter

        result = func(*args, **(kwargs or {}))
        for key in [key for key, (storage, _) in self._held.items() if storage.expired()]:
            self.now -= self._held.pop(key)[1]
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                storage = StorageWeakRef(value.untyped_storage())
                if storage.cdata not in self._held:
                    self._held[storage.cdata] = (storage, value.untyped_storage().nbytes())
                    self.now += self._held[storage.cdata][1]
        self.peak = max(self.peak, self.now)
        return result
