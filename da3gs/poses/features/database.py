"""Features and matches of photos, in working copies and COLMAP's database that live as long as they are needed."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs._progress import Progress
from da3gs.photos import Photo
from da3gs.poses.features.matching import Features

LONG_SIDE = 1600
"""Of the working copies in pixels, at most."""
_NAME = "{:05d}.jpg"
_FEWEST_MATCHES = 15
THREADS = 1
"""Of COLMAP's solver: several add up in an order of their own, and the same photos give other cameras each time."""
_PROBE = 1 << 22  # bytes that the disk has to take
_DEFAULT_FOCAL = 1.2  # of the long side: what COLMAP assumes

Pair = tuple[int, int]
"""Positions of two photos, the smaller one first."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class WorkingCopy:
    """One photo as features are looked for in it."""

    path: Path
    """Its file."""
    height: int
    """Rows, at most ``LONG_SIDE``."""
    width: int
    """Columns."""
    focal: float | None
    """Focal length in pixels of the copy, where the input tells it."""
    mask: Bool[np.ndarray, "H W"] | None
    """True where a pixel counts; None means everywhere."""

    def color(self) -> UInt8[np.ndarray, "H W 3"]:
        """Its sRGB."""
        image = cv2.imread(str(self.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def grey(self) -> UInt8[np.ndarray, "H W"]:
        """Its brightness."""
        image = cv2.imread(str(self.path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        return np.asarray(image, np.uint8)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class FeatureDatabase:
    """Photos in a temporary folder with COLMAP's database of their features and matches."""

    folder: Path
    """Where everything lies."""
    copies: tuple[WorkingCopy, ...]
    """One a photo, in the photos' order."""
    groups: tuple[tuple[int, ...], ...]
    """Positions of the photos that one camera took, as far as can be known."""
    seed: int
    """Of the random samples."""

    @property
    def path(self) -> Path:
        """COLMAP's database."""
        return self.folder / "database.db"

    @property
    def images(self) -> Path:
        """The folder of the working copies."""
        return self.folder / "images"

    def __len__(self) -> int:
        """How many photos."""
        return len(self.copies)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """The database, open for reading and writing."""
        import pycolmap

        database = pycolmap.Database.open(self.path)
        try:
            yield database
        finally:
            database.close()

    def image_ids(self) -> dict[int, int]:
        """COLMAP's number of each photo."""
        with self.opened() as database:
            return {position_of(image.name): image.image_id for image in database.read_all_images()}

    def image(self, position: int) -> Any:
        """COLMAP's image of a photo, with its features."""
        import pycolmap

        with self.opened() as database:
            image = database.read_image(self.image_ids()[position])
            places = database.read_keypoints(image.image_id)[:, :2].astype(np.float64)
        return pycolmap.Image(name=image.name, keypoints=places, camera_id=image.camera_id, image_id=image.image_id)

    def camera(self, position: int) -> Any:
        """COLMAP's camera of a photo."""
        with self.opened() as database:
            return database.read_camera(database.read_image(self.image_ids()[position]).camera_id)

    def set_focals(self, shares: Sequence[float | None]) -> None:
        """The focal lengths to begin at, in long sides; those that the input tells come first, None is unknown."""
        with self.opened() as database:
            images = {position_of(image.name): image for image in database.read_all_images()}
            for group in self.groups:
                copies = [self.copies[i] for i in group]
                long_side = max(copies[0].height, copies[0].width)
                told = [c.focal for c in copies if c.focal is not None]
                guessed = [s * long_side for s in (shares[i] for i in group) if s is not None]
                camera = database.read_camera(images[group[0]].camera_id)
                params = camera.params.copy()
                params[0] = float(np.median(told or guessed or [_DEFAULT_FOCAL * long_side]))
                camera.params, camera.has_prior_focal_length = params, bool(told or guessed)
                database.update_camera(camera)

    def focals(self) -> list[float]:
        """The focal length of each photo to begin at, in pixels of its working copy."""
        with self.opened() as database:
            images = {position_of(image.name): image.camera_id for image in database.read_all_images()}
            cameras = {camera.camera_id: float(camera.params[0]) for camera in database.read_all_cameras()}
        return [cameras[images[i]] for i in range(len(self))]

    def unknown(self, group: Sequence[int]) -> bool:
        """Whether the input tells no focal length of any of these photos."""
        return all(self.copies[i].focal is None for i in group)

    def clear_features(self) -> None:
        """Forget all features and matches."""
        with self.opened() as database:
            database.clear_keypoints()
            database.clear_descriptors()
        self.clear_matches()

    def clear_matches(self) -> None:
        """Forget all matches; features stay."""
        with self.opened() as database:
            database.clear_matches()
            database.clear_two_view_geometries()

    def write_features(self, features: Sequence[Features]) -> None:
        """The features of all photos, in place of any others."""
        self.clear_features()
        ids = self.image_ids()
        with self.opened() as database:
            for position, found in enumerate(features):
                database.write_keypoints(ids[position], np.ascontiguousarray(found.keypoints, np.float32))

    def write_matches(self, matches: Mapping[Pair, np.ndarray], *, most_error: float = 4.0) -> None:
        """Matches (rows of two photos' features), verified by the geometry of two views."""
        import pycolmap

        ids = self.image_ids()
        pairs = []
        with self.opened() as database:
            for (one, two), rows in matches.items():
                if len(rows) >= _FEWEST_MATCHES:
                    database.write_matches(ids[one], ids[two], np.ascontiguousarray(rows, np.uint32))
                    pairs.append(f"{_NAME.format(one)} {_NAME.format(two)}")
        listed = self.folder / "pairs.txt"
        listed.write_text("\n".join(pairs))
        options = pycolmap.TwoViewGeometryOptions()
        options.ransac.random_seed, options.ransac.max_error = self.seed % 2**31, most_error
        if pairs:
            pycolmap.verify_matches(self.path, listed, options=options)

    @contextlib.contextmanager
    def replaced_geometries(self, matches: Mapping[Pair, np.ndarray]) -> Iterator[Callable[[], None]]:
        """These matches as the verified ones of their pairs inside the block, and for good where what is yielded is
        called."""
        import pycolmap

        ids, before, kept = self.image_ids(), [], []
        with self.opened() as database:
            for (one, two), rows in matches.items():
                pair = ids[one], ids[two]
                if database.exists_two_view_geometry(*pair):
                    before.append((pair, database.read_two_view_geometry(*pair)))
                    database.delete_two_view_geometry(*pair)
                geometry = pycolmap.TwoViewGeometry()
                geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
                geometry.inlier_matches = np.ascontiguousarray(rows, np.uint32)
                database.write_two_view_geometry(*pair, geometry)
        yield lambda: kept.append(True)
        if not kept:
            with self.opened() as database:
                for one, two in matches:
                    database.delete_two_view_geometry(ids[one], ids[two])
                for pair, geometry in before:
                    database.write_two_view_geometry(*pair, geometry)

    def verified(self) -> dict[Pair, Float[np.ndarray, "m 4"]]:
        """The verified matches: places (u, v, u', v') in pixels of the two working copies."""
        import pycolmap

        found = {}
        with self.opened() as database:
            position = {image.image_id: position_of(image.name) for image in database.read_all_images()}
            places = {i: database.read_keypoints(i)[:, :2] for i in position if database.exists_keypoints(i)}
            for pair_id, geometry in zip(*database.read_two_view_geometries(), strict=True):
                one, two = pycolmap.pair_id_to_image_pair(pair_id)
                rows = geometry.inlier_matches
                if not len(rows):
                    continue
                table = np.concatenate((places[one][rows[:, 0]], places[two][rows[:, 1]]), axis=1).astype(np.float64)
                swap = position[one] > position[two]
                key = (position[two], position[one]) if swap else (position[one], position[two])
                found[key] = table[:, [2, 3, 0, 1]] if swap else table
        return found


def position_of(name: str) -> int:
    """The position of the photo that a working copy's name tells."""
    return int(Path(name).stem)


@contextlib.contextmanager
def feature_database(
    photos: Sequence[Photo], *, shared_focal: bool, seed: int, progress: Progress
) -> Iterator[FeatureDatabase]:
    """Working copies of the photos, without features yet; everything goes when the block ends."""
    import pycolmap

    with tempfile.TemporaryDirectory(prefix="da3gs-sfm-") as name, _quiet():
        folder = Path(name)
        (folder / "images").mkdir()
        copies = []
        for position, photo in enumerate(photos):
            progress("preparing photos for matching", position, len(photos))
            copies.append(_copied(photo, folder / "images" / _NAME.format(position)))
        database = FeatureDatabase(
            folder=folder, copies=tuple(copies), groups=_camera_groups(copies, shared_focal), seed=seed
        )
        try:
            pycolmap.Database.open(database.path).close()
            for group in database.groups:
                names = [_NAME.format(i) for i in group]
                pycolmap.import_images(database.path, database.images, pycolmap.CameraMode.SINGLE, names)
            database.set_focals([None] * len(photos))
            yield database
        except RuntimeError:
            (folder / "probe").write_bytes(bytes(_PROBE))  # where it is the disk, say so
            raise


def _copied(photo: Photo, path: Path) -> WorkingCopy:
    """The upright photo at a bounded size."""
    original = photo.read()
    height, width = original.image.shape[:2]
    factor = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = cv2.resize(original.image, size, interpolation=cv2.INTER_AREA) if factor < 1 else original.image
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]):
        raise OSError(f"{path.name} could not be written")
    mask = original.mask
    if mask is not None:
        mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    known = original.intrinsics
    focal = None if known is None else float(known[0, 0] + known[1, 1]) / 2 * factor
    return WorkingCopy(path=path, height=size[1], width=size[0], focal=focal, mask=mask)


def _camera_groups(copies: Sequence[WorkingCopy], shared: bool) -> tuple[tuple[int, ...], ...]:
    """Photos of one size and one focal length as those of one camera; where nothing tells the focal length, only if all
    photos are alike."""
    if shared:
        return (tuple(range(len(copies))),)
    kinds = [
        (c.height, c.width, None if c.focal is None else round(c.focal / max(c.height, c.width), 3)) for c in copies
    ]
    alike = Counter(kinds)
    groups: dict[object, list[int]] = {}
    for position, kind in enumerate(kinds):
        known = kind[2] is not None or len(alike) == 1
        groups.setdefault(kind if known else position, []).append(position)
    return tuple(tuple(group) for group in groups.values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """COLMAP logs nothing inside, neither to stderr nor to files."""
    import pycolmap

    log = pycolmap.logging
    before = log.minloglevel, log.logtostderr
    log.minloglevel, log.logtostderr = 4, True
    try:
        yield
    finally:
        log.minloglevel, log.logtostderr = before


def all_pairs(count: int) -> Iterable[Pair]:
    """Every photo with every other."""
    return ((i, j) for i in range(count) for j in range(i + 1, count))
