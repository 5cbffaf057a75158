"""For torch.hub: torch.hub.load(FOLDER, "umurl", source="local", checkpoint="checkpoints/ntu60_xsub")."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models import FrozenEncoder

dependencies = ["torch", "numpy", "tqdm"]


def umurl(checkpoint: str, modality: str = "all", device: str = "auto") -> FrozenEncoder:
    """Load a frozen encoder, as `models.load_encoder` does; `checkpoint` is relative to the working directory."""
    try:
        from models import load_encoder  # torch.hub has this folder on the path only while it calls
    except ImportError as error:
        hint = "if another package called models or utils is imported, load this encoder in a Python of its own"
        raise ImportError(f"{error}; {hint}") from error
    return load_encoder(checkpoint, modality, device)
