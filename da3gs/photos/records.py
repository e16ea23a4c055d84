"""Records of loaded photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs.views import Views

MISSING = "is missing"
"""Of a photo that a list names and that is not there: the one thing dropped that is no file."""

Kind = Literal["photos", "folder", "zip", "video", "transforms", "colmap", "dl3dv", "polycam", "record3d"]
"""What the input turned out to be; a zip that holds a posed data set or a video counts as that."""


class Unreadable(Exception):
    """Why a photo cannot be used; the reason reads on from its name ("is cut short")."""

    def __init__(self, reason: str, kind: str | None = None) -> None:
        """``kind`` is the reason without figures, by which such photos are counted."""
        super().__init__(reason)
        self.kind = kind or reason


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """File that was found and not used."""

    name: str
    """A file, by its path below the input (a video's frame: ``frame_000123``)."""
    reason: str
    """Why, reading on from the name: "is cut short"."""
    kind: str = ""
    """The reason without names and figures, by which they are counted; empty where that is the reason itself."""
    count: int = 1
    """How many files; more than one for a folder that was not looked into."""

    @property
    def counted_as(self) -> str:
        """The reason by which it is counted."""
        return self.kind or self.reason


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Original:
    """A photo at its full size: upright and free of lens distortion."""

    image: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    mask: Bool[np.ndarray, "H W"] | None
    """True where a pixel is wanted; None means everywhere."""
    intrinsics: Float[np.ndarray, "3 3"] | None
    """In pixels of this size, float64; None where nothing is known."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Placement of a photo: how it came by its camera, and how well the camera fits."""

    placed: Literal["given", "sfm", "depth_prior", "predicted"]
    """By the input, by structure-from-motion, by depth that a network told, or by the network alone."""
    inliers: int | None = None
    """How many of its features show a point of the scene where the camera says; None: none were looked for."""
    reprojection_error: float | None = None
    """Mean distance from those features to where the points project, in pixels of a long side of at most 1600."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Photo:
    """One photo that is used, and how to get at it again."""

    index: int
    """Its position in the input (the list of transforms.json, natural name order, the frame number of a video)."""
    name: str
    """Its name among the views: the file's stem made unique, or ``frame_000123``."""
    file: str
    """The name of its file, without folders; of a video's frame the video's."""
    sha256: str
    """Of that file."""
    original_height: int
    """Height of the upright photo in pixels."""
    original_width: int
    """Width of the upright photo in pixels."""
    height: int
    """Height in the views, without padding."""
    width: int
    """Width in the views, without padding."""
    focal_source: Literal["given", "exif"] | None
    """Where its intrinsics come from; None: nothing is known."""
    original_intrinsics: Float[np.ndarray, "3 3"] | None
    """In pixels of ``original()``, float64."""
    read: Callable[[], Original]
    """Reads and decodes the file again."""
    placement: Placement | None = None
    """Of a camera that was estimated from the photos; None: it is given, or not known yet."""

    def original(self) -> UInt8[np.ndarray, "H W 3"]:
        """The photo at its full size, upright and undistorted, read again; ``original_intrinsics`` fit it."""
        image = self.read().image
        return image if image.flags.writeable else image.copy()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SparsePoints:
    """Points that came with the cameras, in the same world."""

    positions: Float[np.ndarray, "N 3"]
    """World coordinates, float64."""
    colors: UInt8[np.ndarray, "N 3"]
    """sRGB."""
    errors: Float[np.ndarray, " N"]
    """Mean reprojection error in pixels of the given camera, -1 where unknown."""
    visible: Bool[np.ndarray, "V N"] | None = None
    """Which photo shows which point; None where nobody says."""

    def seen_by(self, index: Sequence[int]) -> SparsePoints:
        """The points that two of these photos show, all where nobody says; of a single photo those that it shows."""
        if self.visible is None:
            return self
        visible = self.visible[list(index)]
        keep = visible.sum(0) >= min(2, len(index))
        return SparsePoints(
            positions=self.positions[keep], colors=self.colors[keep], errors=self.errors[keep], visible=visible[:, keep]
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class LoadedPhotos:
    """Everything that was learnt from the input."""

    views: Views
    """The photos at the network's size with what is known of their cameras."""
    photos: tuple[Photo, ...]
    """One a view, in the same order."""
    dropped: tuple[Dropped, ...]
    """What was found and not used, with reasons."""
    kind: Kind
    """What the input is."""
    read: tuple[str, ...] = ()
    """Files that were read beside the photos: cameras, models, masks; by their paths below the input."""
    notes: tuple[str, ...] = ()
    """What else is to be known: which reading was chosen where several are possible, and how to ask for another."""
    points: SparsePoints | None = None
    """Points of a COLMAP model."""
    cam_to_world_given: Float[np.ndarray, "V 4 4"] | None = None
    """The given poses in float64, OpenCV axes, the caller's numbers (those of ``views`` are made orthonormal)."""
    intrinsics_known: Float[np.ndarray, "V 3 3"] | None = None
    """The views' intrinsics in float64; NaN where nothing is known."""
    one_spot: bool = False
    """Whether estimated cameras all stand in one place, so that nothing tells depth."""
    _holder: Any = None
    """Keeps the folder that a zip was unpacked to; it goes when the last photo goes."""

    def only(self, index: Sequence[int]) -> LoadedPhotos:
        """The photos at these positions, in that order."""
        keep = list(index)
        given, known, points = self.cam_to_world_given, self.intrinsics_known, self.points
        if points is not None and points.visible is not None:
            points = dataclasses.replace(points, visible=points.visible[keep])
        return dataclasses.replace(
            self, views=self.views[keep], photos=tuple(self.photos[i] for i in keep), points=points,
            cam_to_world_given=None if given is None else given[keep],
            intrinsics_known=None if known is None else known[keep],
        )  # fmt: skip

    @property
    def estimated(self) -> bool:
        """Whether the cameras were estimated from the photos, so that there is no caller's frame."""
        return self.views.cameras is not None and any(photo.placement is not None for photo in self.photos)
