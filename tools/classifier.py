"""The linear classifier that action_recognition.py leaves, for use on the same encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from models.loading import fingerprint, load_plain
from tools.errors import UserError
from tools.features import FrozenEncoder

FILE = "action_recognition.pth.tar"
_TEXTS = ("modality", "checkpoint", "encoder")


@dataclass(frozen=True)
class SavedClassifier:
    """weight (classes, 2·hidden), bias (classes,) on the encoder's device; `modalities` are those whose features it
    takes, `classes` are their names."""

    path: Path
    weight: Tensor
    bias: Tensor
    classes: list[str]
    modality: str
    modalities: tuple[str, ...]

    def scores(self, feature: Tensor) -> Tensor:
        """(B, 2·hidden) → (B, classes)."""
        return F.linear(feature, self.weight, self.bias)


def load_classifier(path: Path | None, encoder: FrozenEncoder) -> SavedClassifier:
    """The classifier at `path`, by default the one beside the checkpoint. Raises UserError, CheckpointError where there
    is none or it was not trained on this encoder's features."""
    path = path or encoder.path.parent / FILE
    if not path.is_file():
        raise UserError(
            f"no classifier at {path}: train one by action_recognition.py --pretrained {encoder.path}, or name another "
            "by --classifier"
        )
    state = load_plain(path)
    _check(path, state)
    size = 2 * encoder.backbone.hidden_size
    if state["weight"].shape[1] != size:
        raise UserError(
            f"{path} is for features of {state['weight'].shape[1]} values (hidden size "
            f"{state['weight'].shape[1] // 2}), {encoder.path} makes {size}: give the classifier of this checkpoint"
        )
    if state["encoder"] != fingerprint(encoder.backbone):
        raise UserError(
            f"{path} was trained on the features of {state['checkpoint']}, whose weights are not those of "
            f"{encoder.path}: give the classifier of this checkpoint"
        )
    chosen = encoder.modalities(state["modality"], f"{path}: modality")
    weight, bias = (state[key].float().to(encoder.device) for key in ("weight", "bias"))
    return SavedClassifier(path, weight, bias, state["classes"], state["modality"], chosen)


def _check(path: Path, state: dict[str, Any]) -> None:
    weight, bias, classes = (state.get(key) for key in ("weight", "bias", "classes"))
    if (
        not all(isinstance(state.get(key), str) for key in _TEXTS)
        or not (isinstance(weight, Tensor) and isinstance(bias, Tensor))
        or weight.dim() != 2
        or bias.shape != weight.shape[:1]
        or not isinstance(classes, list)
        or len(classes) != len(bias)
        or not all(isinstance(name, str) for name in classes)
        or not (weight.isfinite().all() and bias.isfinite().all())
    ):
        raise UserError(f"{path} is not a classifier that action_recognition.py wrote")
