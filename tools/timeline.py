"""Tell which actions happen when in long recordings.

python -m tools.timeline --pretrained checkpoints/ntu60_xsub A.skeleton FOLDER --out DIR
python -m tools.timeline --pretrained checkpoints/pku1_xsub --detector checkpoints/pku1_xsub/detection.pth.tar data/mine
python -m tools.timeline --pretrained checkpoints/ntu60_xsub --follow growing.skeleton
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from tools.detection.decoding import CLIP_THRESHOLD, DETECTOR_THRESHOLD, FRAME_RATE, WINDOW
from tools.utils.encoder_options import LONG_PLACES, add_encoder_options, add_skeleton_option, representation_name
from tools.utils.errors import UserError, check_packages, run
from tools.utils.options import HelpFormatter, fraction, frame_rate, positive_int

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)s|(\d+)")


def checked_length(text: str) -> str:
    """Check a length, as `2.5s` or a number of frames. For argparse."""
    if not _LENGTH.fullmatch(text) or not 0 < float(text.removesuffix("s")) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length, such as 2.5s or 75 (frames)")
    return text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_encoder_options(parser)
    parser.add_argument("recordings", type=Path, nargs="*", metavar="RECORDING", help=LONG_PLACES)
    growing = "a .skeleton or .csv file that still grows, until Ctrl-C"
    parser.add_argument("--follow", type=Path, metavar="FILE", help=growing)
    add_skeleton_option(parser)
    kind = parser.add_mutually_exclusive_group()
    beside = "of clips; default: that of a fine-tuned encoder, or action_recognition.pth.tar beside the checkpoint"
    kind.add_argument("--classifier", type=Path, metavar="FILE", help=beside)
    kind.add_argument("--gallery", type=Path, metavar="PATH", help="let the nearest clips of a gallery vote instead")
    kind.add_argument("--detector", type=Path, metavar="FILE", help="score each frame by a detector from tools.detect")
    parser.add_argument("-k", type=positive_int, default=5, help="with --gallery: number of neighbours that vote")
    parser.add_argument("--modality", type=representation_name, help="with --gallery: as in tools.search")
    window = f"length of a window, as 2.5s or in frames; default: {WINDOW}, or that of the detector"
    parser.add_argument("--window", type=checked_length, help=window)
    stride = "between the starts of windows; default: a quarter of the window"
    parser.add_argument("--stride", type=checked_length, help=stride)
    threshold = f"least score of an action's frame; default: {CLIP_THRESHOLD}, with --detector {DETECTOR_THRESHOLD}"
    parser.add_argument("--threshold", type=fraction, help=threshold)
    parser.add_argument("--shortest", type=checked_length, default="0.5s", help="least length of an action")
    rate = f"frames per second; default: a data set's own, {FRAME_RATE:g} for files"
    parser.add_argument("--frame-rate", type=frame_rate, help=rate)
    out = "write NAME.json, NAME.csv and NAME.png of each recording here"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    parser.add_argument("--json", action="store_true", help="print a line of JSON per recording instead of a table")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if bool(args.recordings) == bool(args.follow):
        raise UserError("which recordings? Name some, or one that still grows by --follow")
    if args.out:
        check_packages("--out draws, which needs", ("matplotlib", "PIL"))

    from tools.detection.timelines import report_timelines

    report_timelines(args)


if __name__ == "__main__":
    run(main)
