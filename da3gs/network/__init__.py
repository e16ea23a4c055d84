"""The network: views to raw outputs and predictions; no files, no downloads."""

from da3gs.network.config import CONFIGS, ModelConfig, NestedConfig, named_config
from da3gs.network.model import DepthAnything3
from da3gs.network.nested import NestedDepthAnything3, NestedOutputs
from da3gs.network.raw import RawOutputs

__all__ = [
    "CONFIGS",
    "DepthAnything3",
    "ModelConfig",
    "NestedConfig",
    "NestedDepthAnything3",
    "NestedOutputs",
    "RawOutputs",
    "named_config",
]
