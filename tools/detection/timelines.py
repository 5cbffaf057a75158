"""Report which actions happen when in long recordings, as tables, JSON, CSV and pictures."""

from __future__ import annotations

import argparse
import csv
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from data_gen.packed.atomic import atomic_write, check_replaceable
from data_gen.raw.long_files import LongFile

from tools.detection.decoding import CLIP_THRESHOLD, DETECTOR_THRESHOLD, WINDOW
from tools.detection.long_inputs import LongInput, file_input, find_inputs
from tools.detection.saved import read_detector
from tools.detection.scoring import BATCH, Scorer, by_classifier, by_detector, by_gallery
from tools.evaluation.features import FrozenEncoder
from tools.inference.gallery import read_gallery
from tools.utils.distributed import single_process
from tools.utils.errors import UserError
from tools.utils.tables import table


@dataclass
class Timeline:
    """What happens in a recording: the segments found, in order, as (first frame, frame after the last, name of the
    class, confidence). `frames` counts those that were read."""

    recording: LongInput
    classes: list[str]
    frames: int = 0
    segments: list[tuple[int, int, str, float]] = field(default_factory=list)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the recording's blocks, and count their frames."""
        for block in self.recording.blocks():
            self.frames += len(block)
            yield block

    def truth(self) -> list[tuple[int, int, str]] | None:
        """Return the true segments, if known, with names for classes that are given by number."""
        if self.recording.truth is None:
            return None
        return [(start, end, _name(label, self.classes)) for start, end, label in self.recording.truth]


def _name(label: str, classes: list[str]) -> str:
    return classes[int(label)] if label.isdecimal() and int(label) < len(classes) else label


def in_frames(text: str, frame_rate: float) -> int:
    """Convert a length to frames, at least 1."""
    return max(1, round(float(text[:-1]) * frame_rate) if text.endswith("s") else int(text))


def make_scorer(args: argparse.Namespace, encoder: FrozenEncoder) -> Scorer:
    """Make the scorer of windows, and set defaults for --window and --threshold. Raises UserError if it cannot."""
    if args.modality and not args.gallery:
        raise UserError("--modality goes with --gallery; a classifier and a detector have one of their own")
    threshold, window = CLIP_THRESHOLD, WINDOW
    if args.detector:
        detector, classes, length = read_detector(args.detector, encoder)
        threshold, window = DETECTOR_THRESHOLD, str(length)
        scorer = by_detector(detector, classes, encoder.device)
    elif args.gallery:
        scorer = by_gallery(encoder, read_gallery(args.gallery, encoder, args.modality, args.skeleton), args.k)
    else:
        scorer = by_classifier(encoder, args.classifier)
    args.threshold, args.window = args.threshold or threshold, args.window or window
    return scorer


def detect(args: argparse.Namespace, scorer: Scorer, recording: LongInput, batch: int = BATCH) -> Iterator[Timeline]:
    """Fill a recording's timeline. Yield it after each segment found, and at the end."""
    timeline = Timeline(recording, scorer.classes)
    window, shortest = (in_frames(length, recording.frame_rate) for length in (args.window, args.shortest))
    stride = in_frames(args.stride, recording.frame_rate) if args.stride else max(1, window // 4)
    if stride > window:
        raise UserError(f"a --stride of {stride} frames leaves some between windows of {window}: give at most that")
    for start, end, label, confidence in scorer.detect(
        timeline.blocks(), window, stride, args.threshold, shortest, batch
    ):
        timeline.segments.append((start, end, scorer.classes[label], round(confidence, 4)))
        yield timeline
    yield timeline


def as_json(timeline: Timeline) -> dict:
    """Return a timeline as plain values for JSON, in frames and in seconds."""
    rate, truth = timeline.recording.frame_rate, timeline.truth()

    def entry(start: int, end: int, label: str) -> dict:
        seconds = {"start_seconds": round(start / rate, 3), "end_seconds": round(end / rate, 3)}
        return {"start": start, "end": end, **seconds, "label": label}

    segments = [entry(s, e, label) | {"confidence": confidence} for s, e, label, confidence in timeline.segments]
    result = {"recording": timeline.recording.name, "frames": timeline.frames, "frame_rate": rate, "segments": segments}
    return result if truth is None else result | {"truth": [entry(*those) for those in truth]}


def as_table(timeline: Timeline) -> str:
    """Format a timeline for the terminal."""
    rate = timeline.recording.frame_rate
    rows = [[_time(s / rate), _time(e / rate), label, f"{c:.2f}"] for s, e, label, c in timeline.segments]
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
        rows = [("start", "end", "label", "confidence"), *timeline.segments]
        csv.writer(file, lineterminator="\n").writerows(rows)
    rate, found = timeline.recording.frame_rate, [(s, e, label) for s, e, label, _ in timeline.segments]
    figure = draw(name, timeline.frames / rate, rate, found, timeline.truth(), timeline.classes)
    style.save(figure, folder / f"{name}.png")


def _follow(args: argparse.Namespace, scorer: Scorer, recording: LongInput) -> Timeline:
    """Follow a growing file until Ctrl-C, and print each segment once it is certain."""
    file = recording.source
    assert isinstance(file, LongFile)

    def end(number: int, frame: object) -> None:
        file.ended = True

    known = signal.signal(signal.SIGINT, end)
    rate, told = recording.frame_rate, 0
    try:
        for timeline in detect(args, scorer, recording, batch=1):
            for start, finish, label, confidence in timeline.segments[told:]:
                told += 1
                line = {"start": start, "end": finish, "label": label, "confidence": confidence}
                plain = f"{_time(start / rate)} - {_time(finish / rate)}  {label}  {confidence:.2f}"
                print(json.dumps(line) if args.json else plain, flush=True)
    finally:
        signal.signal(signal.SIGINT, known)
    return timeline


def report_timelines(args: argparse.Namespace) -> None:
    """Run tools.timeline. Raises UserError, CheckpointError, DataSetError or OSError if that is impossible."""
    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.timeline"))
    scorer = make_scorer(args, encoder)
    if args.follow:
        inputs = [file_input(args.follow, encoder, args.skeleton, follow=True)]
    else:
        inputs = find_inputs(args.recordings, encoder, args.skeleton)
    if args.out:
        check_replaceable(*(args.out / f"{each.name}{end}" for each in inputs for end in (".json", ".csv", ".png")))
    for recording in inputs:
        if args.frame_rate:
            recording = replace(recording, frame_rate=args.frame_rate)
        if args.follow:
            timeline = _follow(args, scorer, recording)
        else:
            *_, timeline = detect(args, scorer, recording)
            print(json.dumps(as_json(timeline)) if args.json else as_table(timeline), flush=True)
        if args.out:
            write_files(timeline, args.out)
            print(f"written to {args.out / recording.name}.json, .csv and .png", file=sys.stderr)
