"""Weights: which models there are, their names here and upstream, and loading them."""

from da3gs.checkpoints.load import Network, checkpoint_card, load_model, save_checkpoint
from da3gs.checkpoints.zoo import MODELS, ModelCard, model_card

__all__ = ["MODELS", "ModelCard", "Network", "checkpoint_card", "load_model", "model_card", "save_checkpoint"]
