"""The sizes of every model: frozen dataclasses, where a size that follows from another is a property."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from da3gs.errors import InputError

IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of the images that the backbone was made for (ImageNet), per colour."""
IMAGE_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""
FeedForwardKind = Literal["mlp", "swiglu"]
"""The two kinds of feed-forward layers: GELU between two linear maps, or a gated SiLU."""
ReferenceStrategy = Literal["first", "middle", "saddle_balanced", "saddle_sim_range"]
"""How the view that anchors the world frame is chosen."""
PoseUnit = Literal["median", "mean"]
"""The unit of given poses: the lower median of all distances from the first camera, its own zero counted, at least 0.1
(official weights); or the mean distance of the other cameras, which fits any unit of the caller's."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig:
    """A DINOv2 vision transformer whose later blocks look at all views in turn with looking at each."""

    width: int
    """Channels of a token."""
    depth: int
    """Number of blocks."""
    heads: int
    """Attention heads."""
    feed_forward: FeedForwardKind = "mlp"
    """Kind of the feed-forward layers."""
    out_layers: tuple[int, int, int, int]
    """Blocks whose outputs go to the heads."""
    global_from: int | None
    """The block before which camera tokens are written, and from which odd blocks attend across views; None: never."""
    qk_norm_from: int | None
    """The first block that normalises queries and keys; None: never."""
    rope_from: int | None
    """The first block with rotary position codes; None: never."""
    concatenate: bool
    """Whether a feature is the last local state beside the current one (twice the width), or the current one alone."""
    patch: int = 14
    """Side of a patch in pixels."""
    table: int = 37
    """Side of the square table of position embeddings."""

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def feed_forward_width(self) -> int:
        """Hidden channels of the feed-forward layers: 4 times the width; gated, two thirds of that (in eights)."""
        hidden = 4 * self.width
        return hidden if self.feed_forward == "mlp" else (int(hidden * 2 / 3) + 7) // 8 * 8

    @property
    def feature_width(self) -> int:
        """Channels of a feature that the heads get."""
        return self.width * (2 if self.concatenate else 1)

    def has_qk_norm(self, block: int) -> bool:
        """Whether this block normalises queries and keys."""
        return self.qk_norm_from is not None and block >= self.qk_norm_from

    def has_rope(self, block: int) -> bool:
        """Whether this block has rotary position codes."""
        return self.rope_from is not None and block >= self.rope_from

    def is_global(self, block: int) -> bool:
        """Whether this block attends across views: index parity decides, not its distance from ``global_from``."""
        return self.global_from is not None and block >= self.global_from and block % 2 == 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PyramidConfig:
    """The dense prediction trunk that all dense heads share in form (DPT, Ranftl et al. 2021)."""

    features: int
    """Channels of the fused maps."""
    channels: tuple[int, int, int, int]
    """Channels of the four levels before fusion, finest first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """The depth head."""

    kind: Literal["depth_ray", "depth_sky"]
    """Depth, confidence and rays (any-view models), or depth and sky (monocular ones)."""
    pyramid: PyramidConfig
    """The dense trunk."""
    ray_levels: int = 4
    """Output stacks of the ray branch. Only the last one is used; the official weights carry three dead ones."""
    shared: bool = True
    """Whether depth and rays are read from one pyramid, or each from its own (an ablation of the paper's)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CameraConfig:
    """The camera encoder and decoder."""

    encoder_depth: int = 4
    """Blocks of the encoder."""
    encoder_heads: int = 16
    """Attention heads of the encoder; has to divide the width of the backbone."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SplatConfig:
    """The Gaussian head and how its channels become splats."""

    pyramid: PyramidConfig
    """The dense trunk."""
    degree: int = 2
    """Degree of the spherical harmonics."""
    scale_min: float = 1e-5
    """Smallest scale, before depth and footprint."""
    scale_max: float = 30.0
    """Largest scale, before depth and footprint."""
    photo_color: bool = False
    """Whether colours are what is added to the pixel's own (small models), or said outright (official weights)."""

    @property
    def coefficients(self) -> int:
        """Harmonics of one colour."""
        return (self.degree + 1) ** 2

    @property
    def channels(self) -> int:
        """Output channels: offset in x and y, 3 scales, quaternion, harmonics, depth offset, density."""
        return 2 + 3 + 4 + 3 * self.coefficients + 1 + 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One network."""

    name: str
    """The model's name."""
    backbone: BackboneConfig
    """The transformer."""
    head: HeadConfig
    """The depth head."""
    camera: CameraConfig | None
    """Camera encoder and decoder; None for monocular models."""
    splats: SplatConfig | None = None
    """The Gaussian head, where there is one."""
    quaternions: Literal["proper", "upstream"] = "upstream"
    """How the splat head's rotations meet the camera's: composed as geometry says, or as official weights expect."""
    depth_along: Literal["z", "ray"] = "ray"
    """What the splat head's depth is measured along: the camera's axis, or the pixel's unit ray (official weights)."""
    pose_unit: PoseUnit = "median"
    """What distance from the first camera given poses are divided by (``normalized_cameras``)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NestedConfig:
    """An any-view network beside a metric one that gives it its scale and its sky."""

    name: str
    """The model's name."""
    geometry: ModelConfig
    """The any-view branch."""
    metric: ModelConfig
    """The monocular metric branch."""


def _any_view(
    name: str,
    width: int,
    depth: int,
    heads: int,
    out_layers: tuple[int, int, int, int],
    first: int,
    pyramid: PyramidConfig,
    *,
    feed_forward: FeedForwardKind = "mlp",
    splats: bool = False,
) -> ModelConfig:
    backbone = BackboneConfig(
        width=width,
        depth=depth,
        heads=heads,
        feed_forward=feed_forward,
        out_layers=out_layers,
        global_from=first,
        qk_norm_from=first,
        rope_from=first,
        concatenate=True,
    )
    return ModelConfig(
        name=name,
        backbone=backbone,
        head=HeadConfig(kind="depth_ray", pyramid=pyramid),
        camera=CameraConfig(),
        splats=SplatConfig(pyramid=pyramid) if splats else None,
    )


def _monocular(name: str) -> ModelConfig:
    backbone = BackboneConfig(
        width=1024,
        depth=24,
        heads=16,
        out_layers=(4, 11, 17, 23),
        global_from=None,
        qk_norm_from=None,
        rope_from=None,
        concatenate=False,
    )
    return ModelConfig(name=name, backbone=backbone, head=HeadConfig(kind="depth_sky", pyramid=_LARGE), camera=None)


def _nano() -> ModelConfig:
    pyramid = PyramidConfig(features=32, channels=(32, 48, 96, 96))
    base = _any_view("da3gs-nano", 192, 12, 3, (5, 7, 9, 11), 4, pyramid)
    head = HeadConfig(kind="depth_ray", pyramid=pyramid, ray_levels=1)
    backbone = dataclasses.replace(base.backbone, table=16)  # small, so that every grid size trains all of it
    return dataclasses.replace(
        base, backbone=backbone, head=head, quaternions="proper", depth_along="z", pose_unit="mean"
    )


def _small() -> ModelConfig:
    """DINOv2 ViT-S/14 as it is, without rotary codes and query-key norm, and nano's heads."""
    nano = _nano()
    base = _any_view("da3gs-small", 384, 12, 6, (5, 7, 9, 11), 4, nano.head.pyramid)
    backbone = dataclasses.replace(base.backbone, qk_norm_from=None, rope_from=None)
    camera = CameraConfig(encoder_depth=1, encoder_heads=6)
    return dataclasses.replace(nano, name="da3gs-small", backbone=backbone, camera=camera)


_LARGE = PyramidConfig(features=256, channels=(256, 512, 1024, 1024))
_GIANT = _any_view(
    "da3-giant", 1536, 40, 24, (19, 27, 33, 39), 13, _LARGE, feed_forward="swiglu", splats=True
)  # fmt: skip

CONFIGS: dict[str, ModelConfig | NestedConfig] = {
    config.name: config
    for config in (
        _nano(),
        _small(),
        _any_view("da3-small", 384, 12, 6, (5, 7, 9, 11), 4, PyramidConfig(features=64, channels=(48, 96, 192, 384))),
        _any_view("da3-base", 768, 12, 12, (5, 7, 9, 11), 4, PyramidConfig(features=128, channels=(96, 192, 384, 768))),
        _any_view("da3-large", 1024, 24, 16, (11, 15, 19, 23), 8, _LARGE),
        _GIANT,
        _monocular("da3mono-large"),
        _monocular("da3metric-large"),
        NestedConfig(name="da3nested-giant-large", geometry=_GIANT, metric=_monocular("da3metric-large")),
    )
}
"""The named configurations."""


def named_config(name: str) -> ModelConfig | NestedConfig:
    """The configuration of this name.

    Raises:
        InputError: there is none.
    """
    if name not in CONFIGS:
        raise InputError(f"there is no model configuration {name!r}; known are {', '.join(CONFIGS)}")
    return CONFIGS[name]


def config_to_dict(config: ModelConfig | NestedConfig) -> dict[str, Any]:
    """The configuration as plain values for JSON; ``config_from_dict`` reads it back."""
    return dataclasses.asdict(config)


def config_from_dict(values: dict[str, Any]) -> ModelConfig | NestedConfig:
    """The configuration that ``config_to_dict`` wrote.

    Raises:
        InputError: a field is missing, unknown or of the wrong kind.
    """
    try:
        if "geometry" in values:
            parts = {key: _model_from_dict(values[key]) for key in ("geometry", "metric")}
            return NestedConfig(name=str(values["name"]), **parts)
        return _model_from_dict(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not a model configuration: {type(error).__name__}: {error}") from error


def _model_from_dict(values: dict[str, Any]) -> ModelConfig:
    splats = values.get("splats")
    camera = values.get("camera")
    return ModelConfig(
        **{
            **values,
            "backbone": BackboneConfig(**_with_tuples(values["backbone"])),
            "head": HeadConfig(**{**values["head"], "pyramid": _pyramid_from_dict(values["head"]["pyramid"])}),
            "camera": None if camera is None else CameraConfig(**camera),
            "splats": None
            if splats is None
            else SplatConfig(**{**splats, "pyramid": _pyramid_from_dict(splats["pyramid"])}),
        }
    )


def _pyramid_from_dict(values: dict[str, Any]) -> PyramidConfig:
    return PyramidConfig(**_with_tuples(values))


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
