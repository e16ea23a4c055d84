"""``da3gs render``: videos, frames and pictures of a scene."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Literal, Optional

from tyro.conf import Positional

from da3gs.cli._parse import DRAWING, Command, DrawingOptions, FileFrame, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError

MAX_SIDE = 16384


@dataclasses.dataclass(frozen=True, kw_only=True)
class Render(Command):
    """Render a video (.mp4, .gif, .webp), one picture (.png, .jpg) or a folder of frames of a scene.

    Without --size the video has the photos' or the path file's size. A folder has no suffix, or a trailing slash.
    """

    source: Annotated[Positional[str], option("SCENE|FILE.ply", hint="")]
    """A scene folder, or a splat file."""
    output: Annotated[str, option("OUT.mp4|OUT.gif|OUT.webp|OUT.png|OUT.jpg|OUT_DIR", "-o", hint="(required)")]
    """What to write; the suffix says what."""
    overwrite: Switch = False
    """Replace the output if it is of the same kind."""
    frame: FileFrame = None
    """Axes of the numbers of a splat file: opencv, opengl, colmap or supersplat."""
    path: Annotated[str, option("NAME|FILE")] = "wander"
    """How the camera moves: wander, spiral, orbit, ellipse, interpolate, inputs; the official smooth,
    interpolate_smooth, extend, dolly_zoom, wobble_inter; or a file: nerfstudio or nerfview camera path, Inria
    cameras.json, transforms.json, COLMAP folder, SuperSplat settings.json (told apart by content)."""
    camera: Annotated[Optional[str], option("NAME|INDEX", hint="")] = None
    """One of the scene's cameras instead of a path."""
    size: Annotated[Optional[str], option("WxH", hint="")] = None
    """Size of the picture in pixels."""
    fps: Annotated[Optional[float], option("F", hint="(default: 24, or the path file's)")] = None
    """Frames a second of a video."""
    seconds: Annotated[Optional[float], option("S", hint="(default: 4, or the path file's)")] = None
    """Length of a video."""
    depth: Switch = False
    """Depth instead of colour: colour-mapped in a video, float32 .npy in a folder."""
    mask: Switch = False
    """Coverage instead of colour."""
    background: Annotated[Optional[str], option("R,G,B", hint="(default: black)")] = None
    """Colour behind the splats, each 0 to 1."""
    antialias: Switch = False
    """Splats smaller than a pixel grow fainter instead of larger; what the file says is done without it."""
    frames: Literal["png", "jpg", "webp"] = "png"
    """What the pictures in a folder are: png and webp without loss, jpg smaller."""
    common: DrawingOptions = DRAWING

    def run(self, session: Session) -> int:
        """Render, write, say where it is."""
        size = None if self.size is None else parse_size(self.size)
        background = None if self.background is None else parse_color(self.background)
        from da3gs.cli._scenes import open_scene
        from da3gs.pipeline.render_path import SUFFIXES, render_path
        from da3gs.rendering import PATH_NAMES
        from da3gs.scene import check_output

        inputs = [self.source] if self.path in PATH_NAMES else [self.source, self.path]
        check_output(self.output, overwrite=self.overwrite, inputs=inputs, suffixes=SUFFIXES)
        with session.progress() as progress:
            written = render_path(
                open_scene(self.source, frame=self.frame, device=self.common.device),
                self.output,
                path=self.path,
                camera=self.camera,
                size=size,
                fps=self.fps,
                seconds=self.seconds,
                depth=self.depth,
                mask=self.mask,
                background=background,
                backend=self.common.backend,
                antialias=self.antialias or None,
                frames=self.frames,
                overwrite=self.overwrite,
                progress=progress,
            )
        session.result({"output": self.output, "frames": written})
        session.print(f"{self.output}: {written} frame{'s' if written != 1 else ''}")
        return 0


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of ``WxH``.

    >>> parse_size("960x540")
    (960, 540)
    """
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text.lower())
    if match is None:
        raise InputError(f"--size takes WIDTHxHEIGHT such as 960x540, got {text!r}")
    width, height = int(match[1]), int(match[2])
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"--size {text} is out of range; each side is 1 to {MAX_SIDE}")
    return width, height


def parse_color(text: str) -> tuple[float, float, float]:
    """Red, green and blue of ``r,g,b``, each 0 to 1.

    >>> parse_color("0,0.5,1")
    (0.0, 0.5, 1.0)
    """
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--background takes three numbers from 0 to 1 such as 1,1,1, got {text!r}") from None
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise InputError(f"--background takes numbers from 0 to 1, got {text!r}")
    return red, green, blue


COMMAND = Render
