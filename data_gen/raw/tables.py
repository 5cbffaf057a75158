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
import math
import re
from collections import defaultdict
from collections.abc import Sequence
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
        self._by_name: dict[str, list[Path]] = defaultdict(list)  # with and without suffix
        for path in self.paths:
            self._by_name[path.name].append(path)
            self._by_name[path.stem].append(path)

    def find(self, table: Path, line: int, name: str) -> Path:
        """Return the path of the recording that has this name, with or without suffix, in a table."""
        paths = self._by_name.get(name, [])
        if len(paths) != 1:
            raise UserError(f"{table}:{line}: {'more than one' if paths else 'no'} recording {name} in the folder")
        return paths[0]

    def read_rows(self, optional: Sequence[str]) -> list[Row]:
        """Read recordings.csv, or without this table list the files."""
        table = self.folder / TABLE
        if table.exists():
            lines = read_table(table, ("name",), (*optional, f"{SPLIT}X"))
        else:
            lines = list(enumerate(({"name": name} for name in sorted(path.name for path in self.paths)), 1))
        if not lines:
            raise UserError(f"{table}: no recordings ({', '.join(SUFFIXES)})")
        return [Row(line, values, self.find(table, line, values["name"])) for line, values in lines]


def read_listed(files: Files) -> tuple[list[Row], list[int] | None, list[str] | None]:
    """Read the table of a folder's recordings, or without a table list them. Return the rows, their labels and the
    names of the classes (None if unknown)."""
    rows = files.read_rows(("label", *TABLES))
    if "label" not in rows[0].values:
        return rows, None, None
    return rows, *number_labels(files.folder / TABLE, [(row.line, row.values["label"]) for row in rows])


def read_segments(table: Path) -> list[tuple[int, str, int, int, str]]:
    """Read a segments.csv. Return (line, name, start, end, label text) of each segment."""
    segments = []
    for line, values in read_table(table, ("name", "start", "end", "label")):
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
    rows = [row for row in read_segments(table) if row[1] in (path.stem, path.name)]
    if fault := find_fault([Segment(start, end, 0) for _, _, start, end, _ in rows], math.inf, 1):
        raise UserError(f"{table}:{rows[fault[0]][0]}: {fault[1]}")
    return sorted((start, end, label) for _, _, start, end, label in rows)


def read_table(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """Read a table as pairs (line number, {column: value}), under a heading of the `needed` and perhaps `optional`
    columns; split:X stands for any protocol's."""
    lines = csv.reader(io.StringIO(read_text(path)))
    rows: list[tuple[int, dict[str, str]]] = []
    with reading(path):
        heading = [column.strip() for column in next(lines, [])]
        columns = {f"{SPLIT}X" if is_split(column) else column for column in heading}
        if len(set(heading)) < len(heading) or not set(needed) <= columns <= {*needed, *optional}:
            more = f" (optional: {', '.join(optional)})" if optional else ""
            raise UserError(f"the heading is {','.join(heading)!r}, not {','.join(needed)}{more}", 1)
        for values in lines:
            if len(values) not in (0, len(heading)):
                raise UserError(f"has {counted(len(values), 'value')}, the heading {len(heading)}", lines.line_num)
            if values:
                rows.append((lines.line_num, {c: v.strip() for c, v in zip(heading, values)}))
    return rows


def is_split(column: str) -> bool:
    """Return whether a column of recordings.csv is a protocol's."""
    return column.startswith(SPLIT) and NAME.fullmatch(column.removeprefix(SPLIT)) is not None


def number_labels(table: Path, labels: list[tuple[int, str]]) -> tuple[list[int], list[str] | None]:
    """Convert labels (line, text) to class numbers. Return also the names of the classes: from classes.txt in the
    table's folder, else from the labels, or None if labels are numbers."""
    path, names = table.parent / CLASSES, None
    if path.exists():
        names = [line.strip() for line in read_text(path).removesuffix("\n").split("\n")]
        if not all(names) or len(set(names)) < len(names):
            raise UserError(f"{path}: a line is empty or duplicate")
    for line, text in labels:
        if not text:
            raise UserError(f"{table}:{line}: no label")
    texts = [text for _, text in labels]
    whole = [text for text in texts if _WHOLE.fullmatch(text)]
    if len(whole) == len(texts):
        return list(map(int, texts)), names
    if whole:
        raise UserError(f"{table}: some labels are numbers, such as {whole[0]}, and some are names")
    names = names or sorted(set(texts))
    for line, text in labels:
        if text not in names:
            raise UserError(f"{table}:{line}: the label {text!r} is not in {CLASSES}")
    return [names.index(text) for text in texts], names
