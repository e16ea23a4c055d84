"""The network: views to raw outputs and predictions; no files, no downloads."""

from da3gs.network.config import CONFIGS, ModelConfig, NestedConfig, named_config
from da3gs.network.model import DepthAnything3, RawOutputs

__all__ = ["CONFIGS", "DepthAnything3", "ModelConfig", "NestedConfig", "RawOutputs", "named_config"]
