"""Read a folder of the user's own long recordings: one file per recording, and a table of labelled segments.

segments.csv     one line per segment, under the heading name,start,end,label: the recording's file, with or without
                 suffix; the segment's first frame, from 0; the frame after its last; its class
recordings.csv   optional; without it, the recordings in segments.csv are read. One line per recording, under a heading
                 with the columns: name; if known subject and camera; and split:X
classes.txt      as in a folder of clips (folder.py); recordings have the same file formats, too

Frames are stored as recorded; each window is normalised when it is used (feeder/windows.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_gen.formats.folder import splits_of, tables_of
from data_gen.packed.protocols import Rule, Table, derive
from data_gen.packed.reader import TABLES
from data_gen.packed.segments import Segment, find_fault
from data_gen.packed.writer import Splits, packing
from data_gen.raw.recording_files import check_values, shape_of
from data_gen.raw.recordings import Recording
from data_gen.raw.tables import SEGMENTS, Files, Row, number_labels, read_segments, read_table
from data_gen.raw.tables import TABLE as RECORDINGS
from data_gen.skeletons import Skeleton
from utils.errors import UserError
from utils.files import reading

_FOREVER = 10**9  # frames


@dataclass(frozen=True)
class LongRecording:
    """Hold a recording's file, its segments, and the line of each segment in segments.csv."""

    path: Path
    shape: tuple[int, int, int]
    segments: list[Segment]
    lines: list[int]


@dataclass(frozen=True)
class LongFolder:
    """Hold what `read_long` returns: recordings, sorted by name, and the contents of the tables."""

    folder: Path
    skeleton: Skeleton
    recordings: list[LongRecording]
    classes: int
    class_names: list[str] | None
    splits: Splits
    tables: dict[str, list[str]]


def read_long(folder: Path, skeleton: Skeleton) -> LongFolder:
    """Read the tables of a folder and check its files. Raises UserError if one is invalid."""
    table = folder / SEGMENTS
    rows = read_segments(table)
    labels, class_names = number_labels(table, [(line, label) for line, *_, label in rows])
    classes = len(class_names) if class_names else max(labels, default=-1) + 1
    if not classes:
        raise UserError(f"{table}: names no segments")
    files = Files(folder)
    listed = _listed(files, [(line, name) for line, name, *_ in rows])
    of_path: dict[Path, LongRecording] = {
        row.path: LongRecording(row.path, shape_of(row.path, skeleton), [], []) for row in listed
    }
    for (line, name, start, end, _), label in zip(rows, labels):
        path = files.find(table, line, name)
        if path not in of_path:
            raise UserError(f"{table}:{line}: {repr(name)} is not in {RECORDINGS}")
        of_path[path].segments.append(Segment(start, end, label))
        of_path[path].lines.append(line)
    if len({recording.shape[2] for recording in of_path.values()}) > 1:
        raise UserError(f"{folder}: some recordings have 2 coordinates a joint, some 3")
    found = LongFolder(
        folder,
        skeleton,
        list(of_path.values()),
        classes,
        class_names,
        splits_of(folder / RECORDINGS, listed),
        tables_of(folder / RECORDINGS, listed),
    )
    for recording in found.recordings:  # report errors now, not after hours of reading
        _check(found, recording, _FOREVER)
    return found


def _listed(files: Files, named: list[tuple[int, str]]) -> list[Row]:
    """Return the recordings of recordings.csv, or without this file those `named`, sorted by name. Raises
    UserError if one is listed twice or there are none."""
    table = files.folder / RECORDINGS
    lines = [(line, {"name": name}) for line, name in named]
    if table.exists():
        lines = read_table(table, {"name"}, TABLES)
    else:
        table = files.folder / SEGMENTS
    rows: dict[str, Row] = {}
    for line, values in lines:
        path = files.find(table, line, values["name"])
        if path.stem in rows and table.name == RECORDINGS:
            raise UserError(f"{table}:{line}: {repr(path.stem)} stands there twice")
        rows.setdefault(path.stem, Row(line, values, path))
    if not rows:
        raise UserError(f"{table}: names no recordings")
    return [rows[name] for name in sorted(rows)]


def pack_long(found: LongFolder, name: str, out: Path, rules: Sequence[Rule]) -> dict:
    """Write the result of `read_long` as the packed data set `out`. Return the contents of dataset.json. Raises
    UserError if a recording or a segment is invalid; nothing is written then."""
    names = [recording.path.stem for recording in found.recordings]
    added, made_by = derive(rules, Table(names, *(found.tables.get(kind) for kind in TABLES)))
    if taken := sorted(added.keys() & found.splits.keys()):
        raise UserError(f"{found.folder}: there is a protocol {taken[0]} already; choose another name for --split")
    slots = max(recording.shape[0] for recording in found.recordings)
    shape = (slots, len(found.skeleton.joints), found.recordings[0].shape[2])
    with packing(out, shape) as writer:
        progress = tqdm(found.recordings, desc="import", unit="recording", disable=not sys.stderr.isatty())
        for recording in progress:
            with reading(recording.path):
                bodies = check_values(Recording(recording.path.stem, str(recording.path)).bodies(found.skeleton))
            _check(found, recording, len(bodies))
            people = np.pad(bodies, ((0, 0), (0, slots - bodies.shape[1]), (0, 0), (0, 0)))
            writer.add_long(recording.path.stem, people, recording.segments)
        info = {
            "dataset": name,
            "title": name,
            "classes": found.classes,
            **({"class_names": found.class_names} if found.class_names else {}),
            "skeleton": found.skeleton.to_json(),
            "made": {"long": str(found.folder)},
        }
        splits = found.splits | added
        info |= writer.counts(splits, made_by)
        writer.finish(splits, info, found.tables)
    return info


def _check(found: LongFolder, recording: LongRecording, num_frame: int) -> None:
    if fault := find_fault(recording.segments, num_frame, found.classes):
        line, reason = recording.lines[fault[0]], fault[1]
        raise UserError(f"{found.folder / SEGMENTS}:{line}: {recording.path.stem}: {reason}")
