"""Tokens to features to projections, and the objective. `load_encoder` is the entry point for other code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.checkpoint_files import CheckpointError

if TYPE_CHECKING:
    from models.inference import Encoder, load_encoder

__all__ = ["CheckpointError", "Encoder", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Import PyTorch once it is needed: programs look at a run's folder before."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from models import inference

    return getattr(inference, name)
