"""Cameras found in the photos of a scene without poses, of context and target frames alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from da3gs._progress import Progress, silent
from da3gs.errors import InputError
from da3gs.evaluation.data import EvalScene, Frame
from da3gs.photos import LoadedPhotos, load_photos
from da3gs.pipeline.camera_source import camera_source, with_cameras
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.settings import Settings
from da3gs.poses.structure_from_motion import MOST_PHOTOS


def with_found_cameras(
    scene: EvalScene, root: Path, model: LoadedModel, settings: Settings, progress: Progress = silent
) -> EvalScene | None:
    """The scene with the cameras that ``reconstruct`` finds in photos without poses; None where it finds none.

    All frames take part in the search, so that context and targets stand in one world. Those that cannot be placed are
    left out.

    Args:
        scene: of one input without poses.
        root: that input.
        model: tells where the search for the focal length begins, and whether its own cameras are better.
        settings: of ``reconstruct``.
        progress: told how many photos are placed.
    """
    if camera_source(settings, model.card, posed=False) != "photos":
        return None
    resolution = model.card.resolution if settings.resolution == "auto" else settings.resolution
    photos = load_photos(root, resolution=resolution, views=MOST_PHOTOS, progress=progress)
    found = with_cameras(photos, model, dataclasses.replace(settings, views=MOST_PHOTOS), progress)
    return None if found.views.cameras is None or len(found.photos) < 2 else _posed(scene, found)


def _posed(scene: EvalScene, found: LoadedPhotos) -> EvalScene:
    """The scene whose frames are photos with found cameras; a frame's position stays what it was."""
    photos = {scene.names.index(photo.name): photo for photo in found.photos}
    assert found.cam_to_world_given is not None
    cam_to_world = np.tile(np.eye(4), (len(scene), 1, 1))
    cam_to_world[list(photos)] = found.cam_to_world_given

    def read(index: int, undistort: bool) -> Frame:
        """A placed photo, without the distortion that was found; there is no other camera that it fits."""
        if index not in photos:
            raise InputError(f"{scene.key}, frame {index}: no camera could be found for it")
        original = photos[index].read()
        return Frame(image=original.image, mask=original.mask, intrinsics=original.intrinsics)

    return EvalScene(
        key=scene.key, names=scene.names, cam_to_world=cam_to_world, read=read,
        placements={index: placement for index, photo in photos.items() if (placement := photo.placement)},
        one_spot=found.one_spot,
    )  # fmt: skip
