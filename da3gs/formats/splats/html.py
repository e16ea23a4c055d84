"""One page that shows splats: opens from disk, without a network, in any browser with WebGL 2.

The splats stand in the page as a ``.sog`` file in base64, so that nothing is lost beside what that format loses; our
own player, of the files in ``player/``, unpacks, sorts and draws them with all their harmonics. The page may load
nothing, and its Content-Security-Policy allows the one script and style sheet that it holds, by their hashes.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from da3gs._files import atomic_file, open_regular
from da3gs.cameras import look_at
from da3gs.errors import InputError
from da3gs.formats.axes import ALL_AXES
from da3gs.formats.records import Format, PageView, SplatFile, WriteOptions
from da3gs.formats.splats.compressed_ply import morton_order
from da3gs.formats.splats.sog import read_sog_bytes, sog_bytes
from da3gs.gaussians import Gaussians

_SCRIPTS = ("camera.js", "engine.js", "drawing.js", "controls.js", "ruler.js", "immersion.js", "main.js")
_GENERATOR = b'<meta name="generator" content="da3gs splat page">'
_SPLATS = re.compile(rb'<script type="application/octet-stream" id="splats">\s*([A-Za-z0-9+/=]*)\s*</script>')
_SCENE = re.compile(rb'<script type="application/json" id="scene">[^<]*"axes": "([A-Z]{3})"')
_SAMPLES = 1_000_000
_PALETTE_SHARE = 8  # of splats of degree 3 half the bytes would be the palette, for 3 dB beyond 46


def save_html(
    gaussians: Gaussians,
    path: Path | str,
    *,
    views: Sequence[PageView] = (),
    up: Sequence[float] = (0.0, -1.0, 0.0),
    title: str | None = None,
    note: str = "",
    overwrite: bool = False,
) -> None:
    """Write a page that shows splats and opens at the first of the views.

    Args:
        gaussians: splats without a batch axis.
        path: the file; it appears whole or not at all.
        views: cameras to stand at; without any, one that sees the whole from outside.
        up: the direction up in the world.
        title: the file's name by default; like every text here it is only ever shown, never taken as markup.
        note: a line for the help, such as where the scene comes from.
        overwrite: replace an existing file.

    Raises:
        InputError: a number is not finite, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    options = WriteOptions(views=views, up=up, note=note)
    page = html_bytes(gaussians, path.name, options, title=title)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(page)


def html_bytes(gaussians: Gaussians, name: str, options: WriteOptions, *, title: str | None = None) -> bytes:
    """Bytes that ``save_html`` writes; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite.
    """
    packed = sog_bytes(gaussians, name, dataclasses.replace(options, palette_share=_PALETTE_SHARE))
    data = base64.b64encode(packed).decode()
    up = options.up
    shown = options.views or (outside_view(gaussians, up),)
    scene = {
        "views": [_as_json(view) for view in shown], "up": [float(x) for x in up], "unit": options.unit,
        "axes": options.axes,
    }  # fmt: skip
    style, script = _player()
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; worker-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    fields = {
        "POLICY": policy,
        "TITLE": html.escape(_line(Path(name).stem if title is None else title)),
        "NOTE": html.escape(_line(options.note)),
        "STYLE": style,
        "SCRIPT": script,
        "SCENE": _script_json(scene),
        "SPLATS": data,
    }
    return re.sub("@([A-Z]+)@", lambda found: fields[found[1]], _asset("page.html")).encode("utf-8", "replace")


def load_html(path: Path | str) -> SplatFile:
    """Read the splats of a page that ``save_html`` wrote.

    Raises:
        InputError: the file is missing, damaged, or another page.
    """
    path = Path(path)
    with open_regular(path) as file:
        data = file.read()
    if not is_page(data[:4096]):
        raise InputError(f"{path.name} is not a splat page of da3gs; only pages that da3gs exported can be read")
    found = _SPLATS.search(data)
    if found is None:
        raise InputError(f"{path.name} is damaged or cut short: its splats are missing")
    try:
        packed = base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise InputError(f"{path.name} is damaged: its splats are not base64 ({error})") from error
    scene = _SCENE.search(data)
    axes = scene[1].decode() if scene is not None else ""
    read = read_sog_bytes(packed, path.name)
    if axes not in ALL_AXES:
        return read
    return dataclasses.replace(read, axes=axes, reason="stated by the file", stated=True)


def is_page(start: bytes) -> bool:
    """Whether a file that begins like this is a page of ours; 1 kB is enough."""
    return start.lstrip().lower().startswith(b"<!doctype html") and _GENERATOR in start


def outside_view(gaussians: Gaussians, up: Sequence[float]) -> PageView:
    """A camera in front of the splats that sees nine tenths of them."""
    means = gaussians.means[:: 1 + len(gaussians) // _SAMPLES].detach().cpu().double()
    means = means[means.isfinite().all(-1)]
    if not len(means):
        means = torch.zeros(1, 3, dtype=torch.float64)
    low, high = means.quantile(0.05, 0), means.quantile(0.95, 0)
    center, radius = (low + high) / 2, max(float((high - low).norm()) / 2, 1e-6)
    angle, side = math.radians(50), 1000
    distance = 1.2 * radius / math.sin(angle / 2)
    eye = center - distance * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    pose = look_at(eye, center, torch.tensor(list(up), dtype=torch.float64)).inverse().numpy()
    focal = side / 2 / math.tan(angle / 2)
    intrinsics = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    return PageView(
        name="from outside", height=side, width=side, intrinsics=intrinsics, cam_to_world=pose, distance=distance
    )


def _as_json(view: PageView) -> dict[str, Any]:
    """As the player has it."""
    k, pose = view.intrinsics, view.cam_to_world
    return {
        "name": _line(view.name),
        "width": view.width,
        "height": view.height,
        "fx": float(k[0, 0]), "fy": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2]),
        "position": pose[:3, 3].tolist(),
        "rotation": pose[:3, :3].ravel().tolist(),
        "distance": float(view.distance),
    }  # fmt: skip


def _script_json(value: object) -> str:
    """JSON that no HTML parser takes for markup."""
    text = json.dumps(value, allow_nan=False)  # ASCII only
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _line(text: str) -> str:
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())[:300]


def _asset(name: str) -> str:
    return (resources.files("da3gs.formats") / "player" / name).read_text(encoding="utf-8")


@functools.cache
def _player() -> tuple[str, str]:
    """The style sheet and the script, whole, without comments and indentation."""
    lines = [line.strip() for name in _SCRIPTS for line in _asset(name).splitlines()]
    script = "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"
    return _asset("page.css"), f'"use strict";\n(() => {{\n{script}}})();\n'


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


FORMAT = Format(
    name="html",
    suffix=".html",
    begins=lambda start, _: is_page(start),
    load=load_html,
    order=lambda gaussians: torch.from_numpy(morton_order(gaussians.means.numpy())),
    keeps=("up", "unit"),
    encode=lambda gaussians, name, options: [html_bytes(gaussians, name, options)],
)
"""A page of ours."""
