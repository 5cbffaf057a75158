"""Export an encoder, and its classifier if it has one, and compare each exported file with it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.datasets import from_test_name
from feeder.clips import NUM_FRAMES, resample
from models.checkpoints import CARD, CLASSIFIER, WEIGHTS_FILE, load, load_encoder_of, versions
from models.frozen import FrozenEncoder
from tools.evaluation.classifier import SavedClassifier, own_classifier
from utils.errors import UserError
from utils.files import atomic_files, locked, write_json

INFO_FILE = "export.json"
TOLERANCE = 1e-5
_TRACED = (2, 50)  # clips and frames; a size of 1 would become a constant in the graph
_CHECKED = ((1, NUM_FRAMES), (3, 107))

Model = Callable[[Tensor], Sequence[np.ndarray]]  # clips in, outputs out


class Graph(nn.Module):
    """Map clips (B, T, M, V, C) of any length to features (B, D) and, with a classifier, logits (B, classes)."""

    def __init__(self, encoder: FrozenEncoder, classifier: SavedClassifier | None):
        super().__init__()
        self.encoder, self.classifier = encoder, classifier

    @property
    def outputs(self) -> dict[str, list[str | int]]:
        """The outputs' shapes by name."""
        shapes: dict[str, list[str | int]] = {"feature": ["batch", self.encoder.feature_size]}
        return shapes | ({"logits": ["batch", len(self.classifier.classes)]} if self.classifier else {})

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        rows = F.interpolate(clips.flatten(2).mT, size=NUM_FRAMES, mode="linear", align_corners=False).mT
        return self.encode(rows.unflatten(2, self.encoder.layout.shape))

    def encode(self, resampled: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of clips (B, 64, M, V, C)."""
        feature = torch.cat(self.encoder.encode(resampled, self.encoder.streams), 1)
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
    """Return the largest difference between the encoder and its export, on clips of several lengths.

    Differences of logits are divided by the largest logit if it is above 1, as rounding errors grow with them.
    """
    differences = []
    for size in _CHECKED:
        clips = graph.clips(*size)
        for name, expected, output in zip(graph.outputs, graph.encode(resample(clips)), exported(clips), strict=True):
            scale = max(1.0, expected.abs().max().item()) if name == "logits" else 1.0
            differences.append(np.abs(expected.numpy() - output).max() / scale)
    return float(np.max(differences))


# ---- formats: each writes a file, loads it, and returns the model in it ----------------------------------------------


def _write_torch(graph: Graph, path: Path) -> Model:
    buffer = io.BytesIO()
    torch.export.save(graph.program, buffer)  # to a full disk it would abort
    path.write_bytes(buffer.getvalue())
    module = torch.export.load(path).module()
    return lambda clips: [output.detach().numpy() for output in module(clips)]


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
    """Write weights that `models.checkpoints.load` reads, with all other plain values of the checkpoint."""
    from safetensors.torch import save

    encoder = graph.encoder
    tensors = {f"encoder.{key}": value.contiguous() for key, value in encoder.encoder.state_dict().items()}
    own = encoder.state.get(CLASSIFIER, {})
    tensors |= {f"{CLASSIFIER}.{key}": value for key, value in own.items() if isinstance(value, Tensor)}
    card = _plain(encoder.state) | _trained_on(encoder) | ({CLASSIFIER: _plain(own)} if own else {})
    path.write_bytes(save(tensors, {"format": "pt", CARD: json.dumps(card)}))
    state = load(path)
    copy = FrozenEncoder(load_encoder_of(state, path), state, path, encoder.modality)
    model = Graph(copy, own_classifier(copy) if graph.classifier else None)
    return lambda clips: [output.detach().numpy() for output in model(clips)]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that JSON can hold."""
    plain = {}
    for key, value in state.items():
        try:
            plain[key] = json.loads(json.dumps(value))
        except TypeError:
            continue
    return plain


FORMATS: dict[str, tuple[str, Callable[[Graph, Path], Model]]] = {
    "torch": ("encoder.pt2", _write_torch),
    "onnx": ("encoder.onnx", _write_onnx),
    "safetensors": (WEIGHTS_FILE, _write_safetensors),
}
