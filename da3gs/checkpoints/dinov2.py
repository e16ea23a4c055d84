"""DINOv2 weights of any origin for our backbone: official and Hugging Face names, .safetensors or pickled files.

What is read are the plain DINOv2 models (ViT-S, B, L and g without register tokens) and anything that carries one
under a prefix, such as depth models built on it. DINOv2 has no camera tokens and no query-key norm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from da3gs.checkpoints.convert import to_our_name
from da3gs.checkpoints.load import listed
from da3gs.checkpoints.pickled import pickled_tensors
from da3gs.checkpoints.stored import PICKLED, StoredTensors, folder_files
from da3gs.errors import CheckpointError
from da3gs.network.config import BackboneConfig

_HEAD = 64
"""Channels of an attention head in all of DINOv2's sizes; no tensor's shape tells it."""
_TABLES = ("pos_embed", "embeddings.position_embeddings")
_UNUSED = ("mask_token", "embeddings.mask_token")  # of DINOv2's own training
_REGISTERS = ("register_tokens", "embeddings.register_tokens")
_HUGGING_FACE = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(.+)", r"blocks.\1.mlp.w12.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(.+)", r"blocks.\1.mlp.w3.\2"),
    (r"encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.(.+)", r"blocks.\1.\2.\3"),
    (r"layernorm\.(.+)", r"norm.\1"),
)
_PARTS = ("query", "key", "value")
_PART = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")


def load_dinov2(path: Path | str, config: BackboneConfig) -> dict[str, Tensor]:
    """The tensors of a DINOv2 file in float32, under the names that our ``Backbone`` has for them.

    Args:
        path: a .safetensors file, a folder in the Hugging Face layout, or a pickled file (torch hub's .pth), which is
            read without running anything it holds.
        config: the backbone that they shall fill.

    Raises:
        CheckpointError: the file is broken or holds no DINOv2, or one that does not fit; all that does not is named.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"there is no backbone file {path.name!r}; give DINOv2 weights, .safetensors or .pth")
    tensors: Mapping[str, Tensor]
    if path.suffix in PICKLED:
        tensors = pickled_tensors(path)
    else:
        tensors = StoredTensors(folder_files(path) if path.is_dir() else [path])
    official = official_names(_unprefixed(tensors, path.name), path.name)
    found, unknown = {}, []
    for name, tensor in official.items():
        ours = to_our_name(f"backbone.pretrained.{name}")
        if ours is None:
            unknown.append(name)
        else:
            found[ours.removeprefix("backbone.")] = (name, tensor)
    _check(found, unknown, config, path.name)
    return {ours: tensor for ours, (_, tensor) in found.items()}


def official_names(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """DINOv2 tensors under the official names, queries, keys and values joined, in float32.

    Raises:
        CheckpointError: queries, keys and values are not all there.
    """
    found: dict[str, Tensor] = {}
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _PART.fullmatch(name):
            layer, part, kind = match.groups()
            parts.setdefault((layer, kind), {})[part] = tensor.float()
            continue
        new = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)  # blocks saved in chunks for FSDP
        for pattern, target in _HUGGING_FACE:
            if re.fullmatch(pattern, name):
                new = re.sub(pattern, target, name)
                break
        found[new] = tensor.float()
    for (layer, kind), three in parts.items():
        if missing := [part for part in _PARTS if part not in three]:
            raise CheckpointError(f"{source} lacks the {missing[0]} {kind} of layer {layer}; download it again")
        found[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat([three[part] for part in _PARTS])
    return found


def _unprefixed(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The backbone's tensors without what a larger model puts before their names."""
    prefixes = sorted(
        {name[: -len(table)] for name in tensors for table in _TABLES if name == table or name.endswith(f".{table}")},
        key=len,
    )
    if not prefixes:
        raise CheckpointError(
            f"{source} holds no DINOv2: neither {' nor '.join(_TABLES)} is in it; give dinov2_vits14_pretrain.pth or "
            "the model.safetensors of facebook/dinov2-small, or a larger one"
        )
    if len(prefixes) > 1:
        raise CheckpointError(f"{source} holds several backbones ({', '.join(prefixes)}); give a file with one")
    prefix = prefixes[0]
    inside = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
    if any(name in inside for name in _REGISTERS):
        raise CheckpointError(f"{source} has register tokens, which this network lacks; give the weights without them")
    return {name: tensor for name, tensor in inside.items() if name not in _UNUSED}


def _expected(config: BackboneConfig) -> dict[str, tuple[int, ...]]:
    """Our names and shapes of what DINOv2 has."""
    from da3gs.network.backbone import Backbone

    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Backbone(config).state_dict().items()}
    ours = re.compile(r"camera_token|.*\.(query|key)_norm\..*")
    return {name: shape for name, shape in shapes.items() if not ours.fullmatch(name)}


def _check(found: Mapping[str, tuple[str, Tensor]], unknown: list[str], config: BackboneConfig, source: str) -> None:
    """Refuse what does not fit, all of it in one message."""
    expected = _expected(config)
    wrong = []
    depth = 1 + max((int(name.split(".")[1]) for name in found if name.startswith("blocks.")), default=-1)
    width = found["position_table"][1].shape[-1]
    if (width, depth) != (config.width, config.depth):
        wrong.append(f"{depth} blocks of width {width}, the network has {config.depth} of width {config.width}")
    else:
        if width != config.heads * _HEAD:
            wrong.append(f"heads: DINOv2 has {width // _HEAD} at width {width}, the network {config.heads}")
        misshapen = [
            f"{name} {list(tensor.shape)} instead of {list(expected[ours])}"
            for ours, (name, tensor) in found.items()
            if ours in expected and tuple(tensor.shape) != expected[ours]
        ]
        missing = [name for name in expected if name not in found]
        broken = [name for name, tensor in found.values() if not bool(tensor.isfinite().all())]
        unknown = unknown + [name for ours, (name, _) in found.items() if ours not in expected]
        kinds = (("missing", missing), ("unknown", unknown), ("misshapen", misshapen), ("not finite", broken))
        wrong += [f"{kind}: {listed(names)}" for kind, names in kinds if names]
    if wrong:
        raise CheckpointError(
            f"{source} does not fit the network's backbone; {'; '.join(wrong)}; choose the --model of its size"
        )
