"""Tokens to features to projections, and the objective on them. `load_encoder` is for use elsewhere."""

from models.inference import Encoder, load_encoder
from models.loading import CheckpointError

__all__ = ["CheckpointError", "Encoder", "load_encoder"]
