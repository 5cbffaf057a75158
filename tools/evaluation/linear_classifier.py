"""Read the linear classifier that action_recognition.py writes, for use on the same encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data_gen.packed.info import is_one_line
from models.loading import fingerprint
from tools.evaluation.features import FrozenEncoder, suffix_of
from tools.utils.checkpoints import read_plain
from tools.utils.errors import UserError

_TEXTS = ("modality", "checkpoint", "encoder", "dataset", "protocol")


@dataclass(frozen=True)
class SavedClassifier:
    """A linear classifier of one encoder's features: weight (classes, 2·hidden) and bias (classes,), float32, on the
    encoder's device.

    `classes` are their names, by label. `modalities` are those that the features are made of, `modality` is their name
    on the command line. `dataset` and `protocol` name what it was trained on.
    """

    path: Path
    weight: Tensor
    bias: Tensor
    classes: list[str]
    modality: str
    modalities: tuple[str, ...]
    dataset: str
    protocol: str

    def scores(self, feature: Tensor) -> Tensor:
        """Scores (B, classes) of features (B, 2·hidden)."""
        return F.linear(feature, self.weight, self.bias)


def file_of(modality: str = "all") -> str:
    """Return the file name of the classifier for a modality."""
    return f"action_recognition{suffix_of(modality)}.pth.tar"


def training_command(pretrained: Path, modality: str = "all") -> str:
    """Return the command that trains a classifier for a checkpoint, or for a run's folder."""
    return f"action_recognition.py --pretrained {pretrained}" + (f" --modality {modality}" if modality != "all" else "")


def load_classifier(path: Path | None, encoder: FrozenEncoder) -> SavedClassifier:
    """Read the classifier at `path`, by default the one beside the checkpoint. Raises UserError where there is none or
    it was not trained on this encoder's features."""
    path = path or encoder.path.parent / file_of()
    state = read_classifier(path, f"train one by {training_command(encoder.path)}, or name another by --classifier")
    return classifier_for(encoder, path, state)


def read_classifier(path: Path, remedy: str) -> dict[str, Any]:
    """Read the file of a classifier onto the CPU. Raises UserError, which names the remedy, where there is nothing or
    something else at `path`."""
    state = read_plain(path, "classifier", remedy)
    if not _is_classifier(state):
        raise UserError(f"{path} is not a classifier that action_recognition.py wrote: {remedy}")
    return state


def classifier_for(encoder: FrozenEncoder, path: Path, state: dict[str, Any]) -> SavedClassifier:
    """Prepare what `read_classifier` read for use on the encoder. Raises UserError where it was trained on the features
    of another encoder."""
    size, own = 2 * encoder.backbone.hidden_size, state["weight"].shape[1]
    remedy = (
        f"give the classifier of this checkpoint, or train one by {training_command(encoder.path, state['modality'])}"
    )
    if own != size:
        raise UserError(
            f"{path} is for features of {own} values (hidden size {own // 2}), {encoder.path} makes {size}: {remedy}"
        )
    if state["encoder"] != fingerprint(encoder.backbone):
        raise UserError(
            f"{path} was trained on the features of {state['checkpoint']}, whose weights are not those of "
            f"{encoder.path}: {remedy}"
        )
    weight, bias = (state[key].float().to(encoder.device) for key in ("weight", "bias"))
    return SavedClassifier(
        path,
        weight,
        bias,
        state["classes"],
        state["modality"],
        encoder.modalities(state["modality"], f"{path}: modality"),
        state["dataset"],
        state["protocol"],
    )


def _is_classifier(state: dict[str, Any]) -> bool:
    weight, bias, classes = (state.get(key) for key in ("weight", "bias", "classes"))
    return (
        all(isinstance(state.get(key), str) and is_one_line(state[key]) for key in _TEXTS)
        and (isinstance(weight, Tensor) and isinstance(bias, Tensor))
        and all(t.layout == torch.strided and not t.is_meta and t.dtype == torch.float32 for t in (weight, bias))
        and weight.dim() == 2
        and bias.shape == weight.shape[:1]
        and isinstance(classes, list)
        and len(classes) == len(bias) > 0
        and all(isinstance(name, str) and is_one_line(name) for name in classes)
        and bool(weight.isfinite().all() and bias.isfinite().all())
    )
