"""Colours of other standards turned into sRGB: wide primaries, gamma, and the HLG and PQ curves of HDR.

Light is relative to diffuse white (203 nits in HDR, ITU-R BT.2408): 1 is a sheet of white paper, highlights lie above.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float, Shaped, UInt8

Primaries = Literal["bt709", "bt2020", "p3", "adobe"]
"""Which red, green and blue the numbers mean; all of them with the white point D65."""
Transfer = Literal["srgb", "bt709", "linear", "hlg", "pq"]
"""How light became numbers. BT.709 video counts as sRGB, as every player and every photo tool takes it."""

_CHROMATICITIES: dict[Primaries, tuple[tuple[float, float], ...]] = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
}
_NUMBERED_PRIMARIES: dict[int, Primaries] = {9: "bt2020", 11: "p3", 12: "p3"}
_NUMBERED_TRANSFERS: dict[int, Transfer | float] = {4: 2.2, 5: 2.8, 8: "linear", 13: "srgb", 16: "pq", 18: "hlg"}
_WHITE = (0.3127, 0.3290)
_KNEE = 0.6
_HDR_WHITE_NITS = 203.0
_PEAK_NITS = 1000.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ColorTags:
    """Colour tags of a file, in whatever way its container has them."""

    primaries: Primaries = "bt709"
    """Red, green and blue."""
    transfer: Transfer | float = "srgb"
    """The curve, or the exponent that turns numbers into light."""

    @property
    def plain(self) -> bool:
        """Whether the numbers are sRGB as they stand."""
        return self.primaries == "bt709" and self.transfer in ("srgb", "bt709")

    @property
    def is_hdr(self) -> bool:
        """Whether the numbers hold light above that of white paper."""
        return self.transfer in ("pq", "hlg")


ADOBE_RGB = ColorTags(primaries="adobe", transfer=563 / 256)
"""Adobe RGB (1998), which cameras name in EXIF alone."""


def numbered(primaries: int, transfer: int) -> ColorTags:
    """The tags of code points of ITU-T H.273 (video, cICP, nclx); unknown and unspecified ones count as BT.709's.

    >>> numbered(9, 16)
    ColorTags(primaries='bt2020', transfer='pq')
    """
    return ColorTags(
        primaries=_NUMBERED_PRIMARIES.get(primaries, "bt709"), transfer=_NUMBERED_TRANSFERS.get(transfer, "bt709")
    )


def nearest_primaries(chromaticities: tuple[float, ...]) -> Primaries | None:
    """The primaries that lie within 0.01 of six numbers: x and y of red, green and blue."""
    for name, known in _CHROMATICITIES.items():
        if np.abs(np.ravel(known) - chromaticities).max() <= 0.01:
            return name
    return None


def primaries_to_xyz(primaries: Primaries) -> Float[np.ndarray, "3 3"]:
    """The matrix from linear RGB to CIE XYZ, with Y = 1 for white.

    >>> primaries_to_xyz("bt709")[1].round(4).tolist()
    [0.2126, 0.7152, 0.0722]
    """
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in _CHROMATICITIES[primaries]]).T
    white = np.array([_WHITE[0] / _WHITE[1], 1.0, (1 - _WHITE[0] - _WHITE[1]) / _WHITE[1]])
    return columns * np.linalg.solve(columns, white)


def to_bt709(primaries: Primaries) -> Float[np.ndarray, "3 3"]:
    """The matrix from linear RGB of these primaries to linear sRGB; colours outside become negative or above 1."""
    return np.linalg.solve(primaries_to_xyz("bt709"), primaries_to_xyz(primaries))


def decode_srgb(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light of sRGB numbers in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """sRGB numbers of linear light in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def decode_pq(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Light relative to diffuse white of PQ numbers (SMPTE ST 2084): 1 is 10,000 nits, 0.5806 is white."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.clip(values, 0, 1) ** (1 / m2)
    return (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (10000 / _HDR_WHITE_NITS)


def decode_hlg(values: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Light relative to diffuse white, on a 1000 nit screen, of HLG numbers (ITU-R BT.2100): 0.75 is white.

    The screen's own curve, a power of 1.2 of the luminance, is part of it.
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    values = np.clip(values, 0, 1)
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((np.maximum(values, 0.5) - c) / a) + b) / 12)
    luminance = scene @ primaries_to_xyz("bt2020")[1].astype(values.dtype)
    return scene * (np.maximum(luminance, 1e-9) ** 0.2)[..., None] * (_PEAK_NITS / _HDR_WHITE_NITS)


def tone_mapped(light: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Highlights brought under 1, everything under 0.6 of diffuse white untouched, hues kept.

    The largest channel goes through a curve that leaves the straight line smoothly and reaches 1 at 1000 nits.
    """
    peak = _PEAK_NITS / _HDR_WHITE_NITS
    largest = np.maximum(light.max(-1), 1e-9)
    t = np.clip((largest - _KNEE) / (peak - _KNEE), 0, 1)
    bend = (peak - _KNEE) / (1 - _KNEE) - 1
    mapped = np.where(largest <= _KNEE, largest, _KNEE + (1 - _KNEE) * (bend + 1) * t / (1 + bend * t))
    return light * (mapped / largest)[..., None]


def to_srgb(
    values: Shaped[np.ndarray, "H W 3"], *, primaries: Primaries = "bt709", transfer: Transfer | float = "srgb"
) -> UInt8[np.ndarray, "H W 3"]:
    """An sRGB picture of numbers of another standard: uint8 or uint16 from the type's 0 to its largest, floats 0 to 1.

    Rows are converted a few at a time, so that a large picture takes little more room than it has.
    """
    tags = ColorTags(primaries=primaries, transfer=transfer)
    if tags.plain and values.dtype == np.uint8:
        return values
    full = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    result = np.empty(values.shape, np.uint8)
    step = max(1, _BLOCK_PIXELS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        block = values[start : start + step].astype(np.float32) / np.float32(full)
        result[start : start + step] = (_srgb_numbers(block, tags) * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return result


_BLOCK_PIXELS = 1 << 18


def _srgb_numbers(values: Float[np.ndarray, "H W 3"], tags: ColorTags) -> Float[np.ndarray, "H W 3"]:
    if tags.plain:
        return values
    match tags.transfer:
        case "hlg":
            light = tone_mapped(decode_hlg(values))
        case "pq":
            light = tone_mapped(decode_pq(values))
        case "srgb" | "bt709":
            light = decode_srgb(values)
        case "linear":
            light = values
        case float() | int():
            light = np.clip(values, 0, 1) ** np.float32(tags.transfer)
        case _:
            assert_never(tags.transfer)
    if tags.primaries != "bt709":
        light = light @ to_bt709(tags.primaries).T.astype(values.dtype)
    return encode_srgb(np.clip(light, 0, 1))
