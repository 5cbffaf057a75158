"""Write a packed data set in the formats of other projects; import_dataset reads them back bit for bit.

python -m data_gen.export_dataset padded --data data/ntu60 --protocol xsub --out FOLDER
python -m data_gen.export_dataset npz --data data/ntu60 --protocol xsub --out NTU60_CS.npz
python -m data_gen.export_dataset pyskl --data data/ntu60 --out ntu60_3danno.pkl
python -m data_gen.export_dataset folder --data data/ntu60 --as csv --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.datasets import row_of
from data_gen.formats.folder import export_folder
from data_gen.formats.npz import export_npz
from data_gen.formats.padded import export_padded
from data_gen.formats.pyskl import export_pyskl
from data_gen.packed.reader import PackedDataset
from utils.errors import UserError
from utils.options import HelpFormatter, make_parser, positive_int
from utils.processes import run

_FORMATS = {
    "padded": ("FOLDER", "{train,val}_data_joint.npy, num_frame.npy and label.pkl of one protocol"),
    "npz": ("FILE", "x_train, y_train, x_test, y_test of one protocol, as for CTR-GCN, InfoGCN and MAMP"),
    "pyskl": ("FILE", "a pickle of split and annotations, as for PYSKL and MMAction2"),
    "folder": ("FOLDER", "a .npy or .csv file per recording, and a table recordings.csv"),
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    formats = parser.add_subparsers(dest="format", required=True)
    for name, (place, content) in _FORMATS.items():
        command = formats.add_parser(name, help=content, description=content, formatter_class=HelpFormatter)
        command.add_argument("--data", type=Path, required=True, metavar="DIR", help="the packed data set")
        command.add_argument("--out", type=Path, required=True, metavar=place, help="must not exist, or be empty")
        if name in ("padded", "npz"):
            command.add_argument("--protocol", help="default: the first")
            command.add_argument("--frames", type=positive_int, default=300, help="length of the arrays")
        if name == "folder":
            command.add_argument("--as", dest="suffix", choices=("npy", "csv"), default="npy", help="kind of file")
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> list[Path]:
    """Write the data set in the chosen format. Return the written files."""
    packed = PackedDataset(args.data)
    if packed.segments is not None:
        raise UserError(f"{args.data}: holds long recordings; no format has segments")
    if args.format == "folder":
        return export_folder(packed, f".{args.suffix}", args.out)
    if args.format == "pyskl":
        return export_pyskl(packed, args.out)
    if not packed.protocols:
        raise UserError(f"{args.data}: has no protocol; add one with data_gen.add_protocol")
    protocol = row_of(packed.info).protocol(args.protocol or packed.protocols[0]).name
    return (export_padded if args.format == "padded" else export_npz)(packed, protocol, args.frames, args.out)


def main(argv: list[str] | None = None) -> None:
    for path in export(parse_arguments(argv)):
        print(path)


if __name__ == "__main__":
    run(main)
