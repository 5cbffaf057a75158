"""Export the encoder, with a classifier if there is one: by torch.export, as ONNX, and as safetensors weights.

    python -m tools.export --pretrained checkpoints/ntu60_xsub --out FOLDER
    python -m tools.export --pretrained CKPT --classifier action_recognition_joint.pth.tar --format onnx --out FOLDER

encoder.pt2 and encoder.onnx take clips, float32 (batch, frames, people, joints, coordinates), centred as conversion
makes them; export.json has the shapes. encoder.safetensors is for --pretrained of this project's programs.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from utils.errors import UserError
from utils.options import add_modality_option, add_pretrained_option, make_parser
from utils.processes import run

# Format → packages beyond requirements.txt that it needs.
PACKAGES = {"torch": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_pretrained_option(parser)
    classifier = "classifier that action_recognition.py wrote, for logits; default: a fine-tuned encoder's own"
    parser.add_argument("--classifier", type=Path, metavar="FILE", help=classifier)
    add_modality_option(parser, None, otherwise="the classifier's, else all")
    formats = "formats to write; default: torch onnx"
    parser.add_argument("--format", choices=PACKAGES, nargs="+", default=["torch", "onnx"], help=formats)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    for name in args.format:
        if missing := [package for package in PACKAGES[name] if find_spec(package) is None]:
            raise UserError(f"--format {name}: pip install {' '.join(missing)}, or choose other formats")

    import torch

    from models.checkpoints import CLASSIFIER, load_tensors
    from models.frozen import FrozenEncoder
    from tools.evaluation.classifier import load_classifier, own_classifier
    from tools.inference.exporting import export

    encoder = FrozenEncoder.open(args.pretrained, torch.device("cpu"))
    classifier = own_classifier(encoder)
    if args.classifier:
        classifier = load_classifier(args.classifier, encoder)
        state = load_tensors(args.classifier)
        encoder.state[CLASSIFIER] = state.get(CLASSIFIER, state)
    selected = classifier.encoder if classifier and not args.modality else encoder.select(args.modality or "all")
    if classifier and classifier.encoder.streams != selected.streams:
        if args.classifier:
            modality = classifier.representation.modality
            raise UserError(f"--modality {args.modality}: {args.classifier} takes features of {modality}")
        classifier = None  # the encoder was fine-tuned for another modality
    for path, difference in export(selected, classifier, args.format, args.out).items():
        print(f"{path}: within {difference:.1g} of the encoder")


if __name__ == "__main__":
    run(main)
