"""For torch.hub: torch.hub.load(FOLDER, "umurl", source="local", checkpoint="checkpoints/ntu60_xsub")."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models import FrozenEncoder

dependencies = ["torch", "numpy", "tqdm"]


def umurl(checkpoint: str, modality: str = "all", device: str = "auto") -> FrozenEncoder:
    """Load a frozen encoder, as `models.load_encoder` does; `checkpoint` is relative to the working directory. Raises
    ImportError if another package of the name of one of this project's is imported."""
    root = Path(__file__).parent
    for name in ("utils", "data_gen", "feeder", "models"):
        package = sys.modules.get(name)
        if package and Path(getattr(package, "__file__", None) or "").parent.parent != root:
            raise ImportError(f"another package is imported as {name!r}: load this encoder in a Python of its own")
    from models import load_encoder  # torch.hub has this folder on the path only while it calls

    return load_encoder(checkpoint, modality, device)
