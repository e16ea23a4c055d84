"""Values on the way through a network, under their official names: where a case that fails begins to differ."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from da3gs.checkpoints.convert import to_our_name
from da3gs.network import attention
from da3gs.network.model import DepthAnything3
from da3gs.network.nested import NestedDepthAnything3
from da3gs.network.raw import RawOutputs
from da3gs.network.reference_view import reordered
from tests.parity.cases import Case
from tests.parity.network import case_cameras, case_images, filled_model

_INNER = ("weight", "0.weight", "out_conv.weight")
"""What completes the official name of a module to one of its parameters."""


def intermediate_values(case: Case) -> dict[str, Any]:
    """Values of a ``network`` case under their names in its file; the any-view branch of a nested network."""
    model = filled_model(case)
    network = model.geometry if isinstance(model, NestedDepthAnything3) else model
    images = case_images(case)
    given = None
    if "in/extrinsics" in case:
        given = case_cameras(case.tensor("extrinsics"), case.tensor("intrinsics"), images)
    wanted = _modules(case, network)
    seen: dict[str, list[Tensor]] = {}
    hooks = [  # copies: what follows may go on in place
        module.register_forward_hook(lambda m, i, out, name=name: seen.setdefault(name, []).append(copy.deepcopy(out)))
        for name, module in wanted.items()
    ]
    hooks.append(
        network.backbone.blocks[0].register_forward_pre_hook(
            lambda m, i: seen.setdefault("tokens", []).append(i[0].clone())
        )
    )
    original = attention.apply_rope

    def turned(tokens: Tensor, rotation: attention.Rotation) -> Tensor:
        result = original(tokens, rotation)
        number = len(seen.get("rope", []))
        seen.setdefault("rope", []).append(result)
        seen[f"rope_in#{number}"], seen[f"rope#{number}"] = [tokens], [result]
        return result

    attention.apply_rope = turned
    try:
        with torch.no_grad():
            raw = network.raw(
                images,
                given,
                rays=network.camera_decoder is not None,
                splats=network.splat_head is not None,
                reference=case.options.get("ref_view_strategy", "saddle_balanced"),
            )
    finally:
        attention.apply_rope = original
        seen.pop("rope", None)
        for hook in hooks:
            hook.remove()
    return _named(case, seen, raw, images.shape[0], images.shape[1])


def _modules(case: Case, network: DepthAnything3) -> dict[str, nn.Module]:
    """Which of our modules give which of the file's values."""
    found: dict[str, nn.Module] = {"patch_embed": network.backbone.patch_embed, "features": network.backbone}
    if network.camera_encoder is not None:
        found["cam_token"] = network.camera_encoder
    if network.splat_head is not None:
        found["gs_head.images_merger"] = network.splat_head.image_features
    found |= {f"block_{i:02}": block for i, block in enumerate(network.backbone.blocks)}
    for name in case.names("mid"):
        for inner in _INNER:
            ours = to_our_name(f"{name}.{inner}") if name.startswith(("head.", "gs_head.")) else None
            if ours is not None:
                path = ours.removesuffix(".weight")
                if inner != "weight":
                    path = path.rpartition(".")[0]
                found[name] = network.get_submodule(path)
                break
    return found


def _named(case: Case, seen: dict[str, list], raw: RawOutputs, batch: int, views: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, parts in seen.items():
        if name == "features":
            for level, groups in enumerate(parts[0].features):
                found[f"feat_{level}/patches"] = groups[0]
            found[f"feat_{len(parts[0].features) - 1}/token"] = parts[0].camera_tokens
            continue
        value = torch.cat(parts)
        if name == "patch_embed":
            value = value.flatten(2).mT
        if name == "tokens":
            value = value.unflatten(0, (batch, views))
        if name.startswith("block_") and raw.reference is not None and _moved(case, name):
            per_view = value.reshape(batch, views, -1, value.shape[-1])
            value = reordered(per_view, raw.reference).reshape(value.shape)
        found[name] = value
    found |= {"ref_index": raw.reference, "pose_enc": raw.pose_encoding, "head/depth": raw.depth}
    found |= {"head/depth_conf": raw.confidence, "head/ray": raw.rays, "head/ray_conf": raw.ray_confidence}
    found["head/sky"] = raw.sky
    if raw.splats is not None:
        found |= {"gs_head/raw_gs": raw.splats[..., :-1], "gs_head/raw_gs_conf": raw.splats[..., -1].sigmoid()}
    return {name: value for name, value in found.items() if value is not None}


def _moved(case: Case, name: str) -> bool:
    """Whether the official code has the reference view in front at this block."""
    first = filled_model(case).config
    backbone = (first.geometry if hasattr(first, "geometry") else first).backbone
    return backbone.global_from is not None and int(name.removeprefix("block_")) >= backbone.global_from - 1
