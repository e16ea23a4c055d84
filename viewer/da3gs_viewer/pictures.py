"""Exact pictures of what is on show: every mode, and the photo over or beside them."""

from __future__ import annotations

import dataclasses
import threading
from typing import Literal, assert_never, get_args

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import unproject
from da3gs.rendering import Rendering, render
from da3gs_viewer.editor import Editor

Mode = Literal["colour", "depth", "normal", "alpha", "confidence", "coverage", "error"]
MODES: tuple[Mode, ...] = get_args(Mode)
Compare = Literal["off", "wipe", "beside"]

NEAR = 0.02
"""One stands at a photo when no further from its camera than this share of the distance to what it shows."""
COVERAGE_SIDE = 240
TOO_OBLIQUE = 45.0
"""Degrees between the nearest photo's line of sight and one's own at which coverage is red."""
_ERROR_GAIN = 4.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """Look: what to draw, besides from where."""

    mode: Mode = "colour"
    """What the pixels mean."""
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Behind the splats, each 0 to 1."""
    compare: Compare = "off"
    """Whether the photo is drawn too, where one stands at its camera."""
    wipe: float = 0.5
    """How much of the width the photo takes."""
    photo: int = 0
    """Which one."""


class Artist:
    """Draws what an editor shows. May be called from any thread."""

    def __init__(self, editor: Editor) -> None:
        """Nothing is drawn yet."""
        self._editor, self._lock = editor, threading.Lock()
        self._range: tuple[object, float, float] | None = None
        self._ranks: tuple[object, Tensor] | None = None
        self._placed: tuple[Gaussians, Gaussians] | None = None

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that this scene has what it takes for."""
        rows = self._editor.state.rows
        confident = rows is not None and bool(rows.confidence.isfinite().any())
        photos = self._editor.scene is not None
        return tuple(
            mode
            for mode in MODES
            if not (mode == "confidence" and not confident) and not (mode in ("coverage", "error") and not photos)
        )

    def paint(self, camera: Cameras, look: Look) -> UInt8[np.ndarray, "H W 3"]:
        """The picture from a camera, 8 bits."""
        with torch.inference_mode():
            picture = self._painted(camera, look)
        if look.compare == "off" or look.mode == "error":
            return picture
        warped = self.photo_from(camera, look.photo)
        return picture if warped is None else _joined(picture, *warped, look)

    def _painted(self, camera: Cameras, look: Look) -> UInt8[np.ndarray, "H W 3"]:
        editor = self._editor
        match look.mode:
            case "colour":
                return eight_bits(self.render(camera, look).color)
            case "depth":
                return self._depth(self.render(camera, look))
            case "normal":
                return _normals(self.render(camera, look), camera)
            case "alpha":
                alpha = self.render(camera, look).alpha
                return eight_bits(alpha[..., None].expand(*alpha.shape, 3))
            case "confidence":
                picture = self.render(camera, look, features=self._confidence())
                assert picture.features is not None
                share = picture.features[..., 0] / picture.alpha.clamp(min=1e-6)
                return _mapped(share, cv2.COLORMAP_VIRIDIS, picture.alpha)
            case "coverage":
                picture = self.render(camera, look)
                assert editor.cameras is not None
                return _coverage(picture, camera, editor.cameras)
            case "error":
                return self._error(camera, look)
            case other:
                assert_never(other)

    def render(self, camera: Cameras, look: Look, *, features: Tensor | None = None) -> Rendering:
        """The plain rendering of what stays."""
        gaussians = self._editor.gaussians
        if features is not None and len(features) != len(gaussians):  # changed in between
            features = features.new_zeros(len(gaussians), features.shape[1])
        if not len(gaussians):
            color = torch.tensor(look.background).expand(camera.height, camera.width, 3)
            empty = torch.zeros(camera.height, camera.width)
            return Rendering(
                color=color, depth=empty, alpha=empty, features=None if features is None else empty[..., None]
            )
        device = self._editor.device
        with self._lock:
            if self._placed is None or self._placed[0] is not gaussians:
                self._placed = (gaussians, gaussians.to(device))
            splats = self._placed[1]
        features = None if features is None else features.to(device)
        return render(splats, camera, background=look.background, features=features, backend=self._editor.backend).to(
            "cpu"
        )

    def _depth(self, picture: Rendering) -> UInt8[np.ndarray, "H W 3"]:
        """Inverse depth, near is red, on one scale for the whole scene so that it does not flicker."""
        base = self._editor.state.gaussians
        if self._range is None or self._range[0] is not base:
            seen = 1 / picture.depth[picture.alpha > 0.5].float()
            if not len(seen):
                return np.zeros((*picture.depth.shape, 3), np.uint8)
            low, high = seen[:: 1 + len(seen) // 100_000].quantile(torch.tensor([0.01, 0.99])).tolist()
            self._range = (base, low * 0.5, high * 1.2)
        _, low, high = self._range
        near = (1 / picture.depth.clamp(min=1e-12) - low) / max(high - low, 1e-12)
        return _mapped(near, cv2.COLORMAP_TURBO, picture.alpha)

    def _confidence(self) -> Float[Tensor, "N 1"]:
        """Of the splats that stay: the share of all splats that are less certain, so that the colours spread evenly."""
        rows = self._editor.state.rows
        assert rows is not None
        with self._lock:
            if self._ranks is None or self._ranks[0] is not rows:
                values = rows.confidence.float().nan_to_num(0.0)
                ordered = values.sort().values
                self._ranks = (rows, torch.searchsorted(ordered, values).float() / max(len(values) - 1, 1))
        return self._ranks[1][self._editor.keep][:, None]

    def _error(self, camera: Cameras, look: Look) -> UInt8[np.ndarray, "H W 3"]:
        """Where render and photo differ; without a photo to compare with, the render, darker."""
        color = self.render(camera, look).color
        warped = self.photo_from(camera, look.photo)
        if warped is None:
            return eight_bits(color * 0.3)
        photo, inside = warped
        away = (color.clamp(0, 1) - torch.from_numpy(photo).float() / 255).abs().mean(-1) * _ERROR_GAIN
        return _mapped(away, cv2.COLORMAP_INFERNO, torch.from_numpy(inside).float())

    def stands_at(self, camera: Cameras, index: int, distance: float) -> bool:
        """Whether a camera stands where a photo was taken."""
        cameras = self._editor.cameras
        if cameras is None or not 0 <= index < len(cameras):
            return False
        return float((camera.centers - cameras[index].centers.to(camera.centers)).norm()) <= NEAR * distance

    def photo_from(
        self, camera: Cameras, index: int
    ) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]] | None:
        """A photo as a camera at its place would see it, and where it reaches; None away from that place."""
        scene, cameras = self._editor.scene, self._editor.cameras
        if scene is None or cameras is None or not 0 <= index < len(cameras):
            return None
        own = cameras[index]
        depth = scene.depth
        distance = 1.0 if depth is None else float(depth[index][depth[index].isfinite()].float().median())
        placement = self._editor.state.placement
        if placement is not None:
            distance *= float(placement.scale)
        if not self.stands_at(camera, index, distance):
            return None
        turn = camera.world_to_cam[:3, :3].double() @ own.world_to_cam[:3, :3].double().T
        onto = (camera.intrinsics.double() @ turn @ own.intrinsics.double().inverse()).numpy()
        height, width = scene.views.sizes[index]
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float) @ onto.T
        if (corners[:, 2] <= 0.05).any():  # looks elsewhere
            return None
        photo = eight_bits(scene.views.images[index, :, :height, :width].movedim(0, -1))
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from pixel centres
        warp, size = np.linalg.inv(half) @ onto @ half, (camera.width, camera.height)
        inside = cv2.warpPerspective(np.full(photo.shape[:2], 255, np.uint8), warp, size, flags=cv2.INTER_NEAREST)
        return cv2.warpPerspective(photo, warp, size, flags=cv2.INTER_LINEAR), inside > 127


def eight_bits(values: Tensor) -> UInt8[np.ndarray, "*shape"]:
    """0 to 1 as 0 to 255."""
    array: np.ndarray = (values.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return array


def _mapped(share: Tensor, colours: int, weight: Tensor) -> UInt8[np.ndarray, "H W 3"]:
    """0 to 1 in a colour map, darker where the weight is less."""
    mapped = cv2.applyColorMap(eight_bits(share), colours)[..., ::-1]
    return np.rint(mapped * weight.float().cpu().numpy()[..., None]).astype(np.uint8)


def _normals(picture: Rendering, camera: Cameras) -> UInt8[np.ndarray, "H W 3"]:
    """Normals of the depth, in the world: red is x, green y, blue z."""
    depth = picture.depth.cpu()
    points = unproject(depth[None], camera.intrinsics[None].to(depth), camera.cam_to_world[None].to(depth))[0]
    right, down = points.roll(-1, 1) - points, points.roll(-1, 0) - points
    normal = torch.nn.functional.normalize(torch.linalg.cross(down, right), dim=-1)
    solid = (picture.alpha > 0.5).float().cpu()
    solid[-1], solid[:, -1] = 0, 0
    return eight_bits((0.5 - 0.5 * normal) * solid[..., None])


def _coverage(picture: Rendering, camera: Cameras, photos: Cameras) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, tinted green where a photo looked the same way, over yellow to red the more askew all of them did,
    and magenta where none shows anything."""
    factor = min(1.0, COVERAGE_SIDE / max(camera.height, camera.width))
    height, width = max(1, round(camera.height * factor)), max(1, round(camera.width * factor))
    small = camera.resized(height, width)
    depth, alpha = (
        torch.nn.functional.interpolate(t[None, None].float().cpu(), size=(height, width))[0, 0]
        for t in (picture.depth, picture.alpha)
    )
    points = unproject(depth[None], small.intrinsics[None].float(), small.cam_to_world[None].float())[0]
    own = torch.nn.functional.normalize(camera.centers.float() - points, dim=-1)
    best = torch.full((height, width), -1.0)
    for index in range(len(photos)):
        photo = photos[index]
        local = points @ photo.world_to_cam[:3, :3].T.float() + photo.world_to_cam[:3, 3].float()
        pixel = local @ photo.intrinsics.T.float()
        u, v = pixel[..., 0] / pixel[..., 2].clamp(min=1e-9), pixel[..., 1] / pixel[..., 2].clamp(min=1e-9)
        seen = (local[..., 2] > 0) & (u >= 0) & (u < photo.width) & (v >= 0) & (v < photo.height)
        theirs = torch.nn.functional.normalize(photo.centers.float() - points, dim=-1)
        best = torch.where(seen, torch.maximum(best, (own * theirs).sum(-1)), best)
    askew = torch.rad2deg(torch.arccos(best.clamp(-1, 1))) / TOO_OBLIQUE
    tint = torch.stack((2 * askew, 2 - 2 * askew, torch.zeros_like(askew)), -1).clamp(0, 1)
    tint = torch.where(((alpha < 0.5) | (best <= -1))[..., None], torch.tensor([1.0, 0.0, 1.0]), tint)
    large = torch.nn.functional.interpolate(tint.movedim(-1, 0)[None], size=(camera.height, camera.width))[0]
    return eight_bits(0.55 * picture.color.cpu().clamp(0, 1) + 0.45 * large.movedim(0, -1))


def _joined(
    picture: UInt8[np.ndarray, "H W 3"],
    photo: UInt8[np.ndarray, "H W 3"],
    inside: Bool[np.ndarray, "H W"],
    look: Look,
) -> UInt8[np.ndarray, "H W 3"]:
    """Photo left, render right: one over the other with a line between, or both whole and half as large."""
    height, width = picture.shape[:2]
    line = max(1, width // 400)
    if look.compare == "wipe":
        at = round(width * look.wipe)
        joined = picture.copy()
        joined[:, :at] = np.where(inside[:, :at, None], photo[:, :at], picture[:, :at] // 3)
        joined[:, max(0, at - line) : at + line] = 255
        return joined
    half, top = width // 2, height // 4
    joined = np.zeros_like(picture)
    small = (half, height - 2 * top)
    joined[top : height - top, :half] = cv2.resize(photo * inside[..., None], small, interpolation=cv2.INTER_AREA)
    joined[top : height - top, half : 2 * half] = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    joined[top : height - top, half - line : half + line] = 255
    return joined
