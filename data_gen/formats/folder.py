"""Read and write a folder of the user's own recordings: one file per recording, and a table.

recordings.csv   optional; without it, all recordings in the folder are read. One line per recording, under a heading
                 with the columns: name (of the file, with or without suffix); if known label, subject and camera; and
                 split:X, the recording's side in protocol X: train, val or empty
classes.txt      optional; the names of the classes, one per line, ordered by class number
skeleton.json    optional; the skeleton, if it is not Kinect v2 (docs/data.md)
NAME.csv ...     the recordings, here or in subfolders, in a format that data_gen/raw/recording_files.py reads

Labels are integers from 0, or names of classes. Names are numbered in the order of classes.txt, or without that file
alphabetically.
"""

from __future__ import annotations

import csv
import io
import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, shown
from data_gen.formats.export import staging
from data_gen.packed.info import NAME, SIDES, TABLES, UNLABELLED, DataSetError, is_one_line, read_text
from data_gen.packed.reader import PackedDataset
from data_gen.packed.words import counted
from data_gen.packed.writer import Splits
from data_gen.raw.number_lines import SkeletonError
from data_gen.raw.recording_files import SUFFIXES, parse_recording, shape_of
from data_gen.raw.recordings import OTHER_TABLES, Recording, recordings_under
from data_gen.skeletons import Skeleton, load_skeleton

TABLE, SEGMENTS = OTHER_TABLES
CLASSES, SKELETON_JSON = "classes.txt", "skeleton.json"
_SPLIT = "split:"
_COLUMNS = ("name", "start", "end", "label")  # the order in which errors list required columns
_MAX_TABLE = 64 * 2**20  # bytes
_WHOLE = re.compile(r"-?\d{1,9}")
_MAX_PEOPLE = 2  # in a .csv, where the number of columns determines the number of people


class Row(NamedTuple):
    """Hold one line of the table and the path of its recording."""

    line: int
    values: dict[str, str]
    path: Path


def skeleton_in(place: Path, given: str | None) -> Skeleton | None:
    """Return the `given` skeleton (name or file), else the skeleton.json of a folder or beside a file, else None.
    Raises ValueError if it is invalid."""
    file = (place if place.is_dir() else place.parent) / SKELETON_JSON
    return load_skeleton(given) if given else load_skeleton(str(file)) if file.exists() else None


class Files:
    """List the recordings in a folder, at any depth: their `paths`. Raises DataSetError if there is no such folder."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise DataSetError(f"there is no folder {folder}")
        self.folder = folder
        self.paths = [Path(recording.path) for recording in recordings_under(folder, SUFFIXES)]
        self._of_stem: dict[str, list[Path]] = {}
        for path in self.paths:
            self._of_stem.setdefault(path.stem, []).append(path)

    def find(self, table: Path, line: int, name: str) -> Path:
        """Return the path of a recording, by its name in a table, with or without suffix. Raises DataSetError if the
        name is invalid, or if not exactly one file has it."""
        where = f"{table}:{line}: {shown(name)}"
        suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
        stem = name[: len(name) - len(suffix)]
        if not NAME.fullmatch(stem):
            raise DataSetError(f"{where} is no name of 1 to 64 letters, digits, - and _")
        found = [path for path in self._of_stem.get(stem, ()) if not suffix or path.suffix.lower() == suffix]
        if len(found) != 1:
            files = f"{stem}{suffix or ' or '.join(SUFFIXES)}"
            raise DataSetError(f"{where}: there is {'more than one' if found else 'no'} {files} in the folder")
        return found[0]


def read_listed(files: Files) -> tuple[list[Row], list[int] | None, list[str] | None]:
    """Read the table of a folder's recordings, or without a table list them. Return the rows, their labels and the
    names of the classes (None if unknown). Raises DataSetError if the table is invalid or there are no recordings."""
    table = files.folder / TABLE
    listed = read_table(table, {"name"}, ("label", *TABLES)) if table.exists() else _unlisted(files)
    if not listed:
        raise DataSetError(f"{table}: names no recordings")
    rows = [Row(line, values, files.find(table, line, values["name"])) for line, values in listed]
    if "label" not in rows[0].values:
        return rows, None, None
    return rows, *number_labels(table, [(row.line, row.values["label"]) for row in rows])


def read_folder(folder: Path, skeleton: Skeleton) -> Source:
    """Read the folder's tables and the shape of each recording. Raises DataSetError if one is invalid."""
    table, files = folder / TABLE, Files(folder)
    rows, found, class_names = read_listed(files)
    if found is None and (folder / SEGMENTS).exists():
        raise DataSetError(f"{folder / SEGMENTS}: the labels of long recordings, which import_dataset long imports")
    labels = found or [0] * len(rows)
    class_names = class_names if found else [UNLABELLED]
    unlisted = len(files.paths) - len(rows)
    entries = in_order(
        [Entry(row.path.stem, label, table, row.path, row.path.stem, row) for row, label in zip(rows, labels)]
    )
    rows = [entry.content for entry in entries]
    shapes = [shape_of(row.path, skeleton) for row in rows]
    people, joints, coordinates = max(shapes)
    if any(shape[2] != coordinates for shape in shapes):
        raise DataSetError(f"{folder}: some recordings have 2 coordinates a joint, some 3")
    return Source(
        "folder",
        folder,
        skeleton,
        (people, joints, coordinates),
        entries,
        splits_of(table, rows),
        lambda entry: _read(entry.stored_in, skeleton),
        raw=True,
        classes=len(class_names) if class_names else None,
        class_names=class_names,
        tables=tables_of(table, rows),
        unlisted=unlisted,
    )


def read_table(path: Path, needed: set[str], others: tuple[str, ...] = ()) -> list[tuple[int, dict[str, str]]]:
    """Read a table as pairs (line number, {column: value}). The `needed` columns are required; the `others`, and with
    them split:X, are optional. Raises DataSetError if the table is invalid."""
    lines = csv.reader(io.StringIO(read_text(path, _MAX_TABLE), newline=""))
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        heading = [column.strip() for column in next(lines, [])]
        known = [c for c in heading if c in needed or c in others or (others and _is_split(c))]
        if known != heading or len(set(heading)) < len(heading) or not needed <= set(heading):
            more = f", perhaps with {', '.join(others)} and split:NAME" if others else ""
            wanted = ",".join(sorted(needed, key=_COLUMNS.index))
            hint = "; columns stand between commas" if len(heading) == 1 and re.search("[;\t]", heading[0]) else ""
            odd = [column for column in heading if column not in known]
            meant = [get_close_matches(column.lower(), {*needed, *others} - {*known}, 1) for column in odd]
            hint += "".join(f"; did you mean {names[0]}?" for names in meant if names)
            raise DataSetError(f"{path}:1: the heading {shown(','.join(heading))} is not {wanted}{more}{hint}")
        for values in lines:
            if len(values) not in (0, len(heading)):
                raise DataSetError(
                    f"{path}:{lines.line_num}: has {counted(len(values), 'value')}, the heading {len(heading)}"
                )
            if values:
                rows.append((lines.line_num, {c: v.strip() for c, v in zip(heading, values)}))
    except csv.Error as error:
        raise DataSetError(f"{path}:{lines.line_num}: {error}") from None
    return rows


def _unlisted(files: Files) -> list[tuple[int, dict[str, str]]]:
    """List the names of a folder's recordings as table rows. Raises DataSetError if there are none."""
    names = sorted(path.name for path in files.paths)
    if not names:
        raise DataSetError(f"{files.folder}: holds no {TABLE} and no recordings ({', '.join(SUFFIXES)})")
    return list(enumerate(({"name": name} for name in names), 1))


def _is_split(column: str) -> bool:
    return column.startswith(_SPLIT) and NAME.fullmatch(column.removeprefix(_SPLIT)) is not None


def number_labels(table: Path, labels: list[tuple[int, str]]) -> tuple[list[int], list[str] | None]:
    """Convert labels (line, text) to class numbers. Return also the names of the classes: from classes.txt in the
    table's folder, else from the labels, or None if labels are numbers. Raises DataSetError if one is invalid."""
    path, texts = table.parent / CLASSES, [text for _, text in labels]
    names = None
    if path.exists():
        names = [line.strip() for line in read_text(path, _MAX_TABLE).removesuffix("\n").split("\n")]
        if not all(names) or len(set(names)) < len(names):
            raise DataSetError(f"{path}: a line is empty, or stands there twice")
    for where, name in [(path, name) for name in names or ()] or [(table, text) for text in texts]:
        if not is_one_line(name):
            raise DataSetError(f"{where}: the class {shown(name)} has control characters in its name")
    for line, text in labels:
        if not text:
            raise DataSetError(f"{table}:{line}: has no label")
    whole = [text for text in texts if _WHOLE.fullmatch(text)]
    if len(whole) == len(texts):
        return list(map(int, texts)), names
    if whole:
        name = next(text for text in texts if text not in whole)
        raise DataSetError(f"{table}: labels are numbers, such as {whole[0]}, and names, such as {shown(name)}")
    names = names or sorted(set(texts))
    numbers = {name: number for number, name in enumerate(names)}
    for line, text in labels:
        if text not in numbers:
            raise DataSetError(f"{table}:{line}: the label {shown(text)} is not in {CLASSES}")
    return [numbers[text] for text in texts], names


def tables_of(path: Path, rows: list[Row]) -> dict[str, list[str]]:
    """Return the columns subject and camera if they have values. Raises DataSetError if a value is invalid."""
    tables = {}
    for column in TABLES:
        values = [row.values.get(column, "") for row in rows]
        if not any(values):
            continue
        for row, value in zip(rows, values):
            if not NAME.fullmatch(value):
                raise DataSetError(f"{path}:{row.line}: {column} {shown(value)} is not letters, digits, - and _")
        tables[column] = values
    return tables


def splits_of(path: Path, rows: list[Row]) -> Splits:
    splits: Splits = {}
    for column in rows[0].values:
        if _is_split(column):
            sides: dict[str, list[int]] = {side: [] for side in SIDES}
            for i, row in enumerate(rows):
                value = row.values[column]
                if value and value not in sides:
                    raise DataSetError(f"{path}:{row.line}: {column} is {shown(value)}, not train, val or empty")
                if value:
                    sides[value].append(i)
            splits[column.removeprefix(_SPLIT)] = sides
    return splits


def _read(path: Path, skeleton: Skeleton) -> np.ndarray:
    """Read a recording (T, M, V, C). Raises DataSetError if it is invalid."""
    try:
        recording = Recording(path.stem, str(path))
        return parse_recording(recording.read(), recording.suffix, skeleton)
    except SkeletonError as error:
        line = "" if error.line is None else f":{error.line}"
        raise DataSetError(f"{path}{line}: {error.reason}") from None


def export_folder(packed: PackedDataset, suffix: str, out: Path) -> list[Path]:
    """Write all recordings into the folder `out` as `.csv` or `.npy`, and their table. Return the table's path. Raises
    DataSetError if a `.csv` cannot hold the people of a frame, or would overwrite the table."""
    people, joints, coordinates = packed.shape
    if suffix == ".csv" and TABLE.removesuffix(suffix) in packed.names:
        raise DataSetError(f"{packed.path}: a recording is called as the table, {TABLE}: use npy")
    if suffix == ".csv" and people > _MAX_PEOPLE:
        raise DataSetError(f"{packed.path}: frames have {people} people, a .csv has up to {_MAX_PEOPLE}: use npy")
    columns = {"name": packed.names.tolist(), "label": packed.label.tolist()}
    columns |= {kind: values for kind in TABLES if (values := packed.table(kind)) is not None}
    for protocol in packed.protocols:
        sides = np.full(len(packed), "", dtype="U5")
        for side in SIDES:
            sides[packed.split(protocol, side)] = side
        columns[f"{_SPLIT}{protocol}"] = sides.tolist()
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
