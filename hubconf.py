"""For torch.hub: torch.hub.load(FOLDER, "umurl", source="local", checkpoint="checkpoints/ntu60_xsub")."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models import Encoder

dependencies = ["torch", "numpy", "tqdm"]


def umurl(checkpoint: str, modality: str = "all", device: str = "auto") -> Encoder:
    """Load the frozen encoder of a checkpoint, of a run's folder or of slim weights, as `models.load_encoder` does.

    `checkpoint` is relative to the working directory. Raises ImportError where another package is imported under the
    name of one of this project's.
    """
    root = Path(__file__).parent
    for name in ("data_gen", "feeder", "models"):
        package = sys.modules.get(name)
        if package and Path(getattr(package, "__file__", None) or "").parent.parent != root:
            raise ImportError(f"another package is imported as {name!r}: load this encoder in a Python of its own")
    from models import load_encoder  # torch.hub has this folder on the path only while it calls

    return load_encoder(checkpoint, modality, device)
