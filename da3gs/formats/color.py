"""Colours of other standards turned into sRGB: wide primaries, and the HLG and PQ curves of HDR video and photos.

Light is relative to diffuse white (203 nits in HDR, ITU-R BT.2408): 1 is a sheet of white paper, highlights lie above.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
from jaxtyping import Float, UInt8

Primaries = Literal["bt709", "bt2020", "p3"]
"""Which red, green and blue the numbers mean; all three with the white point D65."""
Transfer = Literal["srgb", "bt709", "hlg", "pq"]
"""How light became numbers. BT.709 video counts as sRGB, as every player and every photo tool takes it."""

_CHROMATICITIES = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_WHITE = (0.3127, 0.3290)
_KNEE = 0.6
_HDR_WHITE_NITS = 203.0
_PEAK_NITS = 1000.0


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
    values: Float[np.ndarray, "H W 3"], *, primaries: Primaries, transfer: Transfer
) -> UInt8[np.ndarray, "H W 3"]:
    """An sRGB picture of numbers in [0, 1] of another standard; sRGB and BT.709 numbers stay as they are."""
    match transfer:
        case "hlg":
            light = tone_mapped(decode_hlg(values))
        case "pq":
            light = tone_mapped(decode_pq(values))
        case "srgb" | "bt709":
            if primaries == "bt709":
                return (values * 255 + 0.5).clip(0, 255).astype(np.uint8)
            light = decode_srgb(values)
        case _:
            assert_never(transfer)
    if primaries != "bt709":
        light = light @ to_bt709(primaries).T.astype(values.dtype)
    return (encode_srgb(np.clip(light, 0, 1)) * 255 + 0.5).clip(0, 255).astype(np.uint8)
