"""Read the tables beside a user's recordings.

recordings.csv   optional; without it, all recordings in the folder are read. One line per recording, under a heading
                 with the columns: name (of the file, with or without suffix); if known label, subject and camera; and
                 split:X, the recording's split in protocol X: train, val or empty
segments.csv     of long recordings, one line per segment, under the heading name,start,end,label: the segment's first
                 frame, from 0; the frame after its last; its class
classes.txt      optional; the names of the classes, one per line, ordered by class number
skeleton.json    optional; the skeleton, if it is not Kinect v2 (docs/data.md)

Labels are integers from 0, or names of classes. Names are numbered in the order of classes.txt, or without that file
alphabetically.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from data_gen.packed.reader import NAME, TABLES
from data_gen.packed.segments import Segment, find_fault
from data_gen.raw.recording_files import SUFFIXES
from utils.errors import UserError
from utils.files import read_text, reading
from utils.text import counted

TABLE, SEGMENTS, CLASSES = "recordings.csv", "segments.csv", "classes.txt"
SPLIT = "split:"
_COLUMNS = ("name", "start", "end", "label")  # the order in which errors list required columns
_FOREVER = 10**9  # frames
_WHOLE = re.compile(r"-?\d{1,9}")


class Row(NamedTuple):
    """One line of the table and the path of its recording."""

    line: int
    values: dict[str, str]
    path: Path


class Files:
    """The `paths` of a folder's recordings."""

    def __init__(self, folder: Path, paths: Sequence[Path]):
        self.folder, self.paths = folder, paths
        self._by_stem: dict[str, list[Path]] = {}
        for path in self.paths:
            self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, table: Path, line: int, name: str) -> Path:
        """Return the path of a recording, by its name in a table, with or without suffix. Raises UserError if not
        exactly one file has this name."""
        suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
        stem = name[: len(name) - len(suffix)]
        if not NAME.fullmatch(stem):
            raise UserError(f"{table}:{line}: {name!r} is not a name of 1 to 64 letters, digits, - and _")
        paths = [path for path in self._by_stem.get(stem, ()) if not suffix or path.suffix.lower() == suffix]
        if len(paths) != 1:
            files = f"{stem}{suffix or ' or '.join(SUFFIXES)}"
            raise UserError(f"{table}:{line}: {'more than one' if paths else 'no'} {files} in the folder")
        return paths[0]


def read_listed(files: Files) -> tuple[list[Row], list[int] | None, list[str] | None]:
    """Read the table of a folder's recordings, or without a table list them. Return the rows, their labels and the
    names of the classes (None if unknown)."""
    table = files.folder / TABLE
    if table.exists():
        lines = read_table(table, {"name"}, ("label", *TABLES))
    else:
        lines = list(enumerate(({"name": name} for name in sorted(path.name for path in files.paths)), 1))
    if not lines:
        raise UserError(f"{table}: no recordings ({', '.join(SUFFIXES)})")
    rows = [Row(line, values, files.find(table, line, values["name"])) for line, values in lines]
    if "label" not in rows[0].values:
        return rows, None, None
    return rows, *number_labels(table, [(row.line, row.values["label"]) for row in rows])


@lru_cache(maxsize=8)
def _segments(table: Path, changed: int) -> list[tuple[int, str, int, int, str]]:
    return read_segments(table)


def read_segments(table: Path) -> list[tuple[int, str, int, int, str]]:
    """Read a segments.csv. Return (line, name, start, end, label text) of each segment."""
    segments = []
    for line, values in read_table(table, {"name", "start", "end", "label"}):
        for column in ("start", "end"):
            if not _WHOLE.fullmatch(values[column]):
                raise UserError(f"{table}:{line}: {column} {values[column]!r} is not the number of a frame")
        segments.append((line, values["name"], int(values["start"]), int(values["end"]), values["label"]))
    return segments


def segments_of(path: Path) -> list[tuple[int, int, str]] | None:
    """Return a long recording's segments (start, end, name of the class), in order, by the segments.csv beside its
    file; None without one."""
    table = path.parent / SEGMENTS
    if not table.is_file():
        return None
    lines = _segments(table, table.stat().st_mtime_ns)
    rows = [row for row in lines if row[1] in (path.stem, path.name)]
    if fault := find_fault([Segment(start, end, 0) for _, _, start, end, _ in rows], _FOREVER, 1):
        raise UserError(f"{table}:{rows[fault[0]][0]}: {fault[1]}")
    return sorted((start, end, label) for _, _, start, end, label in rows)


def read_table(path: Path, needed: set[str], others: tuple[str, ...] = ()) -> list[tuple[int, dict[str, str]]]:
    """Read a table as pairs (line number, {column: value}). The `needed` columns are required; the `others`, and with
    them split:X, are optional."""
    lines = csv.reader(io.StringIO(read_text(path)))
    rows: list[tuple[int, dict[str, str]]] = []
    with reading(path):
        heading = [column.strip() for column in next(lines, [])]
        _check_heading(heading, needed, others)
        for values in lines:
            if len(values) not in (0, len(heading)):
                raise UserError(f"has {counted(len(values), 'value')}, the heading {len(heading)}", lines.line_num)
            if values:
                rows.append((lines.line_num, {c: v.strip() for c, v in zip(heading, values)}))
    return rows


def _check_heading(heading: Sequence[str], needed: set[str], others: tuple[str, ...]) -> None:
    odd = [c for c in heading if c not in needed and c not in others and not (others and is_split(c))]
    if not odd and len(set(heading)) == len(heading) and needed <= set(heading):
        return
    wanted = ",".join(sorted(needed, key=_COLUMNS.index)) + (
        f" (optional: {', '.join(others)}, split:NAME)" * bool(others)
    )
    hint = "; columns stand between commas" if len(heading) == 1 and re.search("[;\t]", heading[0]) else ""
    for column in odd:
        hint += "".join(f"; did you mean {c}?" for c in get_close_matches(column.lower(), {*needed, *others}, 1))
    raise UserError(f"the heading {','.join(heading)!r} is not {wanted}{hint}", 1)


def is_split(column: str) -> bool:
    """Return whether a column of recordings.csv is a protocol's."""
    return column.startswith(SPLIT) and NAME.fullmatch(column.removeprefix(SPLIT)) is not None


def number_labels(table: Path, labels: list[tuple[int, str]]) -> tuple[list[int], list[str] | None]:
    """Convert labels (line, text) to class numbers. Return also the names of the classes: from classes.txt in the
    table's folder, else from the labels, or None if labels are numbers."""
    path, texts = table.parent / CLASSES, [text for _, text in labels]
    names = None
    if path.exists():
        names = [line.strip() for line in read_text(path).removesuffix("\n").split("\n")]
        if not all(names) or len(set(names)) < len(names):
            raise UserError(f"{path}: a line is empty or duplicate")
    for line, text in labels:
        if not text:
            raise UserError(f"{table}:{line}: no label")
    whole = [text for text in texts if _WHOLE.fullmatch(text)]
    if len(whole) == len(texts):
        return list(map(int, texts)), names
    if whole:
        name = next(text for text in texts if text not in whole)
        raise UserError(f"{table}: labels are numbers, such as {whole[0]}, and names, such as {name!r}")
    names = names or sorted(set(texts))
    numbers = {name: number for number, name in enumerate(names)}
    for line, text in labels:
        if text not in numbers:
            raise UserError(f"{table}:{line}: the label {text!r} is not in {CLASSES}")
    return [numbers[text] for text in texts], names
