"""Conversions that lose: what is lost beyond the bounds is said with its figure, what is not is not."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import torch

from da3gs.exports.losses import measured_losses
from da3gs.exports.splat_file import load_bare
from da3gs.formats.registry import WRITTEN_SUFFIXES, written_format
from da3gs.gaussians import Gaussians
from da3gs.pipeline.export import prepared
from tests.hostile.right import case, right
from tests.hostile.right.splats import json_of, said_by, wall, written
from tests.small_scene import small_gaussians


def spread(count: int = 300, far: float = 0.0) -> Gaussians:
    """Small splats over a unit cube, and one far away."""
    generator = torch.Generator().manual_seed(1)
    means = torch.rand(count, 3, generator=generator)
    means[0] += far
    return dataclasses.replace(
        small_gaussians(count),
        means=means,
        scales=torch.full((count, 3), 0.02),
        harmonics=torch.rand(count, 1, 3, generator=generator) - 0.5,
    )


def _measured(suffix: str, tmp_path: Path) -> None:
    """The figure is the distance between what went in and what comes out, splat by splat."""
    path = tmp_path / (f"web/{suffix}" if suffix.endswith(".json") else f"a{suffix}")
    ready = prepared(spread(), path)
    ready.write()
    found = ready.losses()
    assert found is not None
    if written_format(suffix).lossless:
        found = measured_losses(ready.content.gaussians, path, written_format(suffix), exact=True)
        assert found.lines() == []
    assert found.positions < 2e-3
    assert found.colors < 6
    assert found.opacities < 2
    assert found.sizes < 0.06
    assert ("positions" in " ".join(found.lines())) == (found.positions_relative > 1e-3)


for suffix in WRITTEN_SUFFIXES:
    case("losses", f"measured-in{suffix}", functools.partial(_measured, suffix))


def _coarse(suffix: str, tmp_path: Path) -> None:
    """One splat far away takes the bits of all others, and the line has the figure."""
    ready = prepared(spread(far=20_000.0), tmp_path / f"a{suffix}")
    ready.write()
    found = ready.losses()
    assert found is not None
    assert found.positions_relative > 1e-3
    again = load_bare(tmp_path / f"a{suffix}").turned(ready.content.frame).gaussians.means  # type: ignore[union-attr]
    worst = float(torch.cdist(ready.content.gaussians.means.double(), again.double()).amin(1).max())
    assert found.positions >= 0.99 * worst
    assert re.search(r"positions up to [0-9.e+]+ off, [0-9.]+% of the median splat", " ".join(found.lines()))


for suffix in (".spz", ".sog", ".compressed.ply"):
    case("losses", f"coarse-in{suffix}", functools.partial(_coarse, suffix))


@right("losses")
def harmonics_that_have_no_place(tmp_path: Path) -> None:
    """.splat keeps no harmonics: colours change with the side that one looks from."""
    ready = prepared(small_gaussians(100, 16), tmp_path / "a.splat")
    ready.write()
    found = ready.losses()
    assert found is not None
    assert found.colors > 10
    assert any(line.startswith("colours up to") for line in found.lines())


@right("losses")
def thinner_than_the_format(tmp_path: Path) -> None:
    """Splats smaller than .spz can say."""
    tiny = dataclasses.replace(spread(), scales=torch.full((300, 3), 1e-6))
    ready = prepared(tiny, tmp_path / "a.spz")
    ready.write()
    found = ready.losses()
    assert found is not None
    assert found.sizes > 10
    assert any(line.startswith("sizes up to") for line in found.lines())


@right("losses")
def brighter_than_the_format(tmp_path: Path) -> None:
    """Colours outside what .splat can store are clipped there, and by the screen alike: nothing is lost."""
    bright = dataclasses.replace(spread(), harmonics=torch.full((300, 1, 3), 4.0))
    ready = prepared(bright, tmp_path / "a.splat")
    ready.write()
    found = ready.losses()
    assert found is not None
    assert found.colors < 1


@right("losses")
def words_that_have_no_place(tmp_path: Path) -> None:
    """The direction up and the renderer that splats are for, by format."""
    path = written(tmp_path / "a.ply", wall(), comments=["Vertical axis: z", "SplatRenderMode: mip"])
    for name, kept in (("b.ply", 2), ("b.compressed.ply", 2), ("b.spz", 1), ("b.html", 1), ("b.splat", 0)):
        lost = json_of(["export", str(path), "-o", str(tmp_path / name), "--json"])["losses"]["not_kept"]
        assert len(lost) == 2 - kept, (name, lost)
    usual = written(tmp_path / "usual.ply", wall(), comments=["Vertical axis: y"])
    assert json_of(["export", str(usual), "-o", str(tmp_path / "c.spz"), "--json"])["losses"]["not_kept"] == []


@right("losses")
def said_on_stdout_and_in_json(tmp_path: Path) -> None:
    """The same line in both."""
    path = written(tmp_path / "a.ply", wall())
    out = ["-o", str(tmp_path / "b.compressed.ply")]
    lines = json_of(["export", str(path), *out, "--json"])["losses"]["beyond_bounds"]
    text = said_by(["export", str(path), *out, "--overwrite"])
    assert lines
    for line in lines:
        assert f"lost     {line}" in text
    assert "lost" not in said_by(["export", str(path), "-o", str(tmp_path / "b.ply")])


@right("losses")
def said_by_the_library(tmp_path: Path) -> None:
    """``da3gs.export`` warns too."""
    import logging

    from da3gs.pipeline.export import export

    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear = Ear()
    logging.getLogger("da3gs").addHandler(ear)
    try:
        export(spread(far=20_000.0), tmp_path / "a.sog")
    finally:
        logging.getLogger("da3gs").removeHandler(ear)
    assert any(message.startswith("a.sog: positions up to") for message in heard), heard


@right("losses")
def measured_in_many_places(tmp_path: Path) -> None:
    """Streamed SOG puts splats in the order of its places; they are compared one by one all the same."""
    from da3gs.formats.splats import streamed_sog

    leaf, file = streamed_sog._LEAF, streamed_sog._FILE
    streamed_sog._LEAF, streamed_sog._FILE = 40, 100
    try:
        ready = prepared(spread(), tmp_path / "web" / "lod-meta.json")
        ready.write()
        found = ready.losses()
    finally:
        streamed_sog._LEAF, streamed_sog._FILE = leaf, file
    assert found is not None
    assert 0 < found.positions < 2e-3
