"""Viewers that we did not write show of our files what our renderer shows, the right way round and in our colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3gs.formats import load_gaussians
from tests.readers.programs import save_as, version
from tests.readers.unsymmetric import unsymmetric_gaussians
from tests.readers.viewers import VIEWERS, Viewer, ViewerError, likeness, our_picture

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

LEAST = 28.0
"""dB. three.js cuts splats off at twice their standard deviation (29.5), PlayCanvas' are smaller than ours by the blur
of a pixel (34); Spark and Babylon.js reach 44."""
APART = 8.0
"""dB that our picture has to be nearer than any that is turned, mirrored, or has colours swapped."""


def opened(viewer: Viewer) -> None:
    if version(viewer.package) is None:
        pytest.skip(f"{viewer.name} is not installed; make test-readers installs it (needs node)")


@pytest.mark.parametrize(("viewer", "name"), [pytest.param(v, n, id=f"{v.name}-{n}") for v in VIEWERS for n in v.shown])
def test_a_viewer_shows_what_we_show(chromium: Any, tmp_path: Path, viewer: Viewer, name: str) -> None:
    opened(viewer)
    path = save_as(unsymmetric_gaussians(), tmp_path / name)
    ours = our_picture(load_gaussians(path))
    seen = viewer.picture(chromium, path, viewer.shown[name])
    if folder := os.environ.get("DA3GS_SCREENSHOTS"):
        title = f"{viewer.package}-{name}".replace("/", "_")
        Image.fromarray(np.concatenate((seen, ours), 1)).save(Path(folder) / f"{title}.png")
    found = likeness(seen, ours)
    print(f"{viewer.name}, {name}: {found.psnr:.2f} dB, spoilt {found.spoilt:.2f} dB")
    assert found.psnr >= LEAST
    assert found.psnr >= found.spoilt + APART


@pytest.mark.parametrize(
    ("viewer", "name"), [pytest.param(v, n, id=f"{v.name}-{n}") for v in VIEWERS for n in v.refused]
)
def test_what_a_viewer_refuses(chromium: Any, tmp_path: Path, viewer: Viewer, name: str) -> None:
    """Files that a later version of it may open: then the table in the docs has to say so."""
    opened(viewer)
    path = save_as(unsymmetric_gaussians(), tmp_path / name)
    with pytest.raises(ViewerError, match=viewer.refused[name]):
        viewer.picture(chromium, path, "RDF")
