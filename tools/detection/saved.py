"""Write and read the file of a trained detector."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from models.detector import Detector
from models.loading import fingerprint
from torch import Tensor

from tools.evaluation.features import FrozenEncoder, result_name
from tools.utils import checkpoints
from tools.utils.errors import UserError

_TEXTS = ("modality", "encoder", "checkpoint")


def detector_name(modality: str, finetune: bool, where: str) -> str:
    """Return the name of a detector's files, beside the encoder's checkpoint. `where` is the encoder's."""
    return result_name(f"detection{'_finetune' * finetune}", where, modality)


def write_detector(path: Path, detector: Detector, about: dict[str, Any]) -> None:
    """Write a detector, with its encoder if that was fine-tuned. `about` has `classes`, `modality`, `window`, and its
    encoder's fingerprint (`encoder`) and `checkpoint`. Raises UserError, OSError."""
    prefixes = ("linear.", "backbone.") if detector.finetune else ("linear.",)
    weights = {k: v.cpu().clone() for k, v in detector.state_dict().items() if k.startswith(prefixes)}
    checkpoints.write(path, {**about, "weights": weights})


def read_detector(path: Path, encoder: FrozenEncoder) -> tuple[Detector, list[str], int]:
    """Read a detector that was trained on this encoder. Return it, the names of its classes and the length of its
    windows in frames. Raises UserError for anything else."""
    remedy = f"train one by python -m tools.detect --pretrained {encoder.path}"
    state = checkpoints.read_plain(path, "detector", remedy)
    if not _is_detector(state):
        raise UserError(f"{path} is not a detector that tools.detect wrote: {remedy}")
    if state["encoder"] != fingerprint(encoder.backbone):
        raise UserError(
            f"{path} was trained on the encoder of {state['checkpoint']}, whose weights are not those of "
            f"{encoder.path}: {remedy}"
        )
    finetune = any(key.startswith("backbone.") for key in state["weights"])
    modalities = encoder.modalities(state["modality"], f"{path}: modality")
    detector = Detector(deepcopy(encoder.backbone), modalities, len(state["classes"]), finetune)
    kept = {} if finetune else {k: v for k, v in detector.state_dict().items() if k.startswith("backbone.")}
    try:
        detector.load_state_dict(kept | state["weights"])
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {encoder.path}: {error}; {remedy}") from error
    return detector, state["classes"], state["window"]


def _is_detector(state: dict[str, Any]) -> bool:
    weights, classes, window = (state.get(key) for key in ("weights", "classes", "window"))
    return (
        all(isinstance(state.get(key), str) for key in _TEXTS)
        and (isinstance(weights, dict) and isinstance(classes, list) and type(window) is int and window > 0)
        and all(isinstance(v, Tensor) and bool(v.isfinite().all()) for v in weights.values())
        and all(isinstance(name, str) for name in classes)
    )
