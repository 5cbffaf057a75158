"""Read and write a folder of the user's own recordings: one file per recording, in a format that
data_gen/raw/recording_files.py reads, and tables (data_gen/raw/tables.py).

A folder of long recordings has a table of labelled segments. Their frames are stored as recorded; each window is
normalised when it is used (feeder/windows.py).
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from data_gen.formats.base import Entry, Source, in_order
from data_gen.formats.export import staging
from data_gen.packed.reader import NAME, SPLITS, TABLES, UNLABELLED, PackedDataset
from data_gen.packed.segments import NO_LABEL, Segment, find_fault
from data_gen.packed.writer import Splits, by_split
from data_gen.raw.recording_files import shape_of
from data_gen.raw.recordings import Recording, files_in
from data_gen.raw.tables import (
    CLASSES,
    SEGMENTS,
    SPLIT,
    TABLE,
    Files,
    Row,
    is_split,
    number_labels,
    read_listed,
    read_segments,
)
from data_gen.skeletons import SKELETON_JSON, Skeleton
from utils.errors import UserError

_MAX_PEOPLE = 2  # in a .csv, where the number of columns determines the number of people


def read_folder(folder: Path, skeleton: Skeleton) -> Source:
    """Read the tables of a folder of clips, and the shape of each recording."""
    table, files = folder / TABLE, files_in(folder)
    rows, labels, class_names = read_listed(files)
    if labels is None and (folder / SEGMENTS).exists():
        raise UserError(f"{folder / SEGMENTS}: labels long recordings; import them by import_dataset long")
    if labels is None:
        labels, class_names = [0] * len(rows), [UNLABELLED]
    entries = [Entry(row.path.stem, label, table, str(row.path), row) for row, label in zip(rows, labels)]
    num_classes = len(class_names) if class_names else None
    return _source("folder", files, skeleton, in_order(entries), num_classes, class_names)


def read_long(folder: Path, skeleton: Skeleton) -> Source:
    """Read the tables of a folder of long recordings, and the shape of each recording. Without a recordings.csv, the
    recordings in segments.csv are read."""
    table, files = folder / SEGMENTS, files_in(folder)
    lines = read_segments(table)
    if not lines:
        raise UserError(f"{table}: names no segments")
    labels, class_names = number_labels(table, [(line, label) for line, *_, label in lines])
    num_classes = len(class_names) if class_names else max(labels) + 1
    paths = [files.find(table, line, name) for line, name, *_ in lines]
    rows = [Row(0, {}, path) for path in dict.fromkeys(paths)]
    if (folder / TABLE).exists():
        rows = files.read_rows(TABLES)
    segments: dict[Path, list[Segment]] = defaultdict(list)
    for path, (line, _, start, end, _), label in zip(paths, lines, labels):
        if all(row.path != path for row in rows):
            raise UserError(f"{table}:{line}: {path.stem} is not in {TABLE}")
        segments[path].append(Segment(start, end, label))
        if fault := find_fault(segments[path], math.inf, num_classes):  # only `pack` knows the number of frames
            raise UserError(f"{table}:{line}: {path.stem}: {fault[1]}")
    entries = [Entry(row.path.stem, NO_LABEL, table, str(row.path), row, segments=segments[row.path]) for row in rows]
    return _source("long", files, skeleton, in_order(entries), num_classes, class_names)


def _source(
    form: str,
    files: Files,
    skeleton: Skeleton,
    entries: list[Entry],
    num_classes: int | None,
    class_names: list[str] | None,
) -> Source:
    """Make the source of a folder's recordings; the entries' content is their `Row`."""
    table, rows = files.folder / TABLE, [entry.content for entry in entries]
    shapes = [shape_of(row.path, skeleton) for row in rows]
    people, joints, coordinates = max(shapes)
    if any(shape[2] != coordinates for shape in shapes):
        raise UserError(f"{files.folder}: some recordings have 2 coordinates per joint, some 3")
    return Source(
        form,
        files.folder,
        skeleton,
        (people, joints, coordinates),
        entries,
        _splits(table, rows),
        lambda entry: Recording(entry.name, entry.where, skeleton=skeleton).read_bodies(),
        raw=form == "folder",
        classes=num_classes,
        class_names=class_names,
        tables=_columns(table, rows),
        unlisted=len(files.paths) - len(rows),
    )


def _columns(path: Path, rows: list[Row]) -> dict[str, list[str]]:
    """Return the columns subject and camera if they have values."""
    tables = {}
    for column in TABLES:
        values = [row.values.get(column, "") for row in rows]
        if not any(values):
            continue
        for row, value in zip(rows, values):
            if not NAME.fullmatch(value):
                raise UserError(f"{path}:{row.line}: {column} {value!r} is not letters, digits, - and _")
        tables[column] = values
    return tables


def _splits(path: Path, rows: list[Row]) -> Splits:
    """Return the protocols of the columns split:X."""
    splits: Splits = {}
    for column in filter(is_split, rows[0].values):
        for row in rows:
            if row.values[column] not in (*SPLITS, ""):
                raise UserError(f"{path}:{row.line}: {column} is {row.values[column]!r}, not train, val or empty")
        splits[column.removeprefix(SPLIT)] = by_split(row.values[column] for row in rows)
    return splits


def export_folder(packed: PackedDataset, suffix: str, out: Path) -> list[Path]:
    """Write all recordings into the folder `out` as `.csv` or `.npy`, and their table. Return the table's path."""
    people, joints, coordinates = packed.shape
    if suffix == ".csv" and TABLE.removesuffix(suffix) in packed.names:
        raise UserError(f"{packed.path}: a recording has the name of the table, {TABLE}; use --as npy")
    if suffix == ".csv" and people > _MAX_PEOPLE:
        raise UserError(f"{packed.path}: frames have {people} people, a .csv has up to {_MAX_PEOPLE}; use --as npy")
    columns = {"name": packed.names.tolist(), "label": packed.label.tolist()}
    columns |= {kind: values for kind in TABLES if (values := packed.table(kind)) is not None}
    for protocol in packed.protocols:
        column = np.full(len(packed), "", dtype="U5")
        for split in SPLITS:
            column[packed.split(protocol, split)] = split
        columns[f"{SPLIT}{protocol}"] = column.tolist()
    heading = ",".join(
        f"{person}_{joint.replace(',', ' ')}_{axis}"
        for person in range(1, people + 1)
        for joint in packed.skeleton.joints
        for axis in "xyz"[:coordinates]
    )
    with staging(out) as folder:
        for i, name in enumerate(packed.names.tolist()):
            clip = packed.recording(i)
            if suffix == ".npy":
                np.save(folder / f"{name}.npy", clip)
            else:  # nine digits identify every float32
                frames, text = clip.reshape(len(clip), -1), {"header": heading, "comments": "", "encoding": "utf-8"}
                np.savetxt(folder / f"{name}.csv", frames, "%.9g", ",", **text)
        with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values())])
        (folder / SKELETON_JSON).write_text(json.dumps(packed.skeleton.to_json(), indent=1))
        if packed.class_names:
            (folder / CLASSES).write_text("".join(f"{name}\n" for name in packed.class_names), encoding="utf-8")
        return [out / TABLE]
