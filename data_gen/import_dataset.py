"""Bring data that others have prepared into a packed data set.

python -m data_gen.import_dataset padded --dataset ntu60 --protocol xsub FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from data_gen.conversion import count_lines, exit_status
from data_gen.datasets import DATA_ROOT, NTU, get_dataset
from data_gen.padded import import_padded


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    formats = parser.add_subparsers(dest="format", required=True)
    padded = formats.add_parser("padded", help="train_ and val_ data_joint.npy, num_frame.npy, label.pkl or label.npy")
    padded.add_argument("folder", type=Path, metavar="FOLDER", help="where the arrays are")
    padded.add_argument("--dataset", required=True, choices=[d.name for d in NTU], help="which data set they are of")
    padded.add_argument("--protocol", required=True, help="how they are split into train and val")
    padded.add_argument("--out", type=Path, help="folder of the packed data set; default: data/DATASET")
    args = parser.parse_args(argv)
    return exit_status(_import(args))


def _import(args: argparse.Namespace) -> Iterator[str]:
    dataset = get_dataset(args.dataset)
    out = args.out or DATA_ROOT / dataset.name
    info = import_padded(dataset, dataset.protocol(args.protocol), args.folder, out)
    yield "\n".join(count_lines(dataset, out, info))


if __name__ == "__main__":
    sys.exit(main())
