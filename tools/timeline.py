"""Tell which actions happen when in long recordings.

python -m tools.timeline --pretrained checkpoints/ntu60_xsub A.skeleton FOLDER --out DIR
python -m tools.timeline --pretrained checkpoints/pku1_xsub --detector checkpoints/pku1_xsub/detection.pth.tar data/mine
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import atomic_files, read_json, reading
from utils.options import add_query_options, fraction, make_parser, positive_float, positive_int
from utils.processes import run, single_process
from utils.text import table

if TYPE_CHECKING:
    from tools.detection.recordings import LongRecording
    from tools.detection.scoring import Detection

# Defaults for scores of clips; a detector has a window of its own.
WINDOW, CLIP_THRESHOLD, DETECTOR_THRESHOLD = "2s", 0.3, 0.2
SUFFIXES = (".json", ".csv", ".png")


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
    threshold = f"minimum score of an action's frame; default: {CLIP_THRESHOLD}, with --detector {DETECTOR_THRESHOLD}"
    add("--threshold", type=fraction, help=threshold)
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
    from tools.detection.detector import read_detector
    from tools.detection.recordings import open_recordings
    from tools.detection.scoring import by_classifier, by_detector, by_gallery
    from tools.evaluation.classifier import load_classifier
    from tools.inference.gallery import read_gallery

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.timeline"))
    threshold, window = CLIP_THRESHOLD, WINDOW
    if args.detector:
        detector = read_detector(args.detector, encoder)
        threshold, window, scorer = DETECTOR_THRESHOLD, str(detector.window), by_detector(detector)
    elif args.gallery:
        scorer = by_gallery(read_gallery(args.gallery, encoder, args.modality, args.skeleton), args.k)
    else:
        scorer = by_classifier(load_classifier(args.classifier, encoder))
    recordings = open_recordings(args.recordings, encoder, args.skeleton)
    if args.out:
        check_output(args.out, recordings)
    for recording in recordings:
        rate = args.frame_rate or recording.frame_rate
        size, shortest = in_frames(args.window or window, rate), in_frames(args.shortest, rate)
        stride = in_frames(args.stride, rate) if args.stride else max(1, size // 4)
        if stride > size:
            raise UserError(f"--stride {stride} frames: skips frames between windows of {size}; give at most that")
        bodies = recording.read()
        detections = scorer.detect(bodies, size, stride, args.threshold or threshold, shortest)
        timeline = make_timeline(recording, rate, len(bodies), detections, scorer.classes)
        print(json.dumps(timeline) if args.json else format_timeline(timeline), flush=True)
        if args.out:
            write_timeline(timeline, args.out, scorer.classes)
            print(f"saved {args.out / recording.name}{', '.join(SUFFIXES)}", file=sys.stderr)


def make_timeline(
    recording: LongRecording, rate: float, num_frame: int, detections: Sequence[Detection], classes: Sequence[str]
) -> dict[str, Any]:
    """Describe the segments of a recording, and the true ones if they are known, as the JSON has them."""

    def segment(start: int, end: int, label: str, **score: float) -> dict[str, Any]:
        seconds = {"start_seconds": round(start / rate, 3), "end_seconds": round(end / rate, 3)}
        return {"start": start, "end": end, **seconds, "label": label, **score}

    timeline: dict[str, Any] = {"recording": recording.name, "frames": num_frame, "frame_rate": rate}
    timeline["segments"] = [
        segment(start, end, classes[label], confidence=round(confidence, 4))
        for start, end, label, confidence in detections
    ]
    if recording.truth is not None:
        names = {str(label): name for label, name in enumerate(classes)}  # a user's table may hold numbers
        timeline["truth"] = [segment(start, end, names.get(label, label)) for start, end, label in recording.truth]
    return timeline


def format_timeline(timeline: dict[str, Any]) -> str:
    """Format a timeline for the terminal."""

    def time(frame: int) -> str:
        minutes, seconds = divmod(round(frame / timeline["frame_rate"], 1), 60)
        return f"{int(minutes)}:{seconds:04.1f}"

    title = f"{timeline['recording']}, {time(timeline['frames'])}"
    rows = [[time(s["start"]), time(s["end"]), s["label"], f"{s['confidence']:.2f}"] for s in timeline["segments"]]
    return f"{title}\n{table(['start', 'end', 'action', 'confidence'], rows)}\n" if rows else f"{title}: no action\n"


def write_timeline(timeline: dict[str, Any], folder: Path, classes: Sequence[str]) -> None:
    """Write NAME.json, NAME.csv and NAME.png; the picture's lanes are in the order of the classes."""
    from tools.figures import style
    from tools.figures.timeline import draw

    def spans(segments: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
        return [(s["start"], s["end"], s["label"]) for s in segments]

    name, rate = timeline["recording"], timeline["frame_rate"]
    truth = spans(timeline["truth"]) if "truth" in timeline else None
    figure = draw(name, timeline["frames"] / rate, rate, spans(timeline["segments"]), truth, classes)
    with atomic_files(folder) as partial:
        (partial / f"{name}.json").write_text(json.dumps(timeline, indent=1) + "\n", encoding="utf-8")
        with open(partial / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            columns = ("start", "end", "label", "confidence")
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(timeline["segments"])
        style.save(figure, partial / f"{name}.png")


def check_output(folder: Path, recordings: Sequence[LongRecording]) -> None:
    """Raise UserError if timelines in `folder` would replace other files than earlier timelines."""
    for name in (recording.name for recording in recordings):
        existing = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
        for path in existing[:1]:
            with reading(path, "; give another folder by --out"):
                if path.suffix != ".json" or read_json(path)["recording"] != name:
                    raise UserError("is no timeline, and would be replaced")


if __name__ == "__main__":
    run(main)
