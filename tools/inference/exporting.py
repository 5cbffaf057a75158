"""Export an encoder, and its classifier if it has one, and compare each exported file with it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.datasets import from_test_name
from feeder.clips import NUM_FRAMES, resample
from models.checkpoints import CARD, CLASSIFIER, WEIGHTS_FILE, versions
from models.frozen import FrozenEncoder
from tools.evaluation.classifier import SavedClassifier, own_classifier
from utils.errors import UserError
from utils.files import atomic_files, locked, write_json

INFO_FILE = "export.json"
TOLERANCE = 1e-5
_TRACED = (2, 50)  # clips and frames; a size of 1 would become a constant in the graph
_CHECKED = ((1, NUM_FRAMES), (3, 107))

Model = Callable[[Tensor], Sequence[Any]]  # clips in, outputs out


class Graph(nn.Module):
    """Map clips (B, T, M, V, C) of any length to features (B, D) and, with a classifier, logits (B, classes)."""

    def __init__(self, encoder: FrozenEncoder, classifier: SavedClassifier | None):
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        self.outputs: dict[str, list[str | int]] = {"feature": ["batch", encoder.feature_size]}
        if classifier:
            self.outputs["logits"] = ["batch", len(classifier.classes)]

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        rows = F.interpolate(clips.flatten(2).mT, size=NUM_FRAMES, mode="linear", align_corners=False).mT
        return self.encode(rows.unflatten(2, self.encoder.layout.shape))

    def encode(self, resampled: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of clips (B, 64, M, V, C)."""
        feature = self.encoder.encode_joined(resampled)
        return (feature, self.classifier.logits(feature)) if self.classifier else (feature,)

    def clips(self, count: int, frames: int) -> Tensor:
        """Make random clips."""
        return torch.randn(count, frames, *self.encoder.layout.shape, generator=torch.Generator().manual_seed(count))

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        sizes = {"clips": {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}}
        return torch.export.export(self, (self.clips(*_TRACED),), dynamic_shapes=sizes, strict=False)


def export(
    encoder: FrozenEncoder, classifier: SavedClassifier | None, formats: Sequence[str], folder: Path
) -> dict[Path, float]:
    """Write the encoder's streams, and a classifier of them, into a folder in each of the FORMATS, and export.json.

    Return each file's largest difference from the encoder. Raises UserError, and leaves nothing behind, if one is
    above the tolerance.
    """
    graph, differences = Graph(encoder, classifier).eval().requires_grad_(False), {}
    with locked(folder), atomic_files(folder, last=INFO_FILE) as partial:
        for name in dict.fromkeys(formats):
            file, write = FORMATS[name]
            difference = differences[folder / file] = _difference(graph, write(graph, partial / file))
            if not difference <= TOLERANCE:  # False for nan, too
                raise UserError(
                    f"{file} differs from the encoder by {difference:.2g}, more than {TOLERANCE:g}: nothing was "
                    "written; try other versions of torch and of the ONNX packages"
                )
        write_json(partial / INFO_FILE, _describe(graph))
    return differences


def _describe(graph: Graph) -> dict[str, Any]:
    """Describe inputs, outputs and origin, for export.json."""
    encoder = graph.encoder
    return {
        "inputs": {"clips": ["batch", "frames", *encoder.layout.shape]},
        "outputs": graph.outputs,
        "modality": encoder.modality,
        "skeleton": encoder.layout.skeleton.name,
        "centred": encoder.takes_centred,
        **({"classes": graph.classifier.classes} if graph.classifier else {}),
        **{key: encoder.state.get(key) for key in ("dataset", "protocol", "epoch")},
        **_trained_on(encoder),
        "hidden_size": encoder.state["encoder"]["hidden_size"],
        "encoder": encoder.weights_hash,
        "versions": versions(),
    }


def _trained_on(encoder: FrozenEncoder) -> dict[str, str]:
    """Return data set and protocol by the name of the run's folder, if the checkpoint lacks them."""
    names = None if encoder.state.get("dataset") else from_test_name(encoder.path.resolve().parent.name)
    return {"dataset": names[0].name, "protocol": names[1].name} if names else {}


def _difference(graph: Graph, exported: Model) -> float:
    """Return the largest difference between the encoder and its export, on clips of several lengths. That of logits is
    divided by the largest one, if this is above 1, as rounding errors grow with them."""
    differences = []
    for size in _CHECKED:
        clips = graph.clips(*size)
        for name, expected, output in zip(graph.outputs, graph.encode(resample(clips)), exported(clips), strict=True):
            scale = expected.abs().max().clamp(min=1.0) if name == "logits" else 1.0
            differences.append((expected - torch.as_tensor(output)).abs().max() / scale)
    return torch.stack(differences).max().item()


# ---- formats: each writes a file, loads it, and returns the model in it ----------------------------------------------


def _write_torch(graph: Graph, path: Path) -> Model:
    buffer = io.BytesIO()
    torch.export.save(graph.program, buffer)  # to a full disk it would abort
    path.write_bytes(buffer.getvalue())
    return torch.export.load(path).module()


def _write_onnx(graph: Graph, path: Path) -> Model:
    import onnxruntime

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of each node that it cannot simplify
    program = torch.onnx.export(
        graph.program,
        dynamo=True,
        verbose=False,
        input_names=["clips"],
        output_names=list(graph.outputs),
        dynamic_shapes={"clips": {0: "batch", 1: "frames"}},  # names of the axes
    )
    assert program is not None  # by dynamo
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda clips: session.run(None, {"clips": clips.numpy()})


def _write_safetensors(graph: Graph, path: Path) -> Model:
    """Write weights that `models.checkpoints.load` reads, with all other values of the checkpoint."""
    from safetensors.torch import save

    encoder, card = graph.encoder, graph.encoder.state | _trained_on(graph.encoder)
    tensors = {f"encoder.{key}": value.contiguous() for key, value in encoder.encoder.state_dict().items()}
    if own := card.pop(CLASSIFIER, None):
        tensors |= {f"{CLASSIFIER}.{key}": value for key, value in own.items() if isinstance(value, Tensor)}
        card[CLASSIFIER] = {key: value for key, value in own.items() if not isinstance(value, Tensor)}
    path.write_bytes(save(tensors, {"format": "pt", CARD: json.dumps(card, default=str)}))
    copy = FrozenEncoder.open(path, encoder.device, encoder.modality)
    return Graph(copy, own_classifier(copy) if graph.classifier else None)


FORMATS: dict[str, tuple[str, Callable[[Graph, Path], Model]]] = {
    "torch": ("encoder.pt2", _write_torch),
    "onnx": ("encoder.onnx", _write_onnx),
    "safetensors": (WEIGHTS_FILE, _write_safetensors),
}
