"""Linear classifiers of features: made, written by action_recognition.py, and read for predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.datasets import classes_of
from models import checkpoints
from models.checkpoints import CLASSIFIER
from models.encoder import Encoder
from models.frozen import CENTRED, STANDARDISED, FrozenEncoder, Representation
from tools.evaluation.setup import Evaluation
from utils.errors import UserError
from utils.files import read_results, reading
from utils.text import counted

_FLAGS = {CENTRED: " --centre", STANDARDISED: " --standardise", "": ""}


def new_linear(size: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """Make a Linear with weights from N(0, 0.01) and zero bias."""
    linear = nn.Linear(size, classes)
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(linear.weight.shape, generator=generator))
        linear.bias.zero_()
    return linear


@dataclass(frozen=True)
class SavedClassifier:
    """Classify one encoder's features: weight (classes, D) and bias (classes,), float32, on the encoder's device.

    encoder: with the streams that the classifier takes. representation: maps their features to the D inputs. classes:
    names by label. dataset, protocol: its training data.
    """

    path: Path
    encoder: FrozenEncoder
    weight: Tensor
    bias: Tensor
    classes: list[str]
    representation: Representation
    dataset: str
    protocol: str

    @property
    def title(self) -> str:
        """Its file, modality and classes, for the log."""
        classes = counted(len(self.classes), "class")
        return f"{self.path}: {classes} of {self.dataset} {self.protocol}, modality {self.representation.name}"

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (B, classes) of features (B, D), the streams concatenated."""
        return F.linear(self.representation(features), self.weight, self.bias)


def write_classifier(
    path: Path, weight: Tensor, bias: Tensor, representation: Representation, evaluation: Evaluation
) -> None:
    """Write the classifier of a representation that was trained in an evaluation."""
    tensors = {"weight": weight, "bias": bias} | representation.tensors()
    state: dict[str, Any] = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    state |= {"modality": representation.modality, "variant": representation.variant}
    state |= {name: evaluation.result[name] for name in ("dataset", "protocol", "checkpoint", "epoch")}
    state |= {"encoder": evaluation.encoder.weights_hash, "classes": classes_of(evaluation.packed)}
    checkpoints.write(path, state | {"versions": checkpoints.versions()})


def load_classifier(path: Path | None, encoder: FrozenEncoder) -> SavedClassifier:
    """Read the classifier at `path`; default: a fine-tuned encoder's own, else the newest of the encoder's linear
    probes on the fused feature. Raises UserError if there is none, or it is of another encoder."""
    if path is None:
        if own := own_classifier(encoder):
            return own
        path = _newest_probe(encoder)
    if not path.is_file():
        raise UserError(f"{path}: no such classifier; train one by {training_command(encoder.path)}")
    state = checkpoints.load_tensors(path)
    return _classifier(state.get(CLASSIFIER, state), path, encoder)


def own_classifier(encoder: FrozenEncoder) -> SavedClassifier | None:
    """Return the classifier of a fine-tuned encoder; None for another encoder."""
    return _classifier(encoder.state[CLASSIFIER], encoder.path, encoder) if CLASSIFIER in encoder.state else None


def _newest_probe(encoder: FrozenEncoder) -> Path:
    folder = encoder.path.parent
    for result in reversed(read_results(folder)):
        name = result["files"].get("classifier") if result["modality"] == "all" else None
        if name and result["settings"].get("encoder") == encoder.weights_hash and (folder / name).is_file():
            return folder / name
    return folder / "action_recognition.pth.tar"  # as earlier versions called it


def _classifier(state: dict[str, Any], path: Path, encoder: FrozenEncoder) -> SavedClassifier:
    with reading(path, f"; train a classifier by {training_command(encoder.path)}"):
        weight, bias, variant = state["weight"], state["bias"], state.get("variant", "")
        selected = encoder.select(state["modality"])
        if state["encoder"] != encoder.weights_hash:
            raise UserError(f"was trained on the features of {state['checkpoint']}, not of {encoder.path}")
        tensors = [weight, bias, *(state[name] for name in ("mean", "scale") if variant)]
        shapes = [(len(state["classes"]), selected.feature_size), (len(state["classes"]),)]
        if [tuple(t.shape) for t in tensors[:2]] != shapes or not all(bool(t.isfinite().all()) for t in tensors):
            raise UserError("is no classifier of this encoder's features")
        weight, bias, *transform = (tensor.float().to(encoder.device) for tensor in tensors)
        representation = Representation(selected.modality, selected.streams, variant, *transform)
        classes = [str(name) for name in state["classes"]]
        return SavedClassifier(
            path, selected, weight, bias, classes, representation, state["dataset"], state["protocol"]
        )


def training_command(pretrained: Path, representation: str = "all") -> str:
    """Return the command that trains a classifier for a checkpoint, or for a run's folder."""
    modality, _, variant = representation.rpartition("_")
    modality, variant = (modality, variant) if variant in _FLAGS else (representation, "")
    flags = f" --modality {modality}" * (modality not in ("", "all")) + _FLAGS[variant]
    return f"python action_recognition.py --pretrained {pretrained}{flags}"


class FinetuneModel(nn.Module):
    """Classify features by a Linear that is trained together with the encoder."""

    def __init__(self, encoder: Encoder, modalities: Sequence[str], num_classes: int, generator: torch.Generator):
        super().__init__()
        self.encoder, self.modalities = encoder, tuple(modalities)
        self.linear = new_linear(encoder.feature_size, num_classes, generator)

    def forward(self, clips: dict[str, Tensor]) -> Tensor:
        """Return logits (B, classes) of clips, given as `modalities`."""
        return self.linear(self.encoder(clips))
