"""Write the features of recordings into a NumPy archive.

python -m tools.extract --pretrained checkpoints/ntu60_xsub --data data/ntu60 --out features.npz
python -m tools.extract --pretrained CKPT --data FOLDER recordings.zip A.skeleton --out features.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.packed.words import counted
from feeder.modality_names import ENSEMBLE

from data_gen.raw.conversion import BadRecordings
from tools.utils.encoder_options import PLACES, add_encoder_options, add_skeleton_option, representation_name
from tools.utils.errors import run
from tools.utils.options import HelpFormatter, output_file


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_encoder_options(parser)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help=PLACES)
    parser.add_argument("--out", type=output_file, required=True, metavar="FILE.npz", help="archive to write")
    kinds = "all (fused), one modality, a fusion such as joint+bone, or ensemble: the fused feature and each one's own"
    parser.add_argument("--modality", type=representation_name, default="all", help=kinds)
    add_skeleton_option(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave out recordings that cannot be read")
    args = parser.parse_args(argv)
    if args.out.suffix != ".npz":
        parser.error(f"--out {args.out}: the archive is a .npz file")

    from models.loading import fingerprint

    from tools.evaluation.features import FrozenEncoder
    from tools.inference.recordings import Features, RecordingsInput
    from tools.inference.written_features import write_features
    from tools.utils.distributed import single_process

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.extract"))
    streams = encoder.streams(args.modality)
    recordings = RecordingsInput(args.data, encoder, args.skeleton)

    def batches() -> Iterable[Features]:
        yield from recordings.features(streams, only_whole=not args.skip_bad)
        if recordings.bad and not args.skip_bad:
            raise BadRecordings(recordings.bad)

    size = 2 * encoder.backbone.hidden_size * len(streams)
    modality = ENSEMBLE if args.modality == ENSEMBLE else "+".join(streams[0])
    more = {"modality": modality, "encoder": fingerprint(encoder.backbone), "data": recordings.identity}
    count = write_features(args.out, batches(), size, more | {"classes": recordings.classes})
    print(f"{counted(count, 'feature')} of {size} values: {args.out}")
    for place, reason in recordings.bad.items():
        print(f"warning: left out: {place}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
