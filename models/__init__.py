"""Tokens to features to projections, and the objective. `load_encoder` is the entry point for other code."""

from models.inference import Encoder, load_encoder
from models.loading import CheckpointError

__all__ = ["CheckpointError", "Encoder", "load_encoder"]
