"""Export an encoder, optionally with a classifier, and compare the exported model with it."""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from data_gen.packed.atomic import atomic_files, check_replaceable, locked
from feeder.modality_names import Streams
from models.inference import ClipEncoder, is_raw
from torch import Tensor, nn

from feeder.clips import NUM_FRAMES
from tools.evaluation.features import FrozenEncoder
from tools.evaluation.linear_classifier import SavedClassifier, load_classifier, own_classifier
from tools.inference.model_card import card_of, card_text
from tools.utils.distributed import single_process
from tools.utils.encoder_options import EXPORTED
from tools.utils.errors import UserError

CARD_FILE = "export.json"
TOLERANCE = 1e-5
_TRACED = (2, 50)  # clips and frames; a size of 1 would become a constant in the graph
_CHECKED = ((1, NUM_FRAMES), (3, 107))

Model = Callable[[np.ndarray], list[np.ndarray]]  # clips in, outputs out


class Exported(nn.Module):
    """Map clips (B, T, M, V, C) to features (B, streams·2H) and, with a classifier, scores (B, classes).

    If the encoder takes centred clips, other clips give nan everywhere, since a graph cannot raise an error.
    """

    def __init__(self, encoder: FrozenEncoder, streams: Streams, classifier: SavedClassifier | None):
        super().__init__()
        self.encode = ClipEncoder(encoder.backbone, streams)
        self.layout, self.takes_centred, self.classifier = encoder.layout, encoder.takes_centred, classifier

    @property
    def outputs(self) -> list[str]:
        return ["feature", "logits"] if self.classifier else ["feature"]

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        feature = self.encode(clips)
        if self.takes_centred:
            feature = torch.where(is_raw(clips, self.layout)[:, None], torch.nan, feature)
        return (feature, self.classifier.scores(feature)) if self.classifier else (feature,)


def _export(model: Exported, formats: list[str], folder: Path) -> dict[str, float]:
    """Write the model into a folder in each format, run each file and compare its outputs with the model's.

    Return the largest difference by format. Raises UserError if it is above the tolerance.
    """
    model = model.eval().requires_grad_(False)
    dims = {"clips": {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}}
    program = torch.export.export(model, (_clips(model, *_TRACED),), dynamic_shapes=dims, strict=False)
    found = {}
    for kind in formats:
        path = folder / EXPORTED[kind]
        load = _write_torch if kind == "torch" else _write_onnx
        found[kind] = _largest_difference(model, load(program, path, model.outputs))
        if not found[kind] <= TOLERANCE:  # False for nan too
            raise UserError(
                f"{path.name} differs from the encoder by {found[kind]:.2g}, more than {TOLERANCE:g}: nothing was "
                "written; other versions of torch and of the ONNX packages may do better"
            )
    return found


def _write_torch(program: torch.export.ExportedProgram, path: Path, outputs: list[str]) -> Model:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)  # to a full disk it would abort
    path.write_bytes(buffer.getvalue())
    module = torch.export.load(path).module()
    return lambda clips: [output.detach().numpy() for output in module(torch.from_numpy(clips))]


def _write_onnx(program: torch.export.ExportedProgram, path: Path, outputs: list[str]) -> Model:
    import onnxruntime

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of each node it cannot simplify
    written = torch.onnx.export(
        program,
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=["clips"],
        output_names=outputs,
        dynamic_shapes={"clips": {0: "batch", 1: "frames"}},  # names of the axes
    )
    assert written is not None  # by dynamo
    written.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda clips: session.run(outputs, {"clips": clips})


def _clips(model: Exported, count: int, frames: int) -> Tensor:
    """Make random centred clips for tracing and checking; the last one shows one person."""
    clips = torch.randn(count, frames, *model.layout.shape, generator=torch.Generator().manual_seed(count))
    clips[:, :, 0, model.layout.skeleton.centre or 0] = 0
    clips[-1, :, 1:] = 0
    return clips


def _largest_difference(model: Exported, written: Model) -> float:
    """Return the largest difference between exported model and model, on clips of several lengths.

    Differences of logits are divided by the largest logit if it is above 1: rounding errors grow with the logits, and
    these with the classifier's weights.
    """
    largest = []
    for shape in _CHECKED:
        clips = _clips(model, *shape)
        for name, expected, found in zip(model.outputs, model(clips), written(clips.numpy()), strict=True):
            scale = max(1.0, expected.abs().max().item()) if name == "logits" else 1.0
            largest.append(np.abs(expected.numpy() - found).max() / scale)
    return float(np.max(largest))


def _preparation(encoder: FrozenEncoder) -> str:
    """Describe for the card how clips must be prepared; the graph does not do it."""
    skeleton = encoder.layout.skeleton
    if not encoder.takes_centred or skeleton.centre is None:
        return "none that is known: the encoder was trained on people as they were recorded"
    centre = skeleton.joints[skeleton.centre]
    text = f"in every frame, all people are moved so that the first person's {centre} is at the origin"
    if skeleton.align:
        to, start = (skeleton.joints[joint] for joint in skeleton.align)
        text += f"; all are turned so that in frame 0 that person's {start} and {to} lie along +x (docs/method.md, 2)"
    return text + "; absent people are zeros. Clips that are not centred give nan."


def export_encoder(args: argparse.Namespace) -> None:
    """Run tools.export. Raises UserError, CheckpointError or OSError if that is impossible."""
    encoder = FrozenEncoder.open(args.pretrained, single_process("cpu", "tools.export"))
    classifier = load_classifier(args.classifier, encoder) if args.classifier else own_classifier(encoder)
    modality = args.modality or (classifier.representation.modality if classifier else "all")
    streams = encoder.streams(modality)
    if classifier and classifier.representation.streams != streams:
        if args.classifier:
            raise UserError(
                f"--modality {args.modality}: {classifier.path} takes features of {classifier.representation.name}"
            )
        classifier = None  # another modality than the encoder was fine-tuned for
    check_replaceable(*(args.out / name for name in (*EXPORTED.values(), CARD_FILE)))
    model = Exported(encoder, streams, classifier)
    card = card_of(encoder) | {
        "modality": modality if len(streams) > 1 else "+".join(streams[0]),
        "input": {"clips": ["batch", "frames", *encoder.layout.shape]},
        "preparation": _preparation(encoder),
        "outputs": model.outputs,
    }
    if classifier:
        card["classes"] = classifier.classes
    with locked(args.out), atomic_files(args.out, last=CARD_FILE) as scratch:
        found = _export(model, list(dict.fromkeys(args.format)), scratch)
        (scratch / CARD_FILE).write_text(card_text(card), encoding="utf-8")
    for kind, difference in found.items():
        print(f"{args.out / EXPORTED[kind]}: within {difference:.1g} of the encoder")
