"""What an input is, told by its content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs.errors import InputError
from da3gs.photos.candidates import Collection
from da3gs.photos.folders import folder_photos, photo_files
from da3gs.photos.naming import shown


def collected(paths: Sequence[Path], *, views: int | None, fps: float | None, progress: Progress) -> Collection:
    """The photos that the input offers.

    Raises:
        InputError: there is no such input, or it holds nothing to use.
    """
    if not paths:
        raise InputError(
            "no input was given; name photos, a folder, a zip, a video, a transforms.json or a COLMAP model"
        )
    for path in paths:
        if not path.exists():
            raise InputError(f"{shown(str(path))} does not exist")
    if len(paths) > 1:
        return photo_files(paths)
    if paths[0].is_dir():
        return folder_photos(paths[0])
    return photo_files(paths)
