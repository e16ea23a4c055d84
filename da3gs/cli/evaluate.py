"""``da3gs evaluate``: scores that others can trust."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, Literal, Optional

from tyro.conf import Positional

from da3gs.cli._parse import SEEDED_DRAWING, Command, SeededDrawingOptions, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score a model, a baseline or other people's splats on many scenes, under a protocol that is written down.

    ROOT is a folder of DL3DV-style scenes or .torch chunks, or anything that `da3gs reconstruct` takes; for geometry
    tasks also DTU, ETH3D, 7Scenes and ScanNet++ layouts. Run again, the same command goes on where it stopped.
    """

    no_keywords = frozenset({"root", "min_psnr", "min_ssim"})

    root: Annotated[Positional[str], option("ROOT", hint="")]
    """The data."""
    output: Annotated[str, option("REPORT_DIR", "-o", hint="(required)")]
    """The folder of the report: report.json, report.html, report.csv, scenes/."""
    task: Literal["views", "pose", "depth", "points"] = "views"
    """Novel views; or camera poses, depth maps, reconstructed points against the data set's own."""
    split: Annotated[str, option("FILE|da3-12|every:K")] = "every:8"
    """Which frames are context and which are targets."""
    model: Annotated[str, option("auto|NAME|FILE|FOLDER")] = "auto"
    """A name of `da3gs models`, a file, or an official checkpoint folder; auto: the best on this machine that allows
    commercial use."""
    baseline: Annotated[Optional[str], option("NAME", hint="")] = None
    """In place of the model's splats: nearest, constant-depth, depth-warp, splats:DIR (splat files by anyone, NAME.ply
    in the data set's world), renders:DIR (pictures by anyone, NAME/render_00012.png)."""
    poses: Literal["auto", "given", "predicted"] = "auto"
    """Whether the context cameras are given to the model; auto: where the data have them, or where they can be found in
    the photos of a single scene without poses."""
    align_targets: Switch = False
    """Move each target camera until it fits the target photo, as pose-free papers do; a column of its own."""
    scenes: Annotated[Optional[str], option("NAME,...", hint="(default: all)")] = None
    """Only these scenes."""
    context: Annotated[Optional[int], option("N", hint="")] = None
    """How many context views, where the split leaves a choice."""
    size: Annotated[Optional[str], option("HxW", hint="(default: the split's, or the model's)")] = None
    """Height and width to render and score at."""
    resolution: Annotated[Optional[int], option("N", hint="")] = None
    """Long side of the context views for the network."""
    splats: Literal["auto", "head", "depth"] = "auto"
    """From the model's splat head, or one Gaussian a pixel from its depth."""
    refine: Annotated[float, option("SECONDS")] = 0.0
    """Time to spend on each scene's splats; 0: none."""
    budget: Annotated[Optional[int], option("N", hint="")] = None
    """At most this many splats a scene."""
    dataset: Literal["auto", "posed", "dtu", "eth3d", "7scenes", "scannetpp"] = "auto"
    """Layout of ROOT for geometry tasks."""
    lpips_trunk: Annotated[Optional[str], option("FILE", hint="(default: torch's cache)")] = None
    """For LPIPS: torchvision's vgg16-397923af.pth, AlexNet's, or their convolutions as .safetensors."""
    save_images: Switch = False
    """Keep every render and photo under images/."""
    workers: Annotated[int, option("N")] = 1
    """Processes of this machine, a scene each."""
    address: Annotated[Optional[str], option("RAY", hint="")] = None
    """Run on a Ray cluster instead: auto, HOST:PORT, or local. Ray trusts everyone who reaches it."""
    min_psnr: Annotated[Optional[float], option("DB", hint="")] = None
    """Exit 1 where the mean is lower."""
    min_ssim: Annotated[Optional[float], option("X", hint="")] = None
    """Exit 1 where the mean is lower."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the network computes in."""
    common: SeededDrawingOptions = SEEDED_DRAWING

    def run(self, session: Session) -> int:
        """Evaluate, say what came of it."""
        for flag, value in (("--min-psnr", self.min_psnr), ("--min-ssim", self.min_ssim)):
            if value is not None and not abs(value) < 1e6:
                raise InputError(f"{flag} takes a number, got {value}")
        if (self.min_psnr is not None or self.min_ssim is not None) and self.task != "views":
            raise InputError(f"--min-psnr and --min-ssim are bounds of --task views, got --task {self.task}")
        from da3gs.evaluation.evaluate import evaluate

        if self.address is not None:
            session.print("Ray trusts everyone who reaches its ports; use it in networks of yours only")
        with session.progress() as progress:
            report = evaluate(self.root, progress=progress, **self.keywords())
        session.result(report)
        for line in report_lines(report):
            session.print(line)
        session.print(f"report: {self.output}/report.html")
        low = [
            f"{metric} {report['mean'][metric]} is under {bound:g}"
            for metric, bound in (("psnr", self.min_psnr), ("ssim", self.min_ssim))
            if bound is not None and (report["mean"][metric] is None or report["mean"][metric] < bound)
        ]
        for line in low:
            session.print(f"FAILED: {line}")
        return 1 if low or report["counts"]["failed"] else 0

    def keywords(self) -> dict[str, Any]:
        """The flags as keywords of `da3gs.evaluate`."""
        return super().keywords() | {"size": parse_size(self.size)}


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width.

    >>> parse_size("270x480")
    (270, 480)
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise InputError(f"--size is HEIGHTxWIDTH in pixels, such as 270x480; got {text!r}")
    return int(match[1]), int(match[2])


def report_lines(report: dict[str, Any]) -> list[str]:
    """The figures, for people."""
    counts, interval = report["counts"], report["confidence_95"]
    lines = [f"{counts['done']} of {counts['scenes']} scenes"]
    for metric, value in report["mean"].items():
        if value is None:
            why = f" ({report['lpips_reason']})" if metric == "lpips" and report["lpips_reason"] else ""
            lines.append(f"{metric:<14} -{why}")
            continue
        low = f"   95 % of means: {interval[metric][0]:.3f} to {interval[metric][1]:.3f}" if interval[metric] else ""
        label = f"lpips ({report['settings']['lpips']})" if metric == "lpips" else metric
        lines.append(f"{label:<14} {value:.3f}{low}")
    shared = counts.get("targets_among_context", 0)
    if shared:
        rest = report["mean_without_context"]
        words = ", ".join(f"{k} {v:.3f}" for k, v in rest.items() if v is not None)
        lines.append(f"{shared} of {counts['targets']} targets are context frames; without them {words}")
    cost = [
        f"{report['splats']:,.0f} splats" if report["splats"] is not None else "",
        f"{report['megabytes']:.1f} MB" if report["megabytes"] is not None else "",
        f"{report['seconds']['fit']:.2f} s" if report["seconds"]["fit"] is not None else "",
    ]
    if any(cost):
        lines.append(f"a scene: {', '.join(part for part in cost if part)}")
    lines += [f"failed: {s['name']}: {s['reason']}" for s in report["scenes"] if s["status"] != "done"][:20]
    return lines


COMMAND = Evaluate
