"""Training on procedural scenes: ``train``, its configuration, and the scenes themselves."""

from da3gs.training.config import PRESETS, Stage, TrainConfig, load_config
from da3gs.training.data import procedural_scene
from da3gs.training.loop import train
from da3gs.training.losses import LossWeights

__all__ = ["PRESETS", "LossWeights", "Stage", "TrainConfig", "load_config", "procedural_scene", "train"]
