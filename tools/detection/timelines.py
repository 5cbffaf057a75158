"""Timelines of long recordings: which actions happen when, as JSON, table, CSV and picture.

A timeline is what its JSON holds:

    recording, frames, frame_rate
    segments      [{"start", "end", "start_seconds", "end_seconds", "label", "confidence"}, ...] in order
    truth         the same without confidence, if the true segments are known
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.detection.recordings import LongRecording
from tools.detection.scoring import Detection
from utils.errors import UserError
from utils.files import atomic_files, read_json, reading
from utils.text import table

SUFFIXES = (".json", ".csv", ".png")


def make_timeline(
    recording: LongRecording, num_frame: int, detections: Sequence[Detection], classes: Sequence[str]
) -> dict[str, Any]:
    """Describe what was detected in a recording, with the names of the classes."""
    rate = recording.frame_rate

    def segment(start: int, end: int, label: str) -> dict[str, Any]:
        seconds = {"start_seconds": round(start / rate, 3), "end_seconds": round(end / rate, 3)}
        return {"start": start, "end": end, **seconds, "label": label}

    timeline: dict[str, Any] = {"recording": recording.name, "frames": num_frame, "frame_rate": rate}
    timeline["segments"] = [
        segment(start, end, classes[label]) | {"confidence": round(confidence, 4)}
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
    segments = timeline["segments"]
    if not segments:
        return f"{title}: no action\n"
    rows = [[time(s["start"]), time(s["end"]), s["label"], f"{s['confidence']:.2f}"] for s in segments]
    return f"{title}\n{table(['start', 'end', 'action', 'confidence'], rows)}\n"


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
            writer = csv.DictWriter(file, Detection._fields, extrasaction="ignore", lineterminator="\n")
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
