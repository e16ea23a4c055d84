"""Mistakes, made on purpose one at a time: each must be noticed by a fixture.

The list is that of the fixtures' own description, as far as a mistake can be made in this code at all: there is no
moving of the reference view to the front and back here, for one.
"""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.cameras import Cameras
from da3gs.geometry.projection import rigid_inverse
from da3gs.network import (
    attention,
    backbone,
    camera,
    metric,
    model,
    nested,
    ray_pose,
    reference_view,
    splats,
    upstream_api,
)
from da3gs.network.config import BackboneConfig
from da3gs.network.heads import depth_ray, depth_sky, dpt
from da3gs.network.heads import gaussian as gaussian_head
from tests.parity import functions, network

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, tuple[tuple[str, ...], Callable[[Patch], None]]] = {}
"""Every mistake: the fixtures that can notice it, and what makes it."""

GIANT, ONE, FIVE = "minigiant_v2_posed", "small_v1", "small_v5_ref_saddle_balanced"
ADAPTER = "fn_gs_adapter_v2"


def mutant(name: str, *cases: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register a mistake."""

    def register(make: Callable[[Patch], None]) -> Callable[[Patch], None]:
        assert name not in MUTANTS
        MUTANTS[name] = (cases, make)
        return make

    return register


def everywhere(patch: Patch, owner: object, name: str, value: object) -> None:
    """Replace a function where it is defined and in every module that imported it by name."""
    original = getattr(owner, name)
    modules = (attention, backbone, camera, depth_ray, depth_sky, dpt, gaussian_head, metric, model, nested, ray_pose)
    for module in (owner, *modules, splats, upstream_api, reference_view, functions, network):
        if getattr(module, name, None) is original:
            patch.setattr(module, name, value)


def altered(patch: Patch, alter: Callable[[nn.Module], None]) -> None:
    """Change every network after its weights are filled in."""
    original = network.filled_model

    def changed(case: object) -> nn.Module:
        copied = copy.deepcopy(original(case))
        with torch.no_grad():
            for part in copied.modules():
                if isinstance(part, model.DepthAnything3):
                    alter(part)
        return copied

    patch.setattr(network, "filled_model", changed)


def functional(patch: Patch, module: types.ModuleType, **changes: object) -> None:
    """Replace functions of torch.nn.functional as seen from one module."""
    patch.setattr(module, "F", types.SimpleNamespace(**{**vars(F), **changes}))


def norms(part: nn.Module, eps: float, *endings: str) -> None:
    for name, module in part.backbone.named_modules():
        if isinstance(module, nn.LayerNorm) and name.endswith(endings):
            module.eps = eps


# Rotary codes


def positions_changed(patch: Patch, change: Callable[[Tensor], Tensor]) -> None:
    original = attention.rope_rotation
    everywhere(patch, attention, "rope_rotation", lambda positions, width: original(change(positions), width))


@mutant("RoPE: x and y swapped", GIANT, ONE)
def _(patch: Patch) -> None:
    positions_changed(patch, lambda p: p.flip(-1))


@mutant("RoPE: patches start at 0 like the camera token", GIANT, ONE)
def _(patch: Patch) -> None:
    positions_changed(patch, lambda p: (p - 1).clamp(min=0))


@mutant("RoPE: interleaved pairs instead of halves", GIANT, ONE)
def _(patch: Patch) -> None:
    def interleaved(tokens: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        cosine, sine = (t.unflatten(-1, (2, 2, -1)).mT.flatten(-3) for t in rotation)
        swapped = tokens.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return tokens * cosine + swapped * sine

    everywhere(patch, attention, "apply_rope", interleaved)


@mutant("RoPE: global blocks get the patch positions", GIANT, FIVE)
def _(patch: Patch) -> None:
    original, seen = backbone.rope_rotation, []

    def rotation(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        if positions.max() > 1:
            seen.append(positions)
        elif seen and len(positions) % len(seen[-1]) == 0:
            positions = seen[-1].repeat(len(positions) // len(seen[-1]), 1)
        return original(positions, width)

    patch.setattr(backbone, "rope_rotation", rotation)


# Blocks


@mutant("qk-norm eps 1e-6 instead of 1e-5", GIANT, ONE)
def _(patch: Patch) -> None:
    altered(patch, lambda part: norms(part, 1e-6, "query_norm", "key_norm"))


@mutant("block LayerNorm eps 1e-5 instead of 1e-6", GIANT, ONE)
def _(patch: Patch) -> None:
    altered(patch, lambda part: norms(part, 1e-5, "attention_norm", "feed_forward_norm"))


@mutant("final norm of the backbone eps 1e-6 instead of 1e-5", "small_v2_all")
def _(patch: Patch) -> None:
    altered(patch, lambda part: setattr(part.backbone.norm, "eps", 1e-6))


@mutant("position embedding resized without the 0.1 offset", GIANT, ONE)
def _(patch: Patch) -> None:
    def plain(x: Tensor, **options: object) -> Tensor:
        factors = [round(f * 37 - 0.1) / 37 for f in options.pop("scale_factor")]
        size = [round(f * 37) for f in factors]
        options.pop("recompute_scale_factor")
        return F.interpolate(x, size=size, **options)

    functional(patch, backbone, interpolate=plain)


@mutant("position embedding resized with anti-aliasing", GIANT, ONE)
def _(patch: Patch) -> None:
    functional(patch, backbone, interpolate=lambda x, **o: F.interpolate(x, **{**o, "antialias": True}))


@mutant("LayerScale missing in one block", GIANT, ONE)
def _(patch: Patch) -> None:
    altered(patch, lambda part: part.backbone.blocks[4].attention_scale.copy_(torch.ones(part.config.backbone.width)))


@mutant("GELU in its tanh form", ONE)
def _(patch: Patch) -> None:
    functional(patch, attention, gelu=lambda x: F.gelu(x, approximate="tanh"))


@mutant("SwiGLU: gate and value swapped", GIANT)
def _(patch: Patch) -> None:
    def swapped(self: attention.SwiGlu, x: Tensor) -> Tensor:
        value, gate = self.gate_and_value(x).chunk(2, -1)
        return self.out(F.silu(gate) * value)

    patch.setattr(attention.SwiGlu, "forward", swapped)


@mutant("local and global blocks exchanged", GIANT, FIVE)
def _(patch: Patch) -> None:
    patch.setattr(
        BackboneConfig, "is_global", lambda c, i: c.global_from is not None and i >= c.global_from and i % 2 == 0
    )


# Reference view and camera tokens


@mutant("camera tokens: reference and source exchanged", ONE, FIVE)
def _(patch: Patch) -> None:
    altered(patch, lambda part: part.backbone.camera_token.copy_(part.backbone.camera_token.flip(1).clone()))


@mutant("reference view not moved to the front", FIVE)
def _(patch: Patch) -> None:
    patch.setattr(backbone, "choose_reference", lambda tokens, strategy: torch.zeros(len(tokens), dtype=torch.int64))


@mutant("reference view: 'middle' rounds down for even counts", "fn_reference_view")
def _(patch: Patch) -> None:
    original = reference_view.choose_reference

    def lower(tokens: Tensor, strategy: str) -> Tensor:
        return original(tokens, strategy) if strategy != "middle" else original(tokens[:, :-1], "middle")

    everywhere(patch, reference_view, "choose_reference", lower)


@mutant("reference view: squares of the similarities", "fn_reference_view", FIVE)
def _(patch: Patch) -> None:
    original = reference_view._similarity
    patch.setattr(reference_view, "_similarity", lambda tokens: original(tokens).square())


@mutant("final norm on the local half instead of the global half", GIANT, ONE)
def _(patch: Patch) -> None:
    def wrong(self: backbone.Backbone, local: Tensor, current: Tensor) -> Tensor:
        return self._joined(self.norm(local[:, :, 1:]), current[:, :, 1:])

    patch.setattr(backbone.Backbone, "_feature", wrong)


@mutant("final norm on both halves", GIANT, ONE)
def _(patch: Patch) -> None:
    def wrong(self: backbone.Backbone, local: Tensor, current: Tensor) -> Tensor:
        return self._joined(self.norm(local[:, :, 1:]), self.norm(current[:, :, 1:]))

    patch.setattr(backbone.Backbone, "_feature", wrong)


@mutant("camera decoder fed with the normalised token", GIANT, ONE)
def _(patch: Patch) -> None:
    def alter(part: nn.Module) -> None:
        def normed(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            local, current = inputs[0].chunk(2, -1)
            return (torch.cat((local, part.backbone.norm(current)), -1),)

        if part.camera_decoder is not None:
            part.camera_decoder.register_forward_pre_hook(normed)

    altered(patch, alter)


# Heads


@mutant("align_corners=False in all head resizes", GIANT, ONE)
def _(patch: Patch) -> None:
    everywhere(
        patch,
        dpt,
        "resized",
        lambda maps, height, width: F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False),
    )


@mutant("head position embedding left out", GIANT, ONE)
def _(patch: Patch) -> None:
    patch.setattr(dpt, "CODE_WEIGHT", 0.0)


@mutant("head position embedding: y before x", GIANT, ONE, "fn_geometry")
def _(patch: Patch) -> None:
    original = dpt.position_code
    everywhere(patch, dpt, "position_code", lambda *a, **k: torch.cat(original(*a, **k).chunk(2, 1)[::-1], 1))


@mutant("head position embedding with the aspect ratio H/W", GIANT, ONE, "fn_geometry")
def _(patch: Patch) -> None:
    original = dpt.position_grid
    everywhere(patch, dpt, "position_grid", lambda r, c, aspect: original(r, c, 1 / aspect))


@mutant("LayerNorm before the DualDPT projections left out", GIANT, ONE)
def _(patch: Patch) -> None:
    altered(patch, lambda part: setattr(part.depth_head, "norm", nn.Identity()))


@mutant("confidence exp instead of exp + 1", GIANT, ONE)
def _(patch: Patch) -> None:
    def alter(part: nn.Module) -> None:
        part.depth_head.register_forward_hook(
            lambda m, i, dense: (
                dataclasses.replace(dense, confidence=dense.confidence - 1)
                if isinstance(dense, depth_ray.DepthRay)
                else None
            )
        )

    altered(patch, alter)


@mutant("auxiliary head reads another level", "small_v2_ray_posed")
def _(patch: Patch) -> None:
    def alter(part: nn.Module) -> None:
        part.depth_head.ray_necks[-1] = part.depth_head.ray_necks[0]

    altered(patch, alter)


@mutant("GS head: the image features are not added", GIANT)
def _(patch: Patch) -> None:
    original = gaussian_head.ImageFeatures.forward
    patch.setattr(gaussian_head.ImageFeatures, "forward", lambda self, x: 0 * original(self, x))


@mutant("GS head: images in [0, 1] instead of normalised ones", GIANT)
def _(patch: Patch) -> None:
    original = gaussian_head.ImageFeatures.forward
    mean, std = torch.tensor(model.IMAGE_MEAN)[:, None, None], torch.tensor(model.IMAGE_STD)[:, None, None]
    patch.setattr(gaussian_head.ImageFeatures, "forward", lambda self, x: original(self, x * std + mean))


# Cameras


@mutant("camera encoder gets world-to-camera instead of camera-to-world", GIANT)
def _(patch: Patch) -> None:
    original = camera.encode_cameras

    def wrong(cams: Cameras, sizes: object = None) -> Tensor:
        return original(dataclasses.replace(cams, world_to_cam=rigid_inverse(cams.world_to_cam)), sizes)

    everywhere(patch, camera, "encode_cameras", wrong)


@mutant("quaternion of the camera encoder wxyz instead of xyzw", GIANT, "fn_geometry")
def _(patch: Patch) -> None:
    original = camera.encode_cameras

    def wrong(cams: Cameras, sizes: object = None) -> Tensor:
        translation, quaternion, fov = original(cams, sizes).split((3, 4, 2), -1)
        return torch.cat((translation, quaternion.roll(1, -1), fov), -1)

    everywhere(patch, camera, "encode_cameras", wrong)


def decoded_from(patch: Patch, change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]) -> None:
    original = camera.decode_cameras

    def wrong(encoding: Tensor, height: int, width: int, sizes: object = None) -> Cameras:
        return original(torch.cat(change(*encoding.split((3, 4, 2), -1)), -1), height, width, sizes)

    everywhere(patch, camera, "decode_cameras", wrong)


@mutant("quaternion of the camera decoder wxyz instead of xyzw", ONE, "fn_geometry")
def _(patch: Patch) -> None:
    decoded_from(patch, lambda t, q, f: (t, q.roll(-1, -1), f))


@mutant("field of view: height and width exchanged in the decoder", ONE, "fn_geometry")
def _(patch: Patch) -> None:
    decoded_from(patch, lambda t, q, f: (t, q, f.flip(-1)))


@mutant("predicted pose not inverted", ONE)
def _(patch: Patch) -> None:
    original = camera.decode_cameras

    def wrong(encoding: Tensor, height: int, width: int, sizes: object = None) -> Cameras:
        cams = original(encoding, height, width, sizes)
        return dataclasses.replace(cams, world_to_cam=cams.cam_to_world)

    everywhere(patch, camera, "decode_cameras", wrong)
