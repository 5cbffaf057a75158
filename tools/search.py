"""Find a gallery's recordings that are nearest to others, by the cosine of their features, centred on the gallery.

python -m tools.search --pretrained checkpoints/ntu60_xsub --gallery data/ntu60 A.skeleton
python -m tools.search --pretrained checkpoints/ntu60_xsub --gallery features.npz A.skeleton
"""

from __future__ import annotations

import argparse
from pathlib import Path

from utils.options import add_modality_option, add_query_options, make_parser, positive_int
from utils.processes import run, single_process


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_query_options(parser)
    gallery = "where to search: a packed data set, a folder or archive of recordings, or an .npz from tools.extract"
    parser.add_argument("--gallery", type=Path, required=True, metavar="PATH", help=gallery)
    parser.add_argument("-k", type=positive_int, default=5, help="number of nearest recordings to name")
    add_modality_option(parser, None, otherwise="an .npz file's own, else ensemble")
    without = "leave out the gallery's recording of the query's own name"
    parser.add_argument("--leave-out-self", action="store_true", help=without)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from models.frozen import FrozenEncoder
    from tools.inference.gallery import read_gallery
    from tools.inference.recordings import Answer, Features, Recordings, print_answers

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.search"))
    gallery = read_gallery(args.gallery, encoder, args.modality, args.skeleton)

    def search(batch: Features) -> list[Answer]:
        return gallery.nearest(batch.features, args.k, batch.names if args.leave_out_self else ())

    recordings = Recordings(args.recordings, gallery.encoder, args.skeleton)
    print_answers(recordings, search, "neighbours", args.json)


if __name__ == "__main__":
    run(main)
