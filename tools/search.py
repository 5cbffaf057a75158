"""Find the recordings of a gallery that are nearest to others, by the cosine of their features, centred on the gallery.

python -m tools.search --pretrained checkpoints/ntu60_xsub --gallery data/ntu60 A.skeleton B.skeleton
python -m tools.search --pretrained checkpoints/ntu60_xsub --gallery features.npz --watch FOLDER --json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from tools.utils.encoder_options import add_query_options, representation_name
from tools.utils.errors import run
from tools.utils.options import HelpFormatter, positive_int

NEIGHBOURS = 5


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_query_options(parser)
    searched = "what is searched: a packed data set, a folder or archive of recordings, or an .npz from tools.extract"
    parser.add_argument("--gallery", type=Path, required=True, metavar="PATH", help=searched)
    parser.add_argument("-k", type=positive_int, default=NEIGHBOURS, help="how many of the nearest recordings to name")
    parser.add_argument(
        "--modality",
        type=representation_name,
        help="ensemble (the fused feature and each modality's own), all (fused), one modality, or a fusion such as "
        "joint+bone; default: that of an .npz, else ensemble",
    )
    parser.add_argument(
        "--leave-out-self", action="store_true", help="leave out the gallery's recording of the query's own name"
    )
    args = parser.parse_args(argv)

    from tools.evaluation.features import FrozenEncoder
    from tools.inference.gallery import read_gallery
    from tools.inference.queries import answer_queries
    from tools.inference.recordings import Features
    from tools.utils.distributed import single_process

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.search"))
    gallery = read_gallery(args.gallery, encoder, args.modality, args.skeleton)
    gallery.check_queries(args.recordings)

    def answer(batch: Features) -> list[list[dict[str, Any]]]:
        return gallery.nearest(batch.feature, args.k, batch.names if args.leave_out_self else ())

    answer_queries(args, encoder, gallery.representation.streams, "neighbours", answer)


if __name__ == "__main__":
    run(main)
