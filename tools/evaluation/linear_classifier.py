"""Read a linear classifier that action_recognition.py wrote, alone or with a fine-tuned encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data_gen.packed.info import is_one_line
from data_gen.packed.words import counted
from models.loading import CLASSIFIER, fingerprint
from tools.evaluation.features import LARGEST, FrozenEncoder, result_name
from tools.evaluation.representation import Representation
from tools.utils.checkpoints import read_plain
from tools.utils.encoder_options import CENTRED, STANDARDISED, VARIANTS
from tools.utils.errors import UserError

_TEXTS = ("modality", "checkpoint", "encoder", "dataset", "protocol")
_FLAGS = {CENTRED: " --centre", STANDARDISED: " --standardise"}


@dataclass(frozen=True)
class SavedClassifier:
    """Classify one encoder's features: weight (classes, D) and bias (classes,), float32, on the encoder's device.

    `classes` are the names by label. `representation` maps features to its D inputs. `dataset` and `protocol` name its
    training data.
    """

    path: Path
    weight: Tensor
    bias: Tensor
    classes: list[str]
    representation: Representation
    dataset: str
    protocol: str

    @property
    def title(self) -> str:
        """Describe its file and what it knows, for the log."""
        return f"{self.path}: the {counted(len(self.classes), 'class')} of {self.dataset} {self.protocol}"

    def scores(self, feature: Tensor) -> Tensor:
        """Return scores (B, classes) of features (B, D), the representation's streams concatenated."""
        return F.linear(self.representation(feature), self.weight, self.bias)


def file_of(representation: str = "all", where: str = "") -> str:
    """Return the file name of a representation's classifier; `where` is the encoder's `where`."""
    return f"{result_name('action_recognition', where, representation)}.pth.tar"


def training_command(pretrained: Path, representation: str = "all") -> str:
    """Return the command that trains a classifier for a checkpoint, or for a run's folder."""
    modality, _, variant = representation.rpartition("_")
    modality = modality if variant in VARIANTS else representation
    flags = f" --modality {modality}" * (modality != "all") + _FLAGS.get(variant, "")
    return f"action_recognition.py --pretrained {pretrained}{flags}"


def load_classifier(path: Path | None, encoder: FrozenEncoder) -> SavedClassifier:
    """Read the classifier at `path`; default: a fine-tuned encoder's own, else the one beside the checkpoint. Raises
    UserError if there is none, or it was not trained on this encoder's features."""
    own = None if path else own_classifier(encoder)
    if own:
        return own
    path = path or encoder.path.parent / file_of(where=encoder.where)
    others = ", ".join(sorted(found.name for found in path.parent.glob("action_recognition*.pth.tar")))
    remedy = f"train one by {training_command(encoder.path)}, or name another by --classifier"
    return classifier_for(encoder, path, read_classifier(path, remedy + f" (there are {others})" * bool(others)))


def own_classifier(encoder: FrozenEncoder) -> SavedClassifier | None:
    """Return the classifier of a fine-tuned encoder, None for another encoder. Raises UserError if it is damaged."""
    if CLASSIFIER not in encoder.state:
        return None
    return classifier_for(encoder, encoder.path, _checked(encoder.state[CLASSIFIER], encoder.path, "fine-tune anew"))


def read_classifier(path: Path, remedy: str) -> dict[str, Any]:
    """Read the file of a classifier or of a fine-tuned encoder onto the CPU. Raises UserError, with the remedy, if
    `path` is missing or something else."""
    state = read_plain(path, "classifier", remedy)
    return _checked(state.get(CLASSIFIER, state), path, remedy)


def _checked(state: dict[str, Any], path: Path, remedy: str) -> dict[str, Any]:
    if not isinstance(state, dict) or not _is_classifier(state):
        raise UserError(f"{path} is not a classifier that action_recognition.py wrote: {remedy}")
    return state


def classifier_for(encoder: FrozenEncoder, path: Path, state: dict[str, Any]) -> SavedClassifier:
    """Prepare the result of `read_classifier` for use on the encoder. Raises UserError if it was trained on another
    encoder's features."""
    streams = encoder.streams(state["modality"], f"{path}: modality")
    size, own = 2 * encoder.backbone.hidden_size * len(streams), state["weight"].shape[1]
    variant = state.get("variant", "")
    name = Representation(state["modality"], streams, variant).name
    remedy = f"give the classifier of this checkpoint, or train one by {training_command(encoder.path, name)}"
    if own != size:
        raise UserError(
            f"{path} is for features of {own} values (hidden size {own // (2 * len(streams))}), {encoder.path} makes "
            f"{size}: {remedy}"
        )
    if state["encoder"] != fingerprint(encoder.backbone):
        raise UserError(
            f"{path} was trained on the features of {state['checkpoint']}, whose weights are not those of "
            f"{encoder.path}: {remedy}"
        )
    weight, bias = (state[key].float().to(encoder.device) for key in ("weight", "bias"))
    mean, scale = (state[key].to(encoder.device) for key in ("mean", "scale")) if variant else (None, None)
    representation = Representation(state["modality"], streams, variant, mean, scale)
    return SavedClassifier(path, weight, bias, state["classes"], representation, state["dataset"], state["protocol"])


def _is_classifier(state: dict[str, Any]) -> bool:
    variant, classes = state.get("variant", ""), state.get("classes")
    found = [state.get(key) for key in ("weight", "bias", *["mean", "scale"] * bool(variant))]
    tensors = [t for t in found if isinstance(t, Tensor) and t.layout == torch.strided and not t.is_meta]
    if len(tensors) < len(found) or not all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors):
        return False
    weight, bias, *others = tensors
    return (
        all(isinstance(state.get(key), str) and is_one_line(state[key]) for key in _TEXTS)
        and variant in ("", *VARIANTS)
        and weight.dim() == 2
        and bias.shape == weight.shape[:1]
        and all(t.shape == weight.shape[1:] for t in others)
        and isinstance(classes, list)
        and len(classes) == len(bias) > 0
        and bool((weight.abs() < LARGEST).all() and (bias.abs() < LARGEST).all())
        and all(isinstance(name, str) and is_one_line(name) for name in classes)
    )
