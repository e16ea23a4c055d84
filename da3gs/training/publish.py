"""Turns a run's weights into the bundled model: measures them on held-out scenes and writes the file and its card.

da3gs train nano-decay -o DECAYED --init RUN/last.safetensors
da3gs train nano-splats -o CANDIDATE --init DECAYED/last.safetensors
python -m da3gs.training.publish CANDIDATE/last.safetensors

The figures of novel views then come from ``benchmarks/quality.py``, which replaces the card's last section.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

import da3gs.checkpoints
from da3gs._files import atomic_file
from da3gs.checkpoints import checkpoint_card, load_model, save_checkpoint
from da3gs.errors import InputError
from da3gs.network.model import DepthAnything3
from da3gs.training.data import validation_batches
from da3gs.training.validation import Figures, validate

NAME = "da3gs-nano"
SIZES = ((126, 168), (252, 336))
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


def card_text(images: int, parameters: int, figures: dict[str, Figures], scenes: int, *, splats: bool = False) -> str:
    """The model card, Markdown; ``splats`` tells of a Gaussian head."""
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
            " chance):\n  `--poses colmap` is the way then."
        )
    kind = "depth, ray, camera and splat network" if splats else "depth, ray and camera network"
    recipe = "`da3gs train nano`, then `nano-decay`" + (" and `nano-splats`" if splats else "")
    return f"""# {NAME}

An any-view {kind} with {parameters / 1e6:.1f} million parameters, trained from nothing by this
project on pictures that it draws itself: for trying things out without a download.

- Licence: Apache-2.0.
- Data: procedural rooms, table tops, clutter and yards (`da3gs/procedural/scenes.py`); no photograph was trained on.
- Images seen: {images:,}.
- Recipe: {recipe}, each from the last one's weights (`--init`);
  losses of the paper with relative lengths, points from depth and the decoded camera, and patches that have to find
  each other between views.
- Made for: long side 252 to 336 pixels, 1 to 8 views that overlap.
- Limits: never saw people, text, plants or buildings as they are; glass, mirrors and far backgrounds are
  guesses.{chance}

## Figures

{scenes} held-out procedural scenes of three views; depth after one scale a scene; angles are means relative to the
first view. "Constant depth" is the AbsRel of a depth that is the same everywhere.

{_HEADER}
{chr(10).join(rows)}

Reproduce with `python -m benchmarks.training --no-speed --model {NAME} --scenes {scenes}`.
"""


def publish(checkpoint: Path, folder: Path, *, scenes: int = 48) -> dict[str, Figures]:
    """Write ``da3gs-nano.safetensors`` (float16) and ``da3gs-nano.md`` into a folder; returns the figures.

    Raises:
        InputError: the checkpoint is not an any-view model.
    """
    model = load_model(checkpoint)
    if not isinstance(model, DepthAnything3) or model.camera_decoder is None:
        raise InputError(f"{checkpoint.name} is not an any-view model; give a run's last.safetensors")
    images = int(checkpoint_card(checkpoint).get("images_seen", 0))
    figures = measure(model, scenes)
    parameters = sum(p.numel() for p in model.parameters())
    told = {
        "name": NAME,
        "licence": "Apache-2.0",
        "images_seen": images,
        "figures": {label: dataclasses.asdict(f) for label, f in figures.items()},
    }
    save_checkpoint(model, folder / f"{NAME}.safetensors", card=told, dtype=torch.float16, overwrite=True)
    text = card_text(images, parameters, figures, scenes, splats=model.splat_head is not None)
    with atomic_file(folder / f"{NAME}.md", overwrite=True) as path:
        path.write_text(text, encoding="utf-8")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(da3gs.checkpoints.__file__).parent)
    parser.add_argument("--scenes", type=int, default=48)
    arguments = parser.parse_args()
    publish(arguments.checkpoint, arguments.folder, scenes=arguments.scenes)
