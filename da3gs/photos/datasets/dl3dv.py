"""DL3DV-style data: many posed scenes under one root, read frame by frame; the one reader for evaluation and training.

    data = open_dl3dv(root)                      # a root, one scene folder, one .torch chunk, or a folder of chunks
    for key in data:                             # keys in sorted order; nothing is opened yet
        scene = data[key]                        # opens it: cameras of all frames, checked
        scene.cam_to_world, scene.intrinsics     # float64, [N, 4, 4] and [N, 3, 3]; OpenCV; see PosedScene
        pixels = scene.picture(12)               # decodes frame 12: uint8 sRGB [H, W, 3]

A frame's number is its position in the scene's own list (transforms.json, or a chunk's timestamps): the number that
published splits mean. A photo that is missing or broken keeps its number and raises when it is asked for.

Layouts: ``KEY/nerfstudio/transforms.json`` (DL3DV-Benchmark), ``BATCH/KEY/transforms.json`` (DL3DV-ALL), with
``images`` or ``images_2``, ``_4``, ``_8`` beside it; ``*.torch`` chunks, with ``index.json`` (key to chunk) where there
is one, also below ``train`` and ``test``. Links to folders are not followed.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, lens_of
from da3gs.formats.cameras.transforms import check_rigid, load_transforms
from da3gs.formats.jsonfile import load_json
from da3gs.formats.torch_chunk import SCENE_KEY, ChunkScene, load_chunk
from da3gs.photos.datasets.posed import copies_of
from da3gs.photos.decoding.images import decode_picture, read_header, read_picture
from da3gs.photos.folders.matching import Files
from da3gs.photos.folders.survey import stays_inside
from da3gs.photos.naming import portable, shown
from da3gs.photos.records import Unreadable
from da3gs.photos.resampling.undistort import undistorted

Scene = TypeVar("Scene")

_PLACES = ("transforms.json", "nerfstudio/transforms.json")
_DEEPEST = 3


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PosedScene:
    """Photos with cameras; pixels are read when asked for."""

    key: str
    """The scene's name."""
    names: tuple[str, ...]
    """One a frame: the picture's file name."""
    cam_to_world: Float[np.ndarray, "N 4 4"]
    """OpenCV axes, float64."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    """In units of the picture, float64: the first row divided by its width, the second by its height. Multiplied by a
    picture's width and height they are in pixels, whatever its size."""
    distortion: tuple[tuple[float, ...], ...]
    """Of each frame: k1, k2, p1, p2, k3 to k6; empty where there is none (chunks never have any)."""
    reader: Callable[[int], UInt8[np.ndarray, "H W 3"]]
    """Reads the pixels of a frame."""

    def __len__(self) -> int:
        """How many frames."""
        return len(self.names)

    def picture(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of a frame, sRGB, as stored (distorted, where the scene has distortion).

        Raises:
            InputError: there is no such frame, or its photo is missing or broken.
        """
        if not 0 <= index < len(self):
            raise InputError(f"{self.key} has frames 0 to {len(self) - 1}, not {index}; take another")
        try:
            return self.reader(index)
        except Unreadable as problem:
            raise InputError(f"{self.key}, frame {index}: {shown(self.names[index])} {problem}") from problem

    def pixel_intrinsics(self, index: int, height: int, width: int) -> Float[np.ndarray, "3 3"]:
        """The intrinsics of a frame in pixels of a picture of this size (the whole of it)."""
        return self.intrinsics[index] * np.array([[width], [height], [1.0]])

    def undistorted_picture(self, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "3 3"]]:
        """The pixels of a frame without lens distortion, cropped to what is known everywhere, and its intrinsics.

        Raises:
            InputError: as ``picture``.
        """
        image = self.picture(index)
        height, width = image.shape[:2]
        k = self.pixel_intrinsics(index, height, width)
        if not self.distortion[index]:
            return image, k
        lens = Lens(intrinsics=k, height=height, width=width, distortion=self.distortion[index])
        pixels, _, intrinsics = undistorted(image, None, lens)
        return pixels, intrinsics


class LazyScenes(Generic[Scene]):
    """Scenes by key, in sorted order; each is opened when it is asked for, and only then."""

    def __init__(self, openers: Mapping[str, Callable[[], Scene]], *, title: str) -> None:
        self._openers = dict(sorted(openers.items()))
        self.title = title
        """What to call the data in messages."""

    def __getitem__(self, key: str) -> Scene:
        """The scene, opened.

        Raises:
            InputError: it is broken, or there is none of that name.
        """
        opener = self._openers.get(key)
        if opener is None:
            raise InputError(f"{self.title} holds no scene {ascii(key)[:80]}; it holds {len(self)} others")
        return opener()

    def __contains__(self, key: object) -> bool:
        """Whether there is a scene of that name; nothing is opened."""
        return key in self._openers

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._openers)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._openers)


class PosedScenes(LazyScenes[PosedScene]):
    """Scenes with cameras."""


def open_dl3dv(root: Path | str, *, covering: tuple[int, int] | None = None) -> PosedScenes:
    """The scenes of a DL3DV-style root, of one scene folder, of a chunk or of a folder of chunks.

    Args:
        root: where they are.
        covering: height and width that pictures will be scaled to; of photos that are there in several sizes
            (``images_4`` beside ``images_8``) the smallest that is as large is read. By default the largest.

    Raises:
        InputError: there is no such path, it holds no scene, or a chunk or an index is broken.
    """
    root = Path(root)
    title = shown(root.name or str(root))
    if not root.exists():
        raise InputError(f"{shown(str(root))} does not exist; check the path")
    openers: dict[str, Callable[[], PosedScene]] = {}
    if root.is_file():
        if root.suffix != ".torch":
            raise InputError(f"{title} is no .torch chunk; give a folder of scenes or a chunk")
        _add_chunk(openers, root)
    else:
        _look(root.resolve() if not root.name else root, openers, 0, covering)
    if not openers:
        raise InputError(f"{title} holds neither scenes with a transforms.json nor .torch chunks; check the path")
    return PosedScenes(openers, title=title)


def transforms_scene(path: Path, key: str | None = None, covering: tuple[int, int] | None = None) -> PosedScene:
    """The frames of a ``transforms.json``, in the file's order; ``covering`` as in ``open_dl3dv``.

    Raises:
        InputError: the file is broken, or a path in it leads out of its folder.
    """
    root, label = path.parent, shown(path.name)
    frames = load_transforms(path).frames
    files = Files(root)
    photos = [copies_of(files, frame.file_path, f"{label}, frame {i}") for i, frame in enumerate(frames)]
    lenses: list[Lens] = []
    for index, (frame, copies) in enumerate(zip(frames, photos, strict=True)):
        photo = copies[0] if copies else None
        try:
            sized = "w" in frame.numbers and "h" in frame.numbers
            header = None if sized or photo is None else read_header(photo)
            lenses.append(frame.lens(header.height if header else 0, header.width if header else 0))
        except (InputError, Unreadable) as problem:
            raise InputError(f"{label}, frame {index}: {problem}") from problem

    def read(index: int) -> np.ndarray:
        """The smallest copy of a photo that is large enough."""
        if not photos[index]:
            raise Unreadable("is missing")
        image = read_picture(_smallest(photos[index], covering), upright=False).image
        if not lenses[index].fits(image.shape[0], image.shape[1]):
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise Unreadable(f"is {size}, but its camera is for {lenses[index].width}x{lenses[index].height}")
        return image

    sizes = np.array([[[lens.width], [lens.height], [1]] for lens in lenses], np.float64)
    return PosedScene(
        key=key or shown(root.resolve().name),
        names=tuple(Path(portable(frame.file_path)).name for frame in frames),
        cam_to_world=np.stack([frame.cam_to_world for frame in frames]),
        intrinsics=np.stack([lens.intrinsics for lens in lenses]) / sizes,
        distortion=tuple(lens.distortion for lens in lenses),
        reader=read,
    )


def _smallest(copies: Sequence[Path], covering: tuple[int, int] | None) -> Path:
    """The smallest copy of a photo that is as large as what will be made of it; the first where none is."""
    if covering is not None:
        for copy in reversed(copies[1:]):
            header = read_header(copy)
            if header.height >= covering[0] and header.width >= covering[1]:
                return copy
    return copies[0]


def _look(
    folder: Path, openers: dict[str, Callable[[], PosedScene]], depth: int, covering: tuple[int, int] | None
) -> None:
    """Scenes in a folder and below it; a name that is taken already is passed over."""
    for place in _PLACES:
        file = folder / place
        if file.is_file():
            name = folder.resolve().name
            if name == "nerfstudio" and place == _PLACES[0]:
                name = folder.resolve().parent.name
            if not stays_inside(file, folder):
                raise InputError(f"{shown(name)}/transforms.json is a link that leads out; put the file itself there")
            if not SCENE_KEY.fullmatch(name):
                raise InputError(f"the scene folder {shown(name)} must be named with letters, digits, '.', '_' and '-'")
            openers.setdefault(name, functools.partial(transforms_scene, file, name, covering))
            return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"the folder {shown(folder.name)} cannot be read ({error.strerror})") from error
    _add_chunks(openers, folder, [e.name for e in entries if e.name.endswith(".torch") and e.is_file()])
    if depth < _DEEPEST:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                _look(Path(entry.path), openers, depth + 1, covering)


def _add_chunks(openers: dict[str, Callable[[], PosedScene]], folder: Path, names: Sequence[str]) -> None:
    """The scenes of a folder's chunks: by its index where there is one, else by opening each."""
    if not names:
        return
    index = folder / "index.json"
    if not index.is_file():
        for name in names:
            _add_chunk(openers, folder / name)
        return
    content = load_json(index)
    if not isinstance(content, dict):
        raise InputError(f"{shown(folder.name)}/index.json must name the chunk of each scene")
    for key, name in content.items():
        if not SCENE_KEY.fullmatch(key):
            raise InputError(f"{shown(folder.name)}/index.json: {ascii(key)[:60]} is no name of a scene")
        if not isinstance(name, str) or name not in names:
            raise InputError(
                f"{shown(folder.name)}/index.json: {key[:60]} is said to be in {ascii(name)[:60]}, not here"
            )
        openers.setdefault(key, functools.partial(_scene_of_chunk, folder / name, key))


def _add_chunk(openers: dict[str, Callable[[], PosedScene]], path: Path) -> None:
    for scene in load_chunk(path):
        openers.setdefault(scene.key, functools.partial(_scene_of_chunk, path, scene.key))


def _scene_of_chunk(path: Path, key: str) -> PosedScene:
    for scene in load_chunk(path):
        if scene.key == key:
            return _chunk_scene(scene, f"{shown(path.name)}, {key}")
    raise InputError(f"{shown(path.name)} holds no scene {key}, though index.json says so")


def _chunk_scene(scene: ChunkScene, where: str) -> PosedScene:
    for index, (k, pose) in enumerate(zip(scene.intrinsics, scene.world_to_cam, strict=True)):
        check_rigid(pose, f"{where}, frame {index}: its camera")
        # In units of the picture: checked as if it were a thousand pixels wide and high.
        lens_of(fx=1e3 * k[0, 0], fy=1e3 * k[1, 1], cx=1e3 * k[0, 2], cy=1e3 * k[1, 2], height=1000, width=1000)
    rotation, translation = scene.world_to_cam[:, :3, :3], scene.world_to_cam[:, :3, 3:]
    cam_to_world = np.tile(np.eye(4), (len(rotation), 1, 1))
    cam_to_world[:, :3, :3] = rotation.swapaxes(1, 2)
    cam_to_world[:, :3, 3:] = -rotation.swapaxes(1, 2) @ translation

    def read(index: int) -> np.ndarray:
        """A photo of the chunk."""
        return decode_picture(scene.images[index].numpy().tobytes()).image

    return PosedScene(
        key=scene.key,
        names=tuple(f"frame_{stamp:05d}" for stamp in scene.timestamps),
        cam_to_world=cam_to_world,
        intrinsics=scene.intrinsics,
        distortion=((),) * len(scene.timestamps),
        reader=read,
    )
