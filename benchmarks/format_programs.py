"""Programs that others wrote, and what each makes of the files that da3gs writes, and da3gs of theirs.

    python -m benchmarks.format_programs [--costs NAME] [--only Spark,gsply] [--save NAME]

Every program of ``make test-readers`` opens a file of every format that it knows: its numbers are compared splat by
splat, or its picture of an unsymmetric scene from a fixed camera with ours. ``--costs`` names a table of
``python -m benchmarks.formats`` in ``results`` that says what each format loses; without it the earlier figures stay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.tables import RESULTS, save_table
from da3gs.exports.independent import decode_splats
from da3gs.formats import load_gaussians, save_gaussians
from tests.readers import programs
from tests.readers.programs import NUMBER_READERS, differences, save_as, splats_for, version
from tests.readers.unsymmetric import unsymmetric_gaussians
from tests.readers.viewers import VIEWERS, ViewerError, likeness, our_picture

THEIRS = ("a.ply", "a.compressed.ply", "a.spz", "3.spz", "a.sog", "sog/meta.json", "lod/lod-meta.json", "a.glb")
"""What splat-transform writes."""

NOT_RUN = {
    ("ply", "Blender 5.3"): "pip's newest bpy is 5.2.3 and splats came with 5.3",
    ("glb", "SuperSplat"): "a web application; its engine and its converter are above",
    ("spz", "Unity, aras-p 2.0"): "needs the Unity editor",
    ("ply", "ComfyUI"): "its splat nodes are no package of pip",
    ("usda", "Omniverse, Houdini, Arnold"): "licensed programs; OpenUSD's schema is what they read with",
}
"""Programs that are named by people who ask, and why they are not here."""

_STANDS = {"U": "upright", "D": "on its head", "F": "on its back", "B": "on its face"}


def row(name: str, program: str, package: str, opened: str, checked: str, found: str, stands: str) -> dict[str, Any]:
    """Of the table."""
    return {
        "format": "spz 3" if name == "3.spz" else Path(name).name.removeprefix("a."), "program": program,
        "version": version(package) if package else None, "opened": opened, "checked": checked, "found": found,
        "stands": stands,
    }  # fmt: skip


def missing(name: str, program: str, package: str) -> dict[str, Any]:
    """A row of a program that is not installed."""
    return row(name, program, package, "not run", "-", "not installed: make test-readers", "-")


def number_rows(folder: Path, only: set[str]) -> Iterator[dict[str, Any]]:
    """Programs whose numbers can be had."""
    for reader in NUMBER_READERS:
        for name in reader.opened if not only or reader.name in only else ():
            if version(reader.package) is None:
                yield missing(name, reader.name, reader.package)
                continue
            path = save_as(splats_for(name), folder / reader.name / name)
            seen = reader.seen(path, folder)
            found = differences(decode_splats(path), seen)
            upright = "upright"
            if not name.startswith("a.usd"):
                same = differences(load_gaussians(path), seen).means < 1e-4
                upright = "as the .ply" if same else "half a turn about x"
            told = f"largest difference {found.largest:.0e}"
            if name == "a.splat":
                told = f"rotations half a step apart ({found.rotations:.3f} rad)"
            yield row(name, reader.name, reader.package, "yes", "number by number", told, upright)


def reverse_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Files that splat-transform and the author of .ksplat write, read here."""
    package = "@playcanvas/splat-transform"
    for name in (*THEIRS, "a.ksplat"):
        who = "da3gs, of a file of " + ("splat-transform" if name != "a.ksplat" else "GaussianSplats3D")
        owner = package if name != "a.ksplat" else "@mkkellogg/gaussian-splats-3d"
        if version(package) is None or version(owner) is None:
            yield missing(name, who, owner)
            continue
        splats, path = splats_for(name), folder / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        source = folder / "source.ply"
        save_gaussians(splats, source, overwrite=True)
        if name == "a.ksplat":
            programs.write_ksplat(source, path, 1)
        else:
            programs.splat_transform(*(["--spz-version", 3] if name == "3.spz" else []), source, path)
        turned = name == "3.spz"  # which it writes in other axes than the specification of version 3
        found = differences(splats, load_gaussians(path, axes="RDF" if turned else None), sort=True)
        stands = "half a turn about x" if turned else "as the .ply"
        told = f"means within {found.means:.0e}, rotations {found.rotations:.0e} rad, scales {found.scales:.0e}"
        yield row(name, who, owner, "yes", "number by number, to what it was given", told, stands)


def picture_rows(folder: Path, only: set[str]) -> Iterator[dict[str, Any]]:
    """Viewers in Chromium."""
    from playwright import sync_api

    from tests.browser.conftest import CHROMIUM, FLAGS

    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)) if CHROMIUM else None
        for viewer in VIEWERS:
            for name in (*viewer.shown, *viewer.refused) if not only or viewer.name in only else ():
                if version(viewer.package) is None or browser is None:
                    yield missing(name, viewer.name, viewer.package)
                    continue
                path = save_as(unsymmetric_gaussians(), folder / viewer.page / name)
                axes = viewer.shown.get(name, "RDF")
                try:
                    seen = likeness(viewer.picture(browser, path, axes), our_picture(load_gaussians(path)))
                except ViewerError as error:
                    said = " ".join(str(error).replace("|", "/").split())[:60]
                    yield row(name, viewer.name, viewer.package, "no", "opened in Chromium", said, "-")
                    continue
                told = f"{seen.psnr:.1f} dB; at most {seen.spoilt:.1f} turned, mirrored or recoloured"
                yield row(name, viewer.name, viewer.package, "yes", "picture against ours", told, _STANDS[axes[1]])


def other_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The validator, nerfstudio, and what is not run."""
    if version("gltf-validator") is None:
        yield missing("a.glb", "Khronos glTF validator", "gltf-validator")
    else:
        found = programs.gltf_complaints(save_as(splats_for("a.glb"), folder / "a.glb"))
        ours = [item for item in found if not item["pointer"].partition("KHR_gaussian")[1] and item["severity"] < 2]
        told = f"{len(ours)} errors or warnings; attributes of the extension, which it does not know, left aside"
        yield row("a.glb", "Khronos glTF validator", "gltf-validator", "yes", "validated", told, "-")
    test = "tests/readers/test_nerfstudio.py"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", test]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    line = row("scene folder", "nerfstudio", "", "yes", test, "cameras, photos and points within 1e-5", "upright")
    if "1 passed" not in said:
        line |= {"opened": "not run" if "skipped" in said else "no", "found": "make test-readers", "stands": "-"}
    yield line | {"version": "1.1.5"}
    for (name, program), why in NOT_RUN.items():
        yield row(name, program, "", "not run", "-", why, "-")


def _order(program: str) -> int:
    """Of programs in the table; what is not run stands last."""
    names = [*(reader.name for reader in NUMBER_READERS), *(viewer.name for viewer in VIEWERS)]
    if program in names:
        return names.index(program)
    return len(names) + (program in {other for _, other in NOT_RUN})


def losses(table: str, earlier: list[dict[str, Any]]) -> dict[str, str]:
    """What each format loses, by a table of ``benchmarks.formats``; what the earlier rows say where none is named."""
    if not table:
        return {line["format"]: line["the format itself"] for line in earlier if line.get("the format itself")}
    rows = json.loads((RESULTS / f"{table}.json").read_text())["rows"]
    return {
        cost["format"]: f"{cost['ours: dB']} dB, {cost['ours: bytes a splat']} bytes"
        for cost in rows
        if cost.get("ours: dB") is not None
    }


def main() -> None:
    """Open, compare, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", default="")
    parser.add_argument("--only", default="", help="names of programs, theirs (their files), others")
    parser.add_argument("--save", default="")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = [number_rows(folder, only), picture_rows(folder, only)]
        sources += [reverse_rows(folder)] if not only or "theirs" in only else []
        sources += [other_rows(folder)] if not only or "others" in only else []
        for source in sources:
            for line in source:
                rows.append(line)
                print(line, flush=True)
    if options.save:
        earlier = RESULTS / f"{options.save}.json"
        kept = json.loads(earlier.read_text())["rows"] if earlier.exists() else []
        done = {(line["format"], line["program"]) for line in rows}
        rows += [line for line in kept if (line["format"], line["program"]) not in done]
        rows.sort(key=lambda line: _order(line["program"]))
        costs = losses(options.costs, kept)
        for line in rows:
            line["the format itself"] = costs.get("sog" if line["format"] == "meta.json" else line["format"])
        remarks = [
            "upright: y is up in the program's world. On its head: y is down there, as it is with every .ply; a user "
            "turns it. As the .ply: the program keeps the axes. The format itself: PSNR of its renders, bytes a splat."
        ]
        title = "Splat formats and the programs that open them"
        save_table(options.save, title, rows, command="python -m benchmarks.format_programs", remarks=remarks)


if __name__ == "__main__":
    main()
