"""Read and write a folder of the user's own recordings: one file per recording, in a format that
data_gen/raw/recording_files.py reads, and a table (data_gen/raw/tables.py)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from data_gen.formats.base import Entry, Source, in_order
from data_gen.formats.export import staging
from data_gen.packed.reader import NAME, SIDES, TABLES, UNLABELLED, PackedDataset
from data_gen.packed.writer import Splits
from data_gen.raw.recording_files import shape_of
from data_gen.raw.recordings import Recording, files_in
from data_gen.raw.tables import CLASSES, SEGMENTS, SPLIT, TABLE, Files, Row, is_split, read_listed
from data_gen.skeletons import SKELETON_JSON, Skeleton
from utils.errors import UserError

_MAX_PEOPLE = 2  # in a .csv, where the number of columns determines the number of people


def read_folder(folder: Path, skeleton: Skeleton) -> Source:
    """Read the folder's tables and the shape of each recording."""
    table, files = folder / TABLE, files_in(folder)
    rows, labels, class_names = read_listed(files)
    if labels is None and (folder / SEGMENTS).exists():
        raise UserError(f"{folder / SEGMENTS}: labels long recordings; import them by import_dataset long")
    if labels is None:
        labels, class_names = [0] * len(rows), [UNLABELLED]
    entries = in_order([Entry(row.path.stem, label, table, str(row.path), row) for row, label in zip(rows, labels)])
    return source_of("folder", files, skeleton, entries, class_names)


def source_of(
    form: str, files: Files, skeleton: Skeleton, entries: list[Entry], class_names: list[str] | None
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
        lambda entry: Recording(entry.name, entry.where).bodies(skeleton),
        raw=True,
        classes=len(class_names) if class_names else None,
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
        sides: dict[str, list[int]] = {side: [] for side in SIDES}
        for i, row in enumerate(rows):
            value = row.values[column]
            if value and value not in sides:
                raise UserError(f"{path}:{row.line}: {column} is {value!r}, not train, val or empty")
            if value:
                sides[value].append(i)
        splits[column.removeprefix(SPLIT)] = sides
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
        sides = np.full(len(packed), "", dtype="U5")
        for side in SIDES:
            sides[packed.split(protocol, side)] = side
        columns[f"{SPLIT}{protocol}"] = sides.tolist()
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
