"""Tell which actions happen when in long recordings.

python -m tools.timeline --pretrained checkpoints/ntu60_xsub A.skeleton FOLDER --out DIR
python -m tools.timeline --pretrained checkpoints/pku1_xsub --detector checkpoints/pku1_xsub/detection.pth.tar data/mine
python -m tools.timeline --pretrained checkpoints/ntu60_xsub --follow growing.skeleton
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_gen.raw.long_files import LongFile
from tools.detection.decoding import Detection
from tools.detection.long_inputs import FRAME_RATE, PLACES, LongInput, file_input, find_inputs
from tools.detection.saved import read_detector
from tools.detection.scoring import BATCH, Scorer, by_classifier, by_detector, by_gallery
from tools.evaluation.features import FrozenEncoder, add_encoder_options, representation_name
from tools.evaluation.linear_classifier import file_of
from tools.inference.gallery import read_gallery
from tools.utils.atomic import atomic_write
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, fraction, positive_float, positive_int
from tools.utils.tables import table

WINDOW = "2s"
CLIP_THRESHOLD, DETECTOR_THRESHOLD = 0.3, 0.2
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)s|(\d+)")


@dataclass
class Timeline:
    """The actions found in a recording: `segments` in order, in frames; `frames` counts the frames read."""

    recording: LongInput
    classes: list[str]
    frames: int = 0
    segments: list[Detection] = field(default_factory=list)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the recording's blocks, and count their frames."""
        for block in self.recording.blocks():
            self.frames += len(block)
            yield block

    def named(self) -> list[tuple[int, int, str, float]]:
        """Return the segments as (start, end, name of the class, confidence)."""
        return [(s.start, s.end, self.classes[s.label], round(s.confidence, 4)) for s in self.segments]

    def truth(self) -> list[tuple[int, int, str]] | None:
        """Return the true segments, if known, with names for classes given by number."""
        if self.recording.truth is None:
            return None
        return [(start, end, _name(label, self.classes)) for start, end, label in self.recording.truth]


def _name(label: str, classes: list[str]) -> str:
    return classes[int(label)] if label.isdecimal() and int(label) < len(classes) else label


def checked_length(text: str) -> str:
    """Check a length, `2.5s` or a number of frames, for argparse."""
    if not _LENGTH.fullmatch(text) or float(text.removesuffix("s")) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length, such as 2.5s or 75 (frames)")
    return text


def in_frames(text: str, frame_rate: float) -> int:
    """Convert a length to frames, at least 1."""
    return max(1, round(float(text[:-1]) * frame_rate) if text.endswith("s") else int(text))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_encoder_options(parser)
    parser.add_argument("recordings", type=Path, nargs="*", metavar="RECORDING", help=PLACES)
    parser.add_argument(
        "--follow", type=Path, metavar="FILE", help="a .skeleton or .csv file that still grows, until Ctrl-C"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help=f"classifier of clips; default: {file_of()} beside the checkpoint",
    )
    kind.add_argument("--gallery", type=Path, metavar="PATH", help="let the nearest clips of a gallery vote instead")
    kind.add_argument("--detector", type=Path, metavar="FILE", help="score each frame by a detector from tools.detect")
    parser.add_argument("-k", type=positive_int, default=5, help="with --gallery: how many neighbours vote")
    parser.add_argument("--modality", type=representation_name, help="with --gallery: as in tools.search")
    parser.add_argument(
        "--window",
        type=checked_length,
        help=f"length of a window, as 2.5s or in frames; default: {WINDOW}, or that of the detector",
    )
    parser.add_argument(
        "--stride", type=checked_length, help="between the starts of windows; default: a quarter of the window"
    )
    parser.add_argument(
        "--threshold",
        type=fraction,
        help=f"least score of an action's frame; default: {CLIP_THRESHOLD}, with --detector {DETECTOR_THRESHOLD}",
    )
    parser.add_argument("--shortest", type=checked_length, default="0.5s", help="least length of an action")
    parser.add_argument(
        "--frame-rate",
        type=positive_float,
        help=f"frames per second; default: a data set's own, {FRAME_RATE:g} for files",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write NAME.json, NAME.csv and NAME.png of each recording here"
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON per recording instead of a table")
    return parser.parse_args(argv)


def make_scorer(args: argparse.Namespace, encoder: FrozenEncoder) -> Scorer:
    """Make the scorer of windows, and complete --window and --threshold. Raises UserError."""
    if args.modality and not args.gallery:
        raise UserError("--modality goes with --gallery; a classifier and a detector have one of their own")
    threshold, window = CLIP_THRESHOLD, WINDOW
    if args.detector:
        detector, classes, length = read_detector(args.detector, encoder)
        threshold, window = DETECTOR_THRESHOLD, str(length)
        scorer = by_detector(detector, classes, encoder.device)
    elif args.gallery:
        scorer = by_gallery(encoder, read_gallery(args.gallery, encoder, args.modality), args.k)
    else:
        scorer = by_classifier(encoder, args.classifier)
    args.threshold, args.window = args.threshold or threshold, args.window or window
    return scorer


def detect(args: argparse.Namespace, scorer: Scorer, recording: LongInput, batch: int = BATCH) -> Iterator[Timeline]:
    """Fill a recording's timeline; yields it after each segment found, and at the end."""
    timeline = Timeline(recording, scorer.classes)
    window, shortest = (in_frames(length, recording.frame_rate) for length in (args.window, args.shortest))
    stride = in_frames(args.stride, recording.frame_rate) if args.stride else max(1, window // 4)
    if stride > window:
        raise UserError(f"a --stride of {stride} frames leaves some between windows of {window}: give at most that")
    for segment in scorer.detect(timeline.blocks(), window, stride, args.threshold, shortest, batch):
        timeline.segments.append(segment)
        yield timeline
    yield timeline


def as_json(timeline: Timeline) -> dict:
    """Convert a timeline to JSON values, in frames and in seconds."""
    rate, truth = timeline.recording.frame_rate, timeline.truth()

    def entry(start: int, end: int, label: str) -> dict:
        seconds = {"start_seconds": round(start / rate, 3), "end_seconds": round(end / rate, 3)}
        return {"start": start, "end": end, **seconds, "label": label}

    segments = [entry(s, e, label) | {"confidence": confidence} for s, e, label, confidence in timeline.named()]
    result = {"recording": timeline.recording.name, "frames": timeline.frames, "frame_rate": rate, "segments": segments}
    return result if truth is None else result | {"truth": [entry(*those) for those in truth]}


def as_table(timeline: Timeline) -> str:
    """Format a timeline for a terminal."""
    rate = timeline.recording.frame_rate
    rows = [[_time(s / rate), _time(e / rate), label, f"{c:.2f}"] for s, e, label, c in timeline.named()]
    title = f"{timeline.recording.name}, {_time(timeline.frames / rate)}"
    if not rows:
        return f"{title}: no action was found\n"
    return f"{title}\n{table(['start', 'end', 'action', 'confidence'], rows)}\n"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def write_files(timeline: Timeline, folder: Path) -> None:
    """Write NAME.json, NAME.csv and NAME.png. Raises OSError."""
    from tools.figures import style
    from tools.figures.timeline import draw

    folder.mkdir(parents=True, exist_ok=True)
    name = timeline.recording.name
    with atomic_write(folder / f"{name}.json") as partial:
        partial.write_text(json.dumps(as_json(timeline), indent=1) + "\n", encoding="utf-8")
    with atomic_write(folder / f"{name}.csv") as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        rows = [("start", "end", "label", "confidence"), *timeline.named()]
        csv.writer(file, lineterminator="\n").writerows(rows)
    rate, found = timeline.recording.frame_rate, [(s, e, label) for s, e, label, _ in timeline.named()]
    figure = draw(name, timeline.frames / rate, rate, found, timeline.truth(), timeline.classes)
    style.save(figure, folder / f"{name}.png")


def _follow(args: argparse.Namespace, scorer: Scorer, recording: LongInput) -> Timeline:
    """Follow a growing file until Ctrl-C, and print each segment once it is certain."""
    file = recording.source
    assert isinstance(file, LongFile)

    def end(number: int, frame: object) -> None:
        file.ended = True

    known = signal.signal(signal.SIGINT, end)
    rate, printed = recording.frame_rate, 0
    try:
        for timeline in detect(args, scorer, recording, batch=1):
            for start, finish, label, confidence in timeline.named()[printed:]:
                printed += 1
                line = {"start": start, "end": finish, "label": label, "confidence": confidence}
                plain = f"{_time(start / rate)} - {_time(finish / rate)}  {label}  {confidence:.2f}"
                print(json.dumps(line) if args.json else plain, flush=True)
    finally:
        signal.signal(signal.SIGINT, known)
    return timeline


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if bool(args.recordings) == bool(args.follow):
        raise UserError("which recordings? Name some, or one that still grows by --follow")
    missing = [name for name in ("matplotlib", "PIL") if args.out and not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"--out draws, which needs {missing[0]}: pip install -r requirements.txt")
    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.timeline"))
    scorer = make_scorer(args, encoder)
    inputs = [file_input(args.follow, encoder, follow=True)] if args.follow else find_inputs(args.recordings, encoder)
    for recording in inputs:
        if args.frame_rate:
            recording = LongInput(recording.name, recording.source, recording.truth, args.frame_rate)
        if args.follow:
            timeline = _follow(args, scorer, recording)
        else:
            *_, timeline = detect(args, scorer, recording)
            print(json.dumps(as_json(timeline)) if args.json else as_table(timeline), flush=True)
        if args.out:
            write_files(timeline, args.out)
            print(f"written to {args.out / recording.name}.json, .csv and .png", file=sys.stderr)


if __name__ == "__main__":
    run(main)
