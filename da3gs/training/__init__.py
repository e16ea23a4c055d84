"""Training: ``train``, its configuration, and the procedural scenes."""

from da3gs.training.config import Stage, TrainConfig
from da3gs.training.config_files import load_config
from da3gs.training.data.loader import procedural_scene
from da3gs.training.loop import train
from da3gs.training.losses.geometric import LossWeights
from da3gs.training.presets import PRESETS

__all__ = ["PRESETS", "LossWeights", "Stage", "TrainConfig", "load_config", "procedural_scene", "train"]
