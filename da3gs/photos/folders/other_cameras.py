"""Cameras that other programs left beside photos in forms that are not read: named, so that none is lost in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from da3gs.photos.folders.survey import Found, Survey
from da3gs.photos.naming import shown

CAMERAS = "holds cameras in a form that is not read; export them as COLMAP or transforms.json"


class _Form(NamedTuple):
    """Files of cameras: which program's, how they are called, and what one begins with."""

    program: str
    name: re.Pattern[str]
    start: re.Pattern[bytes] | None = None


_HEAD = 4096
_ROW = rb"\s*(-?[\d.]+(e[-+]?\d+)?|-?inf|nan)([\s,]+(-?[\d.]+(e[-+]?\d+)?|-?inf|nan)){%s}\s*([\r\n]|$)"
_FORMS = (
    _Form("LLFF", re.compile(r"(.*/)?poses_bounds[^/]*\.npy")),
    _Form("IDR and NeuS", re.compile(r"(.*/)?cameras[^/]*\.npz")),
    _Form("Metashape", re.compile(r".*\.xml"), re.compile(rb"\s*(<\?xml[^>]*>)?\s*<document\b[\s\S]*<chunk\b")),
    _Form("ContextCapture", re.compile(r".*\.xml"), re.compile(rb"\s*(<\?xml[^>]*>)?\s*<BlocksExchange\b")),
    _Form("Bundler", re.compile(r".*\.out"), re.compile(rb"# Bundle file")),
    _Form("VisualSFM", re.compile(r".*\.nvm"), re.compile(rb"NVM_V3")),
    _Form("OpenMVG", re.compile(r".*\.json"), re.compile(rb'\s*\{\s*"sfm_data_version"')),
    _Form("Meshroom", re.compile(r".*\.sfm"), re.compile(rb"\s*\{")),
    _Form("OpenSfM", re.compile(r"(.*/)?reconstruction[^/]*\.json"), re.compile(rb"\s*\[\s*\{")),
    _Form("SDFStudio", re.compile(r"(.*/)?meta_data\.json"), re.compile(rb"\s*\{")),
    _Form("RealityCapture", re.compile(r".*\.csv"), re.compile(rb"#\s*name\s*,\s*x\s*,\s*y\s*,", re.I)),
    _Form("Stray Scanner", re.compile(r"(.*/)?odometry\.csv"), re.compile(rb"\s*timestamp\s*,")),
    _Form("Pix4D", re.compile(r"(.*/)?[^/]*calibrated_(camera_parameters|external_camera)[^/]*\.txt")),
    _Form("MVSNet", re.compile(r"(.*/)?[^/]*cam[^/]*\.txt"), re.compile(rb"\s*extrinsic")),
    _Form("a matrix a photo", re.compile(r".*(pose|extrinsic|cam2world|c2w|w2c)[^/]*(/[^/]*)?\.txt"),
          re.compile(_ROW % b"3,15")),
    _Form("TUM", re.compile(r"(.*/)?(groundtruth|[^/]*traj)[^/]*\.txt"), re.compile(rb"(#[^\n]*\n)*" + _ROW % b"7,11")),
)  # fmt: skip
_DIGITS = re.compile(r"\d+")


def other_cameras(found: Survey) -> dict[str, str]:
    """Whose cameras a file holds, by the name of each that does; one of a numbered series speaks for all."""
    known: dict[str, str | None] = {}
    for file in _possible(found):
        series = _DIGITS.sub("0", file.name)
        if series not in known:
            known[series] = _program(file)
    names = {file.name: known[_DIGITS.sub("0", file.name)] for file in _possible(found)}
    return {name: program for name, program in names.items() if program is not None}


def note_on(cameras: dict[str, str]) -> tuple[str, ...]:
    """A line that tells of such cameras and what to do; none where there are none."""
    if not cameras:
        return ()
    first = next(iter(cameras))
    told = f"{shown(first)} holds cameras ({cameras[first]}), which are not read"
    return (f"{told}: export them as COLMAP or transforms.json",)


def _possible(found: Survey) -> Iterator[Found]:
    return (f for f in found.files if f.kind in ("file", "json"))


def _program(file: Found) -> str | None:
    """Whose cameras a file holds, by its name and how it begins."""
    forms = [form for form in _FORMS if form.name.fullmatch(file.name.lower())]
    if not forms:
        return None
    try:
        with file.path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return None
    return next((form.program for form in forms if form.start is None or form.start.match(head)), None)
