"""Write the features of recordings into a NumPy archive: feature (N, D), name, label (−1: unknown), classes, modality,
encoder (hash of its weights), data (identity of a packed data set).

python -m tools.extract --pretrained checkpoints/ntu60_xsub --data data/ntu60 --out features.npz
python -m tools.extract --pretrained CKPT --data FOLDER recordings.zip A.skeleton --out features.npz
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from utils import options
from utils.files import atomic_write
from utils.processes import run, single_process
from utils.text import counted


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    options.add_pretrained_option(parser)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help=options.PLACES)
    parser.add_argument("--out", type=options.output_file, required=True, metavar="FILE.npz", help="archive to write")
    options.add_modality_option(parser, "all")
    options.add_skeleton_option(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave out recordings that cannot be read")
    options.add_device_option(parser)
    args = parser.parse_args(argv)
    if args.out.suffix != ".npz":
        parser.error(f"--out {args.out}: name a .npz file")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    import numpy as np

    from models.frozen import FrozenEncoder
    from tools.inference.recordings import Recordings

    device = single_process(args.device, "tools.extract")
    encoder = FrozenEncoder.open(args.pretrained, device, args.modality)
    recordings = Recordings(args.data, encoder, args.skeleton)
    names, labels, features = recordings.all_features(args.skip_bad)
    arrays: dict[str, Any] = {
        "feature": features.numpy(),
        "name": np.array(names),
        "label": np.array(labels),
        "classes": np.array(recordings.class_names, np.str_),
        "modality": np.array(encoder.modality),
        "encoder": np.array(encoder.weights_hash),
        "data": np.array(recordings.data),
    }
    with atomic_write(args.out) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)
    print(f"{counted(len(names), 'feature')} of {encoder.feature_size} values: {args.out}")
    for place, reason in recordings.unreadable.items():
        print(f"warning: left out: {place}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
