"""Splats of all views in one list, each with the pixel that it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.network.depth_splats import depth_flyers, splats_from_depth
from da3gs.prediction import Placed
from da3gs.rendering import Backend, render
from da3gs.scene import Provenance
from da3gs.splats.sky_shell import has_sky, laid_on_shell, sky_shell
from da3gs.views import Views


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Assembled(TensorRecord):
    """Splats and what is known of each: a row a splat, in the order view, row, column of the photos without padding."""

    gaussians: Gaussians
    """The splats."""
    wanted: Bool[Tensor, "N"]
    """False where the photo's mask says no."""
    provenance: Provenance
    """View, pixel, confidence, edge and sky."""

    def masked(self, keep: Bool[Tensor, "N"]) -> Assembled:
        """Only the splats where ``keep`` is true."""
        return Assembled(
            gaussians=self.gaussians.masked(keep),
            wanted=self.wanted[keep],
            provenance=self.provenance.map(lambda t: t[keep]),
        )


def assemble(result: Placed, views: Views, *, sky: Literal["drop", "shell"] = "drop") -> Assembled:
    """The splats of all views; see ``assembled_views``."""
    return joined(list(assembled_views(result, views, sky=sky)))


def assembled_views(
    result: Placed,
    views: Views,
    *,
    sky: Literal["drop", "shell"] = "drop",
    only: Sequence[int] | None = None,
    backend: Backend = "auto",
) -> Iterator[Assembled]:
    """The splats of one view after the other: the head's where there are any, else (or where ``sharp``) from depth.

    Padding makes none.

    Args:
        result: depth, cameras and splats of a head.
        views: the photos.
        sky: ``shell`` puts the splats of sky pixels on a far sphere, and some more behind the sky's rim; their
            confidence is unknown and their edge 0. ``drop`` leaves them where they are, marked as sky.
        only: the views that are wanted, in ascending order.
    """
    shell = None
    if sky == "shell" and result.sky is not None and has_sky(result.sky, views):
        shell = sky_shell(result.depth, result.sky, result.cameras, views.masks)
    for view in range(len(views)) if only is None else only:
        h, w = views.sizes[view]
        photo = views.images[view, :, :h, :w].to(result.depth.device)
        camera = result.cameras[[view]].cropped(0, 0, h, w)[0]
        own = _view_splats(result, views, view, photo, camera, backend)
        own_sky = None if result.sky is None else result.sky[view, :h, :w]
        mask = torch.ones(h, w, dtype=torch.bool) if views.masks is None else views.masks[view, :h, :w].cpu()
        confidence = None if result.confidence is None else result.confidence[view, :h, :w]
        row, keep = _rows(view, result.depth[view, :h, :w], confidence, own_sky), mask.flatten()
        if shell is not None and own_sky is not None and own_sky.any():
            own, rim = laid_on_shell(own, own_sky, photo, camera, shell)
            row, keep = _rows_with_shell(row, rim.cpu()), torch.cat((keep, mask[rim.cpu()]))
        if result.gaussians is None:
            own = recolored(own, photo, camera, backend=backend)
        yield Assembled(gaussians=own.to("cpu"), wanted=keep, provenance=row)


def joined(parts: list[Assembled]) -> Assembled:
    """All splats of ``parts``, in order. The list is emptied on the way, so that no more than one column is there
    twice."""
    antialiased = any(part.gaussians.antialiased for part in parts)
    splats = _columns([part.gaussians for part in parts], Gaussians)
    rows = _columns([part.provenance for part in parts], Provenance)
    wanted = torch.cat([part.wanted for part in parts])
    parts.clear()
    most = max(t.shape[-2] for t in splats["harmonics"])
    splats["harmonics"] = [
        t if t.shape[-2] == most else functional.pad(t, (0, 0, 0, most - t.shape[-2])) for t in splats["harmonics"]
    ]
    return Assembled(
        gaussians=Gaussians(**{name: torch.cat(splats.pop(name)) for name in list(splats)}, antialiased=antialiased),
        wanted=wanted,
        provenance=Provenance(**{name: torch.cat(rows.pop(name)) for name in list(rows)}),
    )


def _columns(records: Sequence[TensorRecord], kind: type) -> dict[str, list[Tensor]]:
    """The tensors of each field."""
    names = [f.name for f in dataclasses.fields(kind) if isinstance(getattr(records[0], f.name), Tensor)]
    return {name: [getattr(record, name) for record in records] for name in names}


def _view_splats(
    result: Placed, views: Views, view: int, photo: Float[Tensor, "3 h w"], camera: Cameras, backend: Backend
) -> Gaussians:
    """One splat for each pixel of a photo, in row order."""
    h, w = photo.shape[-2:]
    if result.gaussians is not None:
        inside = _window(view, h, w, views.height, views.width).to(result.depth.device)
        soft = result.gaussians.map(lambda t: t[inside])
        if result.sharp is None or not (sharp := result.sharp[view, :h, :w].flatten()).any():
            return soft
        bare = dataclasses.replace(result, gaussians=None)
        made = recolored(_view_splats(bare, views, view, photo, camera, backend), photo, camera, backend=backend)
        return _replaced(soft, made, sharp)
    confidence = None if result.confidence is None else result.confidence[view : view + 1, :h, :w]
    depth = result.depth[view : view + 1, :h, :w]
    single = dataclasses.replace(
        camera, world_to_cam=camera.world_to_cam[None], intrinsics=camera.intrinsics[None]
    )  # fmt: skip
    return splats_from_depth(photo[None], depth, single, confidence=confidence)


def _replaced(soft: Gaussians, made: Gaussians, sharp: Bool[Tensor, "N"]) -> Gaussians:
    """Splats of which those marked are ``made``, whose colour is the same from all sides."""
    bands = soft.harmonics.shape[-2]
    made = dataclasses.replace(
        made, harmonics=functional.pad(made.harmonics, (0, 0, 0, bands - made.harmonics.shape[-2]))
    )
    return Gaussians(
        **{
            field.name: torch.where(
                sharp.view(-1, *[1] * (getattr(soft, field.name).ndim - 1)),
                getattr(made, field.name),
                getattr(soft, field.name),
            )
            for field in dataclasses.fields(Gaussians)
            if isinstance(getattr(soft, field.name), Tensor)
        }
    )


def _rows_with_shell(row: Provenance, rim: Bool[Tensor, "h w"]) -> Provenance:
    """What is noted of a view's splats where the sky has gone to the shell, and of those behind the sky's rim."""
    pixel = rim.flatten().nonzero().squeeze(-1).to(torch.int32)
    unknown = torch.full((len(pixel),), torch.nan, dtype=torch.float16)
    return Provenance(
        view=torch.cat((row.view, row.view[:1].expand(len(pixel)))),
        pixel=torch.cat((row.pixel, pixel)),
        confidence=torch.cat((torch.where(row.sky, torch.nan, row.confidence), unknown)),
        edge=torch.cat((torch.where(row.sky, 0, row.edge), torch.zeros_like(unknown))),
        sky=torch.cat((row.sky, torch.ones(len(pixel), dtype=torch.bool))),
    )


def recolored(
    gaussians: Gaussians,
    photo: Float[Tensor, "3 H W"],
    camera: Cameras,
    *,
    steps: int = 2,
    backend: Backend = "auto",
) -> Gaussians:
    """Splats, the first ones one a pixel, sharpened in their own view by bounded steps ``c ← c + photo − render(c)``.

    The rasteriser blurs; this is van Cittert's deconvolution with the rasteriser itself as the kernel. Two steps win
    some 8 dB at the own view; more would begin to show as halos in others.
    """
    for _ in range(steps):
        error = photo.movedim(0, -1) - render(gaussians, camera, backend=backend).color
        change = error.clamp(-_MOST_CHANGE, _MOST_CHANGE).reshape(-1, 1, 3) / C0
        change = torch.cat((change, change.new_zeros(len(gaussians) - len(change), 1, 3)))
        gaussians = dataclasses.replace(gaussians, harmonics=gaussians.harmonics + change)
    return gaussians


_MOST_CHANGE = 0.25  # of the colour range, a step: a hole behind must not be painted over by its rim


def _window(view: int, h: int, w: int, height: int, width: int) -> Tensor:
    """Positions of one photo's pixels in a list that runs over the padded canvases of all views."""
    row = torch.arange(h)[:, None] * width
    return (view * height * width + row + torch.arange(w)).flatten()


def _rows(view: int, depth: Float[Tensor, "h w"], confidence: Tensor | None, sky: Tensor | None) -> Provenance:
    count = depth.numel()
    unknown = torch.full((count,), torch.nan, dtype=torch.float16)
    return Provenance(
        view=torch.full((count,), view, dtype=torch.int16),
        pixel=torch.arange(count, dtype=torch.int32),
        confidence=unknown if confidence is None else confidence.flatten().cpu().clamp(max=60000).half(),
        edge=depth_flyers(depth).flatten().cpu().clamp(max=60000).half(),
        sky=torch.zeros(count, dtype=torch.bool) if sky is None else sky.flatten().cpu(),
    )
