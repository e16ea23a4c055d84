"""Viewers that others wrote, in Chromium: the picture that each makes of a file from a fixed camera."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from da3gs.formats.axes import axes_change
from da3gs.gaussians import Gaussians
from da3gs.rendering import render
from tests.readers.programs import HERE, MODULES
from tests.readers.unsymmetric import EYE, FOV, HEIGHT, TARGET, UP, WIDTH, fixed_camera

SITE = "http://viewers.test/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Viewer:
    """A program that draws splats in a browser."""

    name: str
    package: str
    """Of npm."""
    page: str
    """In ``pages``."""
    shown: dict[str, str]
    """Which axes its world gets from which file of ours, in letters: with y up (U) a scene stands upright."""
    refused: dict[str, str]
    """What it says of files that it does not open."""

    def picture(self, chromium: Any, path: Path, axes: str) -> np.ndarray:
        """What it shows of a file."""
        return picture(chromium, self.page, path, axes)


VIEWERS = (
    Viewer(
        name="Spark",
        package="@sparkjsdev/spark",
        page="spark.html",
        shown={"a.ply": "RDF", "a.compressed.ply": "RDF", "a.splat": "RDF", "3.spz": "RUB", "a.sog": "RDF"},
        refused={"a.spz": "Invalid gzip header"},
    ),
    Viewer(
        name="three.js",
        package="three",
        page="three.html",
        shown={"a.ply": "RDF", "a.splat": "RDF", "a.spz": "RDF", "3.spz": "RUB", "a.glb": "LUF"},
        refused={"a.compressed.ply": "requires position"},
    ),
    Viewer(
        name="Babylon.js",
        package="babylonjs",
        page="babylon.html",  # its worlds are left-handed, and it mirrors what it loads
        shown={
            "a.ply": "RUF", "a.compressed.ply": "RUF", "a.splat": "RUF", "a.spz": "RDB", "3.spz": "RDB",
            "a.sog": "RUF", "sog/meta.json": "RUF", "lod/lod-meta.json": "RFD", "a.glb": "RUF",
        },
        refused={},
    ),
    Viewer(
        name="PlayCanvas engine",
        package="playcanvas",
        page="playcanvas.html",  # with the parser of .spz that comes beside the engine
        shown={
            "a.ply": "RDF", "a.compressed.ply": "RDF", "a.spz": "RDF", "a.sog": "RDF", "sog/meta.json": "RDF",
            "lod/lod-meta.json": "RDF", "a.glb": "LUF",
        },
        refused={"3.spz": "only version 4 is supported", "a.splat": "No parser found"},
    ),
)  # fmt: skip


class ViewerError(RuntimeError):
    """A viewer that shows nothing, or complains."""


def picture(chromium: Any, page_name: str, path: Path, axes: str, *, wait: int = 60) -> np.ndarray:
    """What a page of ``pages/`` shows of a file, height x width x 3 bytes.

    Args:
        chromium: the browser.
        page_name: of the file in ``pages``.
        path: the splat file; files beside it are served too.
        axes: directions of x, y and z, in letters, that the program's world gets from this file: the camera is put
            where it stands in them.
        wait: seconds, at most, until the picture stands still.

    Raises:
        ViewerError: the program reports an error or shows nothing.
    """
    change = axes_change("RDF", axes)
    placed = {
        name: (change @ torch.tensor(point, dtype=torch.float64)).tolist()
        for name, point in (("eye", EYE), ("target", TARGET), ("up", UP))
    }
    asked = {"width": WIDTH, "height": HEIGHT, "fov": FOV, "file": f"/splats/{path.name}", **placed}
    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.route("**/*", functools.partial(_serve, page_name, path.parent))
    try:
        page.goto(SITE + "#" + json.dumps(asked))
        _wait(page, complaints, wait)
        return _still(page, complaints, wait)
    finally:
        context.close()


def _wait(page: Any, complaints: list[str], seconds: int) -> None:
    """Until the splats are loaded."""
    for _ in range(seconds * 4):
        if complaints:
            raise ViewerError(complaints[0][:300])
        if page.evaluate("window.count > 0"):
            return
        page.wait_for_timeout(250)
    raise ViewerError(f"no splats after {seconds} s")


def _still(page: Any, complaints: list[str], seconds: int) -> np.ndarray:
    """The first picture that is not dark and equals the one before."""
    before = np.zeros(0)
    for _ in range(seconds * 2):
        page.wait_for_timeout(500)
        seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        if complaints:
            raise ViewerError(complaints[0][:300])
        if np.array_equal(seen, before) and seen.max() > 100:
            return seen
        before = seen
    raise ViewerError("dark" if before.max() <= 100 else f"never still within {seconds} s")


def _serve(page_name: str, folder: Path, route: Any) -> None:
    """The page, the programs' files and the splats; nothing of other machines."""
    place = route.request.url.removeprefix(SITE).partition("?")[0].partition("#")[0]
    file = MODULES / place
    if place == "":
        file = HERE / "pages" / page_name
    elif place.startswith("splats/"):
        file = folder / place.removeprefix("splats/")
    if not route.request.url.startswith(SITE) or not file.is_file():
        route.fulfill(status=404) if place == "favicon.ico" else route.abort()
        return
    kinds = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json"}
    kind = kinds.get(file.suffix, "application/wasm" if file.suffix == ".wasm" else "application/octet-stream")
    route.fulfill(body=file.read_bytes(), content_type=kind)


def our_picture(gaussians: Gaussians) -> np.ndarray:
    """What our renderer shows of splats in a PLY's axes."""
    color = render(gaussians, fixed_camera(), backend="cpu").color
    return (color.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of two pictures of bytes."""
    return float(-10 * np.log10(max(1e-10, np.mean((a.astype(float) / 255 - b.astype(float) / 255) ** 2))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likeness:
    """How a picture compares with ours, and with ours spoilt."""

    psnr: float
    """Against ours."""
    spoilt: float
    """The best against ours turned, mirrored, or with its colours in another order."""


def likeness(seen: np.ndarray, ours: np.ndarray) -> Likeness:
    """Compare a program's picture with ours."""
    spoilt = (ours[::-1], ours[:, ::-1], ours[::-1, ::-1], ours[..., ::-1], ours[..., [1, 0, 2]], ours[..., [0, 2, 1]])
    return Likeness(psnr=psnr(seen, ours), spoilt=max(psnr(seen, other) for other in spoilt))
