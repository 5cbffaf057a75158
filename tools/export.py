"""Export the encoder, with a classifier if one is named, for use without this project: by torch.export and as ONNX.

python -m tools.export --pretrained checkpoints/ntu60_xsub --out FOLDER
python -m tools.export --pretrained CKPT --classifier action_recognition_joint.pth.tar --format onnx --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from tools.utils.encoder_options import EXPORTED, add_pretrained_option, representation_name
from tools.utils.errors import check_packages, run
from tools.utils.options import HelpFormatter


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_pretrained_option(parser)
    logits = "classifier that action_recognition.py wrote: adds its logits; default: that of a fine-tuned encoder"
    parser.add_argument("--classifier", type=Path, metavar="FILE", help=logits)
    kinds = "all (fused), one modality, a fusion such as joint+bone, or ensemble; default: the classifier's, else all"
    parser.add_argument("--modality", type=representation_name, help=kinds)
    both = list(EXPORTED)
    parser.add_argument("--format", choices=both, nargs="+", default=both, help="formats to write; default: both")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    args = parser.parse_args(argv)
    if "onnx" in args.format:
        check_packages("ONNX needs", ("onnx", "onnxscript", "onnxruntime"), ", or give --format torch")

    from tools.inference.exporting import export_encoder

    export_encoder(args)


if __name__ == "__main__":
    run(main)
