"""Find the recordings that a user gives a program, with what the tables beside them say."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_gen.datasets import parse_name
from data_gen.packed.segments import Segment, find_fault
from data_gen.raw.normalise import fit_people
from data_gen.raw.recording_files import SKELETON, SUFFIXES, check_values
from data_gen.raw.recordings import Recording, check_exist, find_recordings, is_recording
from data_gen.raw.tables import CLASSES, SEGMENTS, SKELETON_JSON, TABLE, Files, read_listed, read_segments, skeleton_in
from data_gen.skeletons import KINECT_V2, NUM_PEOPLE, FrameLayout, Skeleton
from utils.errors import UserError
from utils.files import reading
from utils.text import counted

_FOREVER = 10**9  # frames


@dataclass(frozen=True)
class Input:
    """A recording with the skeleton of its joints; its label from 0, −1 if unknown; and of a long recording the true
    segments in order, if known: (start, end, name of the class)."""

    recording: Recording
    skeleton: Skeleton
    label: int = -1
    truth: list[tuple[int, int, str]] | None = None

    @property
    def name(self) -> str:
        return self.recording.stem

    def bodies(self) -> np.ndarray:
        """Read its bodies (T, S, V, C), as recorded, all values finite."""
        with reading(self.recording):
            return check_values(self.recording.bodies(self.skeleton))


@dataclass
class Inputs:
    """Recordings, sorted by name; the names of the classes by label, if a table has them; notes for the user."""

    recordings: list[Input]
    class_names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_inputs(
    places: list[Path], skeleton: str | None = None, default: Skeleton = KINECT_V2, subfolders: bool = True
) -> Inputs:
    """Find the recordings in folders, zip archives and single files.

    A folder's recordings.csv chooses and labels them; otherwise names of NTU's form have labels. `.csv` and `.npy`
    recordings have the joints of `skeleton` (name or file), else of the skeleton.json beside them, else of `default`.
    Without `subfolders`, a folder's own files are read alone: its subfolders may hold a program's output.
    """
    inputs = Inputs([])
    by_name: dict[str, Input] = {}
    tables: dict[Path, list | None] = {}
    numbered: list[list[str]] = []
    repeated = 0
    for place in check_exist(places):
        own = skeleton_in(place, skeleton) or default
        if (place / TABLE).is_file():
            recordings, labels, class_names = _listed(place, inputs.notes)
            numbered += [class_names] * (max(labels) >= 0)
        else:
            files = [place]
            if place.is_dir() and not subfolders:
                files = [path for path in place.iterdir() if is_recording(path.name, SUFFIXES)]
            recordings, more = find_recordings(files, SUFFIXES)
            labels, repeated = [label_of(recording.stem) for recording in recordings], repeated + more
            _note_unread_tables(place, recordings, inputs.notes)
        for recording, label in zip(recordings, labels):
            joints = KINECT_V2 if recording.suffix == SKELETON else own
            one = Input(recording, joints, label, _truth(recording, tables))
            first = by_name.setdefault(recording.stem, one).recording
            if first is not recording:
                repeated += 1
                first.check_same(recording)
    if not by_name:
        raise UserError(f"no recording ({', '.join(SUFFIXES)}) in {', '.join(map(str, places))}")
    if repeated:
        inputs.notes.append(f"{counted(repeated, 'recording')} found a second time, taken from the first place")
    if any(class_names != numbered[0] for class_names in numbered):
        raise UserError("the folders number their classes in different ways: give them one after the other")
    inputs.recordings, inputs.class_names = [by_name[name] for name in sorted(by_name)], (numbered or [[]])[0]
    return inputs


def _listed(folder: Path, notes: list[str]) -> tuple[list[Recording], list[int], list[str]]:
    """Read a folder's recordings.csv: recordings, their labels, and names of the classes, empty if unknown."""
    rows, labels, class_names = read_listed(Files(folder))
    recordings = [Recording(row.path.stem, str(row.path)) for row in rows]
    if labels is None:
        return recordings, [-1] * len(rows), []
    least, most = min(labels), max(labels)
    if least < 0 or (class_names and most >= len(class_names)):
        last = f" to {len(class_names) - 1}" if class_names else ""
        raise UserError(f"{folder / TABLE}: has labels from {least} to {most}; they count from 0{last}")
    if least == 1 and not class_names:
        notes.append(f"{folder / TABLE}: no label is 0; labels count from 0 (action − 1)")
    return recordings, labels, class_names or []


def _note_unread_tables(place: Path, recordings: list[Recording], notes: list[str]) -> None:
    if recordings and recordings[0].path == str(place) and recordings[0].member is not None:
        with zipfile.ZipFile(place) as archive:
            names = {Path(member).name for member in archive.namelist()}
        if tables := [name for name in (TABLE, CLASSES, SKELETON_JSON) if name in names]:
            notes.append(f"{place}: its {' and '.join(tables)} count only in a folder: unpack it")


def _truth(recording: Recording, tables: dict[Path, list | None]) -> list[tuple[int, int, str]] | None:
    """Look up a recording's segments in the segments.csv beside it; `tables` holds those read before."""
    table = Path(recording.path).parent / SEGMENTS
    if table not in tables:
        tables[table] = read_segments(table) if table.is_file() else None
    lines = tables[table]
    if lines is None or recording.member is not None:
        return None
    rows = [row for row in lines if row[1] in (recording.stem, Path(recording.path).name)]
    if fault := find_fault([Segment(start, end, 0) for _, _, start, end, _ in rows], _FOREVER, 1):
        raise UserError(f"{table}:{rows[fault[0]][0]}: {fault[1]}")
    return sorted((start, end, label) for _, _, start, end, label in rows)


def label_of(name: str) -> int:
    """Return the label in an NTU recording's name, from 0; −1 for other names."""
    try:
        return parse_name(name).label
    except UserError:
        return -1


def read_one(place: Path, name: str | None, skeleton: str | None) -> tuple[str, np.ndarray, FrameLayout]:
    """Read the recording called `name`, or the only one, in a folder, archive or file: its name, normalised people
    (T, M, V, C), and their layout."""
    inputs = {one.name: one for one in find_inputs([place], skeleton).recordings}
    first = next(iter(inputs))
    if name is None and len(inputs) > 1:
        raise UserError(f"{place}: {len(inputs)} recordings; choose one by --name, such as {first}")
    if name is not None and name not in inputs:
        raise UserError(f"--name {name}: no such recording in {place}; the first is {first}")
    one = inputs[name or first]
    bodies = one.bodies()
    layout = FrameLayout(one.skeleton, max(1, min(NUM_PEOPLE, bodies.shape[1])), bodies.shape[3])
    return one.name, fit_people(bodies, one.skeleton, layout)[0], layout
