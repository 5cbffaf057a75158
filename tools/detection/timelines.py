"""Timelines of long recordings: which actions happen when, as a table, JSON, CSV and picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.detection.decoding import Detection
from tools.detection.recordings import LongRecording, Truth
from utils.errors import UserError
from utils.files import atomic_files, read_json
from utils.text import table

SUFFIXES = (".json", ".csv", ".png")


@dataclass(frozen=True)
class Timeline:
    """The segments of a recording: (start, end, name of the class, confidence), in order. classes: all names."""

    recording: LongRecording
    num_frame: int
    segments: list[tuple[int, int, str, float]]
    classes: list[str]

    @property
    def truth(self) -> Truth | None:
        """The true segments, if known, with names for classes that are given by number."""
        names, truth = {str(label): name for label, name in enumerate(self.classes)}, self.recording.truth
        return truth and [(start, end, names.get(label, label)) for start, end, label in truth]

    def as_json(self) -> dict[str, Any]:
        """Return plain values, with times in frames and in seconds."""

        def times(start: int, end: int) -> dict[str, Any]:
            first, last = (round(frame / self.recording.frame_rate, 3) for frame in (start, end))
            return {"start": start, "end": end, "start_seconds": first, "end_seconds": last}

        result = {"recording": self.recording.name, "frames": self.num_frame, "frame_rate": self.recording.frame_rate}
        result["segments"] = [times(s, e) | {"label": label, "confidence": c} for s, e, label, c in self.segments]
        if self.truth is not None:
            result["truth"] = [times(s, e) | {"label": label} for s, e, label in self.truth]
        return result

    def as_table(self) -> str:
        """Format for the terminal."""
        title = f"{self.recording.name}, {self._time(self.num_frame)}"
        if not self.segments:
            return f"{title}: no action\n"
        rows = [[self._time(s), self._time(e), label, f"{c:.2f}"] for s, e, label, c in self.segments]
        return f"{title}\n{table(['start', 'end', 'action', 'confidence'], rows)}\n"

    def _time(self, frame: int) -> str:
        minutes, seconds = divmod(round(frame / self.recording.frame_rate, 1), 60)
        return f"{int(minutes)}:{seconds:04.1f}"

    def write(self, folder: Path) -> None:
        """Write NAME.json, NAME.csv and NAME.png."""
        from tools.figures import style
        from tools.figures.timeline import draw

        name, rate, spans = self.recording.name, self.recording.frame_rate, [segment[:3] for segment in self.segments]
        figure = draw(name, self.num_frame / rate, rate, spans, self.truth, self.classes)
        with atomic_files(folder) as partial:
            (partial / f"{name}.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
            with open(partial / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([Detection._fields, *self.segments])
            style.save(figure, partial / f"{name}.png")


def check_output(folder: Path, recordings: Sequence[LongRecording]) -> None:
    """Raise UserError if timelines in `folder` would replace other files than earlier timelines."""
    for name in (recording.name for recording in recordings):
        paths = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
        content = read_json(paths[0]) if paths and paths[0].suffix == ".json" else {}
        if paths and not (isinstance(content, dict) and content.get("recording") == name):
            raise UserError(f"{paths[0]}: is no timeline, and would be replaced; give another folder by --out")
