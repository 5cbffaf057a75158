"""Read a folder of the user's own long recordings: one file per recording, and a table of labelled segments
(data_gen/raw/tables.py).

Without a recordings.csv, the recordings in segments.csv are read. Frames are stored as recorded; each window is
normalised when it is used (feeder/windows.py).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from data_gen.formats.base import Entry, Source, in_order
from data_gen.formats.folder import source_of
from data_gen.packed.reader import TABLES
from data_gen.packed.segments import NO_LABEL, Segment, find_fault
from data_gen.raw.recordings import files_in
from data_gen.raw.tables import SEGMENTS, Files, Row, number_labels, read_segments, read_table
from data_gen.raw.tables import TABLE as RECORDINGS
from data_gen.skeletons import Skeleton
from utils.errors import UserError


def read_long(folder: Path, skeleton: Skeleton) -> Source:
    """Read the tables of a folder of long recordings, and the shape of each recording."""
    table = folder / SEGMENTS
    lines = read_segments(table)
    if not lines:
        raise UserError(f"{table}: names no segments")
    labels, class_names = number_labels(table, [(line, label) for line, *_, label in lines])
    num_classes = len(class_names) if class_names else max(labels) + 1
    files = files_in(folder)
    rows = _listed(files, lines)
    segments: dict[Path, list[Segment]] = {row.path: [] for row in rows}
    for (line, name, start, end, _), label in zip(lines, labels):
        path = files.find(table, line, name)
        if path not in segments:
            raise UserError(f"{table}:{line}: {name!r} is not in {RECORDINGS}")
        segments[path].append(Segment(start, end, label))
        if fault := find_fault(segments[path], sys.maxsize, num_classes):  # only `pack` knows the number of frames
            raise UserError(f"{table}:{line}: {path.stem}: {fault[1]}")
    entries = [Entry(row.path.stem, NO_LABEL, table, str(row.path), row, segments=segments[row.path]) for row in rows]
    source = source_of("long", files, skeleton, in_order(entries), class_names)
    return replace(source, raw=False, classes=num_classes)


def _listed(files: Files, lines: list[tuple[int, str, int, int, str]]) -> list[Row]:
    """Return the recordings of recordings.csv, or without this file those of segments.csv."""
    table = files.folder / RECORDINGS
    if table.exists():
        return [
            Row(n, values, files.find(table, n, values["name"])) for n, values in read_table(table, {"name"}, TABLES)
        ]
    paths = {files.find(files.folder / SEGMENTS, line, name): line for line, name, *_ in lines}
    return [Row(line, {"name": path.stem}, path) for path, line in paths.items()]
