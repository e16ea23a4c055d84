"""Publication of a run's weights as a bundled model: measured on held-out scenes, with a card.

da3gs train small -o RUN --backbone dinov2_vits14_pretrain.pth
da3gs train small-decay -o DECAYED --init RUN/last.safetensors
da3gs train small-splats -o CANDIDATE --init DECAYED/last.safetensors
python -m da3gs.training.publish CANDIDATE/last.safetensors

The same with ``nano`` begins from nothing. A pretrained backbone is written in int8, all else in float16.

The figures of novel views then come from ``benchmarks/quality.py``, which replaces the card's last section.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

import da3gs.checkpoints
from da3gs._files import atomic_file
from da3gs.checkpoints import checkpoint_card, load_model, save_checkpoint
from da3gs.errors import InputError
from da3gs.network.model import DepthAnything3
from da3gs.training.data.loader import validation_batches
from da3gs.training.validation import Figures, validate

SIZES = ((126, 168), (252, 336))
DINOV2 = "DINOv2 (Meta AI, Apache-2.0)"
"""Where a pretrained backbone comes from, unless the caller knows more."""
_CHANCE = 60.0
"""Mean error in degrees of the cameras' directions above which they are guesses."""
_HEADER = (
    "| size | poses | AbsRel | δ1 | constant depth | rotation | direction | AUC5 | AUC30 |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def measure(model: DepthAnything3, scenes: int) -> dict[str, Figures]:
    """Figures on held-out scenes of three views, by size and by whether poses are given."""
    found = {}
    for height, width in SIZES:
        batches = validation_batches(scenes, (height, width))
        for posed in (False, True):
            found[f"{height}x{width} {'given' if posed else 'predicted'}"] = validate(model, batches, posed=posed)
    return found


def card_text(
    name: str, images: int, parameters: int, figures: dict[str, Figures], scenes: int, *, splats: bool = False,
    backbone: str | None = None,
) -> str:  # fmt: skip
    """The model card, Markdown.

    Args:
        name: of the model.
        images: seen.
        parameters: of all parts.
        figures: what ``measure`` found.
        scenes: that it was measured on.
        splats: whether there is a Gaussian head.
        backbone: what the backbone began from; None: nothing.
    """
    rows = []
    for label, f in figures.items():
        size, poses = label.split(" ")
        rows.append(
            f"| {size} | {poses} | {f.absrel:.3f} | {f.delta1:.3f} | {f.constant_absrel:.3f} | "
            f"{f.rotation:.1f}° | {f.direction:.1f}° | {f.auc5:.3f} | {f.auc30:.3f} |"
        )
    off = max((f.direction for label, f in figures.items() if label.endswith("predicted")), default=0.0)
    chance = ""
    if off > _CHANCE:
        chance = (
            f"\n  Without given poses the cameras' directions from each other are {off:.0f}° off on average (90 is"
            " chance):\n  structure-from-motion finds them instead."
        )
    kind = "depth, ray, camera and splat network" if splats else "depth, ray and camera network"
    recipe = name.removeprefix("da3gs-")
    steps = f"`da3gs train {recipe}`, then `{recipe}-decay`" + (f" and `{recipe}-splats`" if splats else "")
    start = "from nothing" if backbone is None else "on a pretrained backbone"
    provenance = "" if backbone is None else f"\n- Backbone: {backbone}; its first blocks are unchanged."
    return f"""# {name}

An any-view {kind} with {parameters / 1e6:.1f} million parameters, trained {start} by this
project on pictures that it draws itself: for trying things out without a download.

- Licence: Apache-2.0.{provenance}
- Data: procedural rooms, table tops, clutter and yards (`da3gs/procedural/scenes.py`); no photograph was trained on.
- Images seen: {images:,}.
- Recipe: {steps}, each from the last one's weights (`--init`);
  losses of the paper with relative lengths, points from depth and the decoded camera, and patches that have to find
  each other between views.
- Made for: long side 252 to 336 pixels, 1 to 8 views that overlap; up to 16 of known cameras.
- Limits: never saw people, text, plants or buildings as they are; glass, mirrors and far backgrounds are
  guesses.{chance}

## Figures

{scenes} held-out procedural scenes of three views; depth after one scale a scene; angles are means relative to the
first view. "Constant depth" is the AbsRel of a depth that is the same everywhere.

{_HEADER}
{chr(10).join(rows)}

Reproduce with `python -m benchmarks.training --no-speed --model {name} --scenes {scenes}`.
"""


def publish(checkpoint: Path, folder: Path, *, scenes: int = 48, source: str = DINOV2) -> dict[str, Figures]:
    """Write ``NAME.safetensors`` and ``NAME.md`` into a folder, by the model's own name; returns the figures.

    Args:
        checkpoint: of a run.
        folder: where the two files go.
        scenes: to measure it on.
        source: where the backbone comes from and its licence, if the run began from one.

    Raises:
        InputError: the checkpoint is not an any-view model.
    """
    model = load_model(checkpoint)
    if not isinstance(model, DepthAnything3) or model.camera_decoder is None:
        raise InputError(f"{checkpoint.name} is not an any-view model; give a run's last.safetensors")
    card, name = checkpoint_card(checkpoint), model.config.name
    images = int(card.get("images_seen", 0))
    figures = measure(model, scenes)
    parameters = sum(p.numel() for p in model.parameters())
    told: dict[str, Any] = {
        "name": name,
        "licence": "Apache-2.0",
        "commercial": True,
        "images_seen": images,
        "figures": {label: dataclasses.asdict(f) for label, f in figures.items()},
    }
    backbone = None
    if "backbone" in card:
        told |= {"backbone": source, "backbone_sha256": card.get("backbone_sha256", "")}
        backbone = f"{source}, SHA-256 of the file {str(told['backbone_sha256'])[:16]}"
    low = backbone is not None
    path = folder / f"{name}.safetensors"
    save_checkpoint(model, path, card=told, dtype=torch.float16, int8=low, overwrite=True)
    splats = model.splat_head is not None
    text = card_text(name, images, parameters, figures, scenes, splats=splats, backbone=backbone)
    with atomic_file(path.with_suffix(".md"), overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(da3gs.checkpoints.__file__).parent)
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--backbone-source", default=DINOV2, help="what the card says of the backbone's origin")
    arguments = parser.parse_args()
    publish(arguments.checkpoint, arguments.folder, scenes=arguments.scenes, source=arguments.backbone_source)
