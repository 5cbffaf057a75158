"""Export the encoder, with a classifier if one is named, for use without this project: by torch.export and as ONNX.

python -m tools.export --pretrained checkpoints/ntu60_xsub --out FOLDER
python -m tools.export --pretrained CKPT --classifier action_recognition_joint.pth.tar --format onnx --out FOLDER
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from feeder.clips import NUM_FRAMES
from models.inference import ClipEncoder, is_raw
from tools.evaluation.features import FrozenEncoder, add_pretrained_option, representation_name
from tools.evaluation.linear_classifier import SavedClassifier, load_classifier, own_classifier
from tools.evaluation.representation import Streams
from tools.inference.model_card import card_of, card_text
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter

FORMATS = {"torch": "encoder.pt2", "onnx": "encoder.onnx"}
CARD_FILE = "export.json"
TOLERANCE = 1e-5
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TRACED = (2, 50)  # clips and frames; one of either would be taken for a constant
_CHECKED = ((1, NUM_FRAMES), (3, 107))

Model = Callable[[np.ndarray], list[np.ndarray]]  # clips in, outputs out


class Exported(nn.Module):
    """Clips (B, T, M, V, C) in; features (B, streams·2H) and, with a classifier, scores (B, classes) out.

    All values of clips that are not centred are nan, where the encoder takes centred ones: a graph cannot refuse them.
    """

    def __init__(self, encoder: FrozenEncoder, streams: Streams, classifier: SavedClassifier | None):
        super().__init__()
        self.encoders = nn.ModuleList(ClipEncoder(encoder.backbone, stream) for stream in streams)
        self.layout, self.takes_centred, self.classifier = encoder.layout, encoder.takes_centred, classifier

    @property
    def outputs(self) -> list[str]:
        return ["feature", "logits"] if self.classifier else ["feature"]

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        feature = torch.cat([encode(clips) for encode in self.encoders], 1)
        if self.takes_centred:
            feature = torch.where(is_raw(clips, self.layout)[:, None], torch.nan, feature)
        return (feature, self.classifier.scores(feature)) if self.classifier else (feature,)


def export(model: Exported, formats: list[str], folder: Path) -> dict[str, float]:
    """Write the model into a folder in each format, run what was written and compare it with the model.

    Returns the largest difference by format; raises UserError where it is above the tolerance.
    """
    model = model.eval().requires_grad_(False)
    dims = {"clips": {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}}
    program = torch.export.export(model, (_clips(model, *_TRACED),), dynamic_shapes=dims, strict=False)
    found = {}
    for kind in formats:
        path = folder / FORMATS[kind]
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

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of what it cannot simplify
    written = torch.onnx.export(
        program,
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=["clips"],
        output_names=outputs,
        dynamic_shapes={"clips": {0: "batch", 1: "frames"}},  # what the axes are called
    )
    assert written is not None  # by dynamo
    written.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda clips: session.run(outputs, {"clips": clips})


def _clips(model: Exported, count: int, frames: int) -> Tensor:
    """Random centred clips for tracing and checking; the last one shows one person."""
    clips = torch.randn(count, frames, *model.layout.shape, generator=torch.Generator().manual_seed(count))
    clips[:, :, 0, model.layout.skeleton.centre or 0] = 0
    clips[-1, :, 1:] = 0
    return clips


def _largest_difference(model: Exported, written: Model) -> float:
    """Compare what was written with the model, on clips of several lengths.

    Differences of logits are divided by the largest logit where that is above 1: logits grow with the classifier's
    weights, and rounding errors with them.
    """
    largest = []
    for shape in _CHECKED:
        clips = _clips(model, *shape)
        for name, expected, found in zip(model.outputs, model(clips), written(clips.numpy()), strict=True):
            scale = max(1.0, expected.abs().max().item()) if name == "logits" else 1.0
            largest.append(np.abs(expected.numpy() - found).max() / scale)
    return float(np.max(largest))


def preparation(encoder: FrozenEncoder) -> str:
    """Say for the card what must have been done to the clips, which the graph does not do."""
    skeleton = encoder.layout.skeleton
    if not encoder.takes_centred or skeleton.centre is None:
        return "none that is known: the encoder was trained on people as they were recorded"
    centre = skeleton.joints[skeleton.centre]
    text = f"in every frame, all people are moved so that the first person's {centre} is at the origin"
    if skeleton.align:
        to, start = (skeleton.joints[joint] for joint in skeleton.align)
        text += f"; all are turned so that in frame 0 that person's {start} and {to} lie along +x (docs/method.md, 2)"
    return text + "; absent people are zeros. Clips that are not centred give nan."


def _check_packages(formats: list[str]) -> None:
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if "onnx" in formats and missing:
        raise UserError(
            f"ONNX needs the packages {', '.join(missing)}: pip install {' '.join(missing)}, or give --format torch"
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_pretrained_option(parser)
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help="classifier that action_recognition.py wrote: adds its logits; default: that of a fine-tuned encoder",
    )
    parser.add_argument(
        "--modality",
        type=representation_name,
        help="all (fused), one modality, a fusion such as joint+bone, or ensemble; default: the classifier's, else all",
    )
    parser.add_argument(
        "--format", choices=list(FORMATS), nargs="+", default=list(FORMATS), help="formats to write; default: both"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    args = parser.parse_args(argv)
    _check_packages(args.format)
    encoder = FrozenEncoder.open(args.pretrained, single_process("cpu", "tools.export"))
    classifier = load_classifier(args.classifier, encoder) if args.classifier else own_classifier(encoder)
    modality = args.modality or (classifier.representation.modality if classifier else "all")
    streams = encoder.streams(modality)
    if classifier and classifier.representation.streams != streams and not args.classifier:
        classifier = None  # a fine-tuned encoder's features of another modality than it was fine-tuned for
    if classifier and classifier.representation.streams != streams:
        raise UserError(
            f"--modality {args.modality}: {classifier.path} takes features of {classifier.representation.name}"
        )
    model = Exported(encoder, streams, classifier)
    card = card_of(encoder) | {
        "modality": modality if len(streams) > 1 else "+".join(streams[0]),
        "input": {"clips": ["batch", "frames", *encoder.layout.shape]},
        "preparation": preparation(encoder),
        "outputs": model.outputs,
    }
    if classifier:
        card["classes"] = classifier.classes
    args.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=args.out) as scratch:
        found = export(model, list(dict.fromkeys(args.format)), Path(scratch))
        (Path(scratch) / CARD_FILE).write_text(card_text(card), encoding="utf-8")
        for path in Path(scratch).iterdir():
            path.replace(args.out / path.name)
    for kind, difference in found.items():
        print(f"{args.out / FORMATS[kind]}: within {difference:.1g} of the encoder")


if __name__ == "__main__":
    run(main)
