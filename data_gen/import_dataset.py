"""Import recordings in other formats as a packed data set.

python -m data_gen.import_dataset padded --dataset ntu60 --protocol xsub FOLDER     train_data_joint.npy and the like
python -m data_gen.import_dataset npz --dataset ntu60 --protocol xsub NTU60_CS.npz  of CTR-GCN, InfoGCN, MAMP
python -m data_gen.import_dataset pyskl --dataset ntu60 ntu60_3danno.pkl            of PYSKL, MMAction2
python -m data_gen.import_dataset folder --name mine FOLDER                         .csv, .npy or .skeleton files
python -m data_gen.import_dataset long --name mine_untrimmed FOLDER                 long ones, with their segments
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.datasets import DATA_ROOT, DATASETS, row_of
from data_gen.formats.base import Options, Source, pack
from data_gen.formats.folder import read_folder, read_long
from data_gen.formats.npz import read_npz
from data_gen.formats.padded import read_padded
from data_gen.formats.pyskl import read_pyskl
from data_gen.packed.protocols import parse_split
from data_gen.packed.reader import INFO, NAME
from data_gen.raw.conversion import count_lines, reason_lines, warning_lines
from data_gen.skeletons import KINECT_V2, load_skeleton, skeleton_in
from utils.errors import UserError
from utils.options import make_parser, positive_int
from utils.processes import run
from utils.text import counted

_FORMATS = {
    "padded": ("FOLDER", "train_ and val_ data_joint.npy, num_frame.npy, label.pkl or label.npy"),
    "npz": ("FILE", "CTR-GCN's, InfoGCN's, MAMP's x_train, y_train, x_test, y_test"),
    "pyskl": ("FILE", "PYSKL's and MMAction2's pickle of split and annotations"),
    "folder": ("FOLDER", "recordings in .csv, .npy or .skeleton files, with a table recordings.csv"),
    "long": ("FOLDER", "long recordings in such files, with a table segments.csv; kept as recorded"),
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    formats = parser.add_subparsers(dest="format", required=True)
    for name, (place, content) in _FORMATS.items():
        command = formats.add_parser(name, help=content, description=content)
        command.set_defaults(dataset=None, protocol=None, as_stored=name == "long", normalise=False)
        command.set_defaults(map_joints=None, repair=None, labels_from=None, classes=None)
        command.add_argument("place", type=Path, metavar=place, help="the folder or file to import")
        what = command.add_mutually_exclusive_group(required=True)
        what.add_argument("--name", help="name of a data set of your own")
        command.add_argument("--out", type=Path, help="folder of the packed data set (default: data/NAME)")
        command.add_argument("--replace", action="store_true", help="replace an existing data set")
        skeleton = "default: " + ("the folder's skeleton.json, else " if name in ("folder", "long") else "")
        skeleton += "the published data set's, else kinect_v2" + (", or coco for 17 joints" if name == "pyskl" else "")
        command.add_argument("--skeleton", metavar="NAME|FILE", help=skeleton)
        rule = "add a protocol (see data_gen.add_protocol)"
        command.add_argument("--split", action="append", default=[], metavar="NAME=RULE", help=rule)
        if name == "long":
            continue
        published = "published data set that the recordings belong to"
        what.add_argument("--dataset", choices=list(DATASETS), help=published)
        if name in ("padded", "npz"):
            command.add_argument("--protocol", help="protocol of its train and val (default with --name: split)")
        command.add_argument("--map-joints", metavar="NAME", help="map the joints onto those of this skeleton")
        repair = "fill gaps of at most N frames with non-finite values, by interpolation in time"
        command.add_argument("--repair", type=positive_int, metavar="N", help=repair)
        when = "by default where" if name in ("pyskl", "folder") else "never by default, even where"
        normal = command.add_mutually_exclusive_group()
        centre = f"centre and align the people ({when} they are not centred)"
        normal.add_argument("--normalise", action="store_true", help=centre)
        normal.add_argument("--as-stored", action="store_true", help="keep the coordinates bit for bit, centred or not")
        command.add_argument("--labels-from", type=int, choices=(0, 1), help="number of the first class (default: 0)")
        classes = "number of classes (default with --name: largest label + 1)"
        command.add_argument("--classes", type=positive_int, help=classes)
    return parser.parse_args(argv)


def read(args: argparse.Namespace, options: Options) -> Source:
    """Read the data set that the arguments name."""
    default = options.dataset.layout.skeleton if options.dataset else None
    if args.format in ("folder", "long"):
        read_tables = read_folder if args.format == "folder" else read_long
        return read_tables(args.place, skeleton_in(args.place, args.skeleton) or default or KINECT_V2)
    skeleton = load_skeleton(args.skeleton) if args.skeleton else default
    if args.format == "pyskl":
        return read_pyskl(args.place, skeleton)
    protocol = args.protocol or "split"
    if options.dataset:
        if not args.protocol:
            raise UserError("--protocol must say how they are split into train and val")
        protocol = options.dataset.protocol(args.protocol).name
    elif not NAME.fullmatch(protocol):
        raise UserError("--protocol has 1 to 64 letters, digits, - and _")
    return (read_padded if args.format == "padded" else read_npz)(args.place, protocol, skeleton or KINECT_V2)


def make_options(args: argparse.Namespace) -> Options:
    """Convert the arguments to options."""
    if args.name is not None and (args.name in DATASETS or not NAME.fullmatch(args.name)):
        raise UserError("--name has 1 to 64 letters, digits, - and _, and is not that of a published data set")
    if args.classes and args.dataset:
        raise UserError("--classes is for a data set of your own: --name")
    return Options(
        DATASETS[args.dataset] if args.dataset else None,
        args.dataset or args.name,
        True if args.normalise else False if args.as_stored else None,
        args.labels_from,
        args.classes,
        load_skeleton(args.map_joints) if args.map_joints else None,
        tuple(parse_split(text) for text in args.split),
        args.repair,
    )


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    out = args.out or DATA_ROOT / (args.dataset or args.name)
    if args.place.resolve() == out.resolve():
        raise UserError(f"{out}: is what is imported; name another folder by --out")
    if (out / INFO).exists() and not args.replace:
        raise UserError(f"{out}: holds a data set already; --replace replaces it, --out makes another one elsewhere")
    options = make_options(args)
    info = pack(read(args, options), out, options)
    lines = count_lines(row_of(info), out, info)
    if info.get("unlisted"):
        lines.append(f"  left out: {counted(info['unlisted'], 'recording')} that the table does not list")
    if info.get("repaired"):
        lines.append(f"  {counted(len(info['repaired']), 'recording')} had gaps, which are filled by interpolation:")
        lines += reason_lines(info["repaired"])
    if "segments" in info:
        lines.append(f"  long recordings with {counted(info['segments'], 'segment')}")
    lines += warning_lines(out, info)
    if "normalised" in info["made"]:
        lines.append("  they were raw: their people are now centred and aligned")
    elif args.format in ("folder", "pyskl") and not args.as_stored:
        lines.append("  their people were centred already, or have no centre, and are kept as they are")
    print("\n".join(lines))


if __name__ == "__main__":
    run(main)
