"""Tell which actions happen when in long recordings.

python -m tools.timeline --pretrained checkpoints/ntu60_xsub A.skeleton FOLDER --out DIR
python -m tools.timeline --pretrained checkpoints/pku1_xsub --detector checkpoints/pku1_xsub/detection.pth.tar data/mine
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from utils.errors import UserError
from utils.options import add_query_options, fraction, make_parser, positive_float, positive_int
from utils.processes import run, single_process

WINDOW = "2s"


def length(text: str) -> str:
    """Check a length, as `2.5s` or a number of frames. For argparse."""
    if not re.fullmatch(r"\d{1,9}(\.\d+)?s|\d{1,9}", text) or not float(text.removesuffix("s")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a length, such as 2.5s or 75 (frames)")
    return text


def in_frames(text: str, frame_rate: float) -> int:
    """Convert a length to frames, at least 1."""
    return max(1, round(float(text[:-1]) * frame_rate) if text.endswith("s") else int(text))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_query_options(parser)
    kind = parser.add_mutually_exclusive_group()
    probe = "classifier of clips; default: that of a fine-tuned encoder, or the newest linear probe of the checkpoint"
    kind.add_argument("--classifier", type=Path, metavar="FILE", help=probe)
    kind.add_argument("--gallery", type=Path, metavar="PATH", help="let the nearest clips of a gallery vote instead")
    kind.add_argument("--detector", type=Path, metavar="FILE", help="score each frame by a detector from tools.detect")
    add("-k", type=positive_int, default=5, help="with --gallery: number of neighbours that vote")
    add("--modality", metavar="M", help="with --gallery: as in tools.search")
    add("--window", type=length, help=f"window, as 2.5s or in frames; default: {WINDOW}, or that of the detector")
    add("--stride", type=length, help="between the starts of windows; default: a quarter of the window")
    add("--threshold", type=fraction, help="minimum score of an action's frame; default: 0.3, with --detector 0.2")
    add("--shortest", type=length, default="0.5s", help="minimum length of an action, and maximum of a gap in one")
    add("--frame-rate", type=positive_float, help="frames per second; default: a data set's own, 30 for files")
    add("--out", type=Path, metavar="DIR", help="write NAME.json, NAME.csv and NAME.png of each recording here")
    args = parser.parse_args(argv)
    if args.modality and not args.gallery:
        parser.error("--modality goes with --gallery; a classifier and a detector have their own")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from models.frozen import FrozenEncoder
    from tools.detection.decoding import CLIP_THRESHOLD, DETECTOR_THRESHOLD
    from tools.detection.detector import read_detector
    from tools.detection.recordings import open_recordings
    from tools.detection.scoring import by_classifier, by_detector, by_gallery
    from tools.detection.timelines import SUFFIXES, Timeline, check_output
    from tools.evaluation.classifier import load_classifier

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.timeline"))
    threshold, window = CLIP_THRESHOLD, WINDOW
    if args.detector:
        detector = read_detector(args.detector, encoder)
        threshold, window, scorer = DETECTOR_THRESHOLD, str(detector.window), by_detector(detector)
    elif args.gallery:
        from tools.inference.gallery import read_gallery

        scorer = by_gallery(read_gallery(args.gallery, encoder, args.modality, args.skeleton), args.k)
    else:
        scorer = by_classifier(load_classifier(args.classifier, encoder))
    recordings = open_recordings(args.recordings, encoder, args.skeleton)
    if args.out:
        check_output(args.out, recordings)
    for recording in recordings:
        recording = replace(recording, frame_rate=args.frame_rate or recording.frame_rate)
        size, shortest = (in_frames(text, recording.frame_rate) for text in (args.window or window, args.shortest))
        stride = in_frames(args.stride, recording.frame_rate) if args.stride else max(1, size // 4)
        if stride > size:
            raise UserError(f"--stride {stride} frames: skips frames between windows of {size}; give at most that")
        bodies = recording.read()
        detections = scorer.detect(bodies, size, stride, args.threshold or threshold, shortest)
        segments = [(start, end, scorer.classes[label], round(score, 4)) for start, end, label, score in detections]
        timeline = Timeline(recording, len(bodies), segments, scorer.classes)
        print(json.dumps(timeline.as_json()) if args.json else timeline.as_table(), flush=True)
        if args.out:
            timeline.write(args.out)
            print(f"saved {args.out / recording.name}{', '.join(SUFFIXES)}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
