"""Protocol of an evaluation: sizes and crops of pictures, and what a method gets of a scene."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.evaluation.data import EvalScene, Frame
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.records import LoadedPhotos, Original, Photo, Placement
from da3gs.photos.resampling.sizing import PATCH, sized_image, sized_intrinsics, sized_mask, sizing_steps
from da3gs.views import Views

Poses = Literal["given", "predicted"]
Targets = Literal["given", "found", "aligned", "optimised", "second pass"]
"""Where target cameras come from: the data set's; found in all photos, context and targets, where the data set has
none; the data set's laid on predicted ones by a similarity; those, further moved to fit the target photo; or, where no
cameras could be found, a second pass of the network over all photos."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """Treatment of every picture, the same for each method."""

    size: tuple[int, int] | None
    """Height and width that pictures are scored at; None: each photo at the network's size for ``resolution``."""
    network: tuple[int, int] | None
    """Height and width that context views are resized to for the network, multiples of 14; None: as scored."""
    resolution: int
    """Long side in pixels, where ``size`` is None."""
    undistort: bool
    """Whether lens distortion is undone; otherwise pictures stay as stored, as most papers leave them."""
    poses: Poses
    """Whether methods get the context cameras."""
    targets: Targets
    """Where target cameras come from."""

    def rules(self) -> list[str]:
        """The rules in words, for the report."""
        lines = []
        if self.size is None:
            lines.append(f"photos resized to a long side of {self.resolution}, sides to multiples of {PATCH} (OpenCV)")
        else:
            lines.append(
                f"photos scaled to cover {self.size[0]}x{self.size[1]} (height x width; PIL Lanczos on 8 bits), then "
                "cropped at the centre; intrinsics follow"
            )
        if self.network is not None and self.network != self.size:
            lines.append(
                f"context resized to {self.network[0]}x{self.network[1]} for the network, intrinsics following; "
                "targets rendered and scored at the full size"
            )
        lines.append("lens distortion undone" if self.undistort else "lens distortion ignored, pictures as stored")
        lines.append(
            "renders in float32, not rounded to 8 bits, no border cropped; PSNR clips to [0, 1], SSIM does not"
        )
        return lines


def network_size(size: tuple[int, int] | None, resolution: int | None) -> tuple[int, int] | None:
    """Size at which a network sees pictures of a size: the multiples of 14 below, or those nearest to a long side.

    >>> network_size((270, 480), None), network_size((270, 480), 252)
    ((266, 476), (140, 252))
    """
    if size is None:
        return None
    height, width = size
    if resolution is not None:
        scale = resolution / max(size)
        height, width = round(height * scale), round(width * scale)
        return max(PATCH, round(height / PATCH) * PATCH), max(PATCH, round(width / PATCH) * PATCH)
    return max(PATCH, height // PATCH * PATCH), max(PATCH, width // PATCH * PATCH)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Picture:
    """A photo at the size that it is scored at."""

    index: int
    """Its position in the scene's frame list."""
    name: str
    """Its name."""
    image: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    mask: Bool[np.ndarray, "H W"] | None
    """True where a pixel counts; None means everywhere."""
    intrinsics: Float[np.ndarray, "3 3"] | None
    """In pixels of this size, float64."""
    cam_to_world: Float[np.ndarray, "4 4"] | None
    """The given pose, float64."""
    stored: tuple[int, int] = (0, 0)
    """Height and width of the photo before it was resized."""
    placement: Placement | None = None
    """How its camera was found; None where that was given, or is not known."""

    @property
    def tensor(self) -> Float[Tensor, "H W 3"]:
        """The photo in [0, 1]."""
        return torch.from_numpy(self.image.copy()).float() / 255


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SceneInput:
    """Knowledge of a scene that a method may use."""

    key: str
    """The scene's name."""
    context: LoadedPhotos
    """The context views at the network's size, with their cameras where the protocol gives them."""
    pictures: tuple[Picture, ...]
    """The same photos at the size that targets are scored at."""
    targets: tuple[str, ...] = ()
    """Names of the target frames; their photos are not here."""


def picture_of(scene: EvalScene, index: int, protocol: Protocol) -> Picture:
    """A frame as it is scored.

    Raises:
        InputError: its photo is missing or broken.
    """
    frame = scene.read(index, protocol.undistort)
    height, width = frame.image.shape[:2]
    if protocol.size is None:
        steps = sizing_steps(height, width, resolution=protocol.resolution)
        known = frame.intrinsics
        frame = Frame(
            image=sized_image(frame.image, steps),
            mask=None if frame.mask is None else sized_mask(frame.mask, steps),
            intrinsics=None if known is None else sized_intrinsics(known, height, width, steps),
        )
    else:
        frame = covered(frame, protocol.size)
    return Picture(
        index=index,
        name=scene.names[index],
        image=frame.image,
        mask=None if frame.mask is None or frame.mask.all() else frame.mask,
        intrinsics=frame.intrinsics,
        cam_to_world=None if scene.cam_to_world is None else scene.cam_to_world[index],
        stored=(height, width),
        placement=None if scene.placements is None else scene.placements[index],
    )


def covered(frame: Frame, size: tuple[int, int]) -> Frame:
    """A frame scaled to cover a size, by Lanczos on 8 bits, and cropped to it at the centre."""
    (height, width), (h, w) = frame.image.shape[:2], size
    scale = max(h / height, w / width)
    new_height, new_width = max(h, round(height * scale)), max(w, round(width * scale))
    resized = stretched(frame, (new_height, new_width))
    top, left = (new_height - h) // 2, (new_width - w) // 2
    window = np.s_[top : top + h, left : left + w]
    intrinsics = resized.intrinsics
    if intrinsics is not None:
        intrinsics = intrinsics - np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])
    return Frame(
        image=np.ascontiguousarray(resized.image[window]),
        mask=None if resized.mask is None else resized.mask[window],
        intrinsics=intrinsics,
    )


def stretched(frame: Frame, size: tuple[int, int]) -> Frame:
    """A frame resampled to a size by Lanczos on 8 bits; intrinsics follow."""
    (height, width), (h, w) = frame.image.shape[:2], size
    if (height, width) == (h, w):
        return frame
    image = np.asarray(Image.fromarray(frame.image).resize((w, h), Image.Resampling.LANCZOS))
    mask = frame.mask
    if mask is not None:
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((w, h), Image.Resampling.BOX)
        mask = np.asarray(grey) >= 128
    intrinsics = frame.intrinsics
    if intrinsics is not None:
        intrinsics = intrinsics * np.array([[w / width], [h / height], [1.0]])
    return Frame(image=image, mask=mask, intrinsics=intrinsics)


def camera_of(picture: Picture, *, size: tuple[int, int] | None = None) -> Cameras:
    """The given camera of a picture, float64, for its own size or another.

    Raises:
        InputError: nothing is known of its camera.
    """
    if picture.cam_to_world is None or picture.intrinsics is None:
        raise InputError(f"frame {picture.index} ({picture.name}) has no camera; use --poses predicted")
    height, width = picture.image.shape[:2]
    camera = Cameras(
        world_to_cam=rigid_inverse(torch.from_numpy(picture.cam_to_world)),
        intrinsics=torch.from_numpy(picture.intrinsics),
        height=height,
        width=width,
    )
    return camera if size is None else camera.resized(*size)


def scene_input(
    key: str,
    pictures: list[Picture],
    protocol: Protocol,
    *,
    poses: bool,
    targets: tuple[str, ...] = (),
    one_spot: bool = False,
) -> SceneInput:
    """Context pictures as a method gets them: at the network's size, on one canvas.

    Args:
        key: the scene's name.
        pictures: the context, as scored.
        protocol: the sizes.
        poses: whether the given cameras go with them.
        targets: names of the frames that will be asked for.
        one_spot: whether the cameras all stand in one place.
    """
    frames = [Frame(image=p.image, mask=p.mask, intrinsics=p.intrinsics) for p in pictures]
    if protocol.network is not None:
        frames = [stretched(frame, protocol.network) for frame in frames]
    sizes = [(f.image.shape[0], f.image.shape[1]) for f in frames]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    images = torch.zeros(len(frames), 3, height, width)
    masks = torch.zeros(len(frames), height, width, dtype=torch.bool)
    for i, frame in enumerate(frames):
        h, w = sizes[i]
        images[i, :, :h, :w] = torch.from_numpy(frame.image.copy()).movedim(-1, 0) / 255
        masks[i, :h, :w] = True if frame.mask is None else torch.from_numpy(frame.mask.copy())
    cameras, given = None, [p.cam_to_world for p in pictures if p.cam_to_world is not None]
    known = [f.intrinsics for f in frames if f.intrinsics is not None]
    if poses:
        if len(given) < len(frames) or len(known) < len(frames):
            raise InputError(f"{key} has no cameras for its context views; use --poses predicted")
        cameras = Cameras(
            world_to_cam=rigid_inverse(torch.from_numpy(np.stack(given))).float(),
            intrinsics=torch.from_numpy(np.stack(known)).float(),
            height=height,
            width=width,
        )
    views = Views(
        images=images,
        names=_unique([p.name for p in pictures]),
        cameras=cameras,
        masks=None if bool(masks.all()) else masks,
        photo_sizes=tuple(sizes),
    )
    loaded = LoadedPhotos(
        views=views,
        photos=tuple(_photo(p, f, views.names[i]) for i, (p, f) in enumerate(zip(pictures, frames, strict=True))),
        dropped=(),
        kind="transforms" if poses else "folder",
        cam_to_world_given=np.stack(given) if poses else None,
        intrinsics_known=np.stack(known) if poses else None,
        one_spot=one_spot and poses,
    )
    return SceneInput(key=key, context=loaded, pictures=tuple(pictures), targets=targets)


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names))


def _photo(picture: Picture, frame: Frame, name: str) -> Photo:
    height, width = picture.image.shape[:2]

    def read() -> Original:
        """The picture as it was scaled for the protocol."""
        return Original(image=picture.image, mask=picture.mask, intrinsics=picture.intrinsics)

    return Photo(
        index=picture.index,
        name=name,
        file=name,
        sha256="",
        original_height=height,
        original_width=width,
        height=frame.image.shape[0],
        width=frame.image.shape[1],
        focal_source="given" if picture.intrinsics is not None else None,
        original_intrinsics=picture.intrinsics,
        read=read,
    )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SplitPictures:
    """Context and target pictures of a scene, and what was left out."""

    context: tuple[Picture, ...]
    """In the split's order."""
    target: tuple[Picture, ...]
    """In the split's order."""
    dropped: tuple[dict[str, Any], ...]
    """Frames whose photos are missing or broken: index, role, reason."""
    one_spot: bool = False
    """Whether the cameras all stand in one place."""


def split_pictures(
    scene: EvalScene, context: tuple[int, ...], target: tuple[int, ...], protocol: Protocol
) -> SplitPictures:
    """The pictures of a split; frames whose photos are missing are left out with the reason.

    Raises:
        InputError: no context view or no target is left.
    """
    read: dict[int, Picture | str] = {}
    for index in dict.fromkeys((*context, *target)):
        try:
            read[index] = picture_of(scene, index, protocol)
        except InputError as problem:
            read[index] = str(problem)
    dropped = [
        {"index": index, "role": role, "reason": read[index]}
        for role, indices in (("context", context), ("target", target))
        for index in indices
        if isinstance(read[index], str)
    ]
    kept = {role: [p for i in indices if isinstance(p := read[i], Picture)]
            for role, indices in (("context", context), ("target", target))}  # fmt: skip
    for role, pictures in kept.items():
        if not pictures:
            raise InputError(f"no {role} photo of {scene.key} can be read: {dropped[0]['reason']}")
    return SplitPictures(
        context=tuple(kept["context"]), target=tuple(kept["target"]), dropped=tuple(dropped), one_spot=scene.one_spot
    )
