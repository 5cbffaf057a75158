"""Find recordings in folders, zip archives and single files, and read them, in parallel if they are many."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from data_gen.datasets import parse_name
from data_gen.raw.normalise import ADDED, NORMALISED, check_values, fit_people, normalise
from data_gen.raw.recording_files import SKELETON, SUFFIXES, parse_table
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.raw.tables import CLASSES, SEGMENTS, TABLE, Files, read_listed, segments_of
from data_gen.skeletons import KINECT_V2, NUM_PEOPLE, SKELETON_JSON, FrameLayout, Skeleton, skeleton_in
from utils.errors import UserError
from utils.files import reading
from utils.processes import map_in_workers
from utils.text import counted

Result = TypeVar("Result")
_CHUNK = 16  # recordings a worker takes at a time


@dataclass(frozen=True)
class Recording:
    """A file at `path`, or the entry `member` of the archive at `path`."""

    stem: str
    path: str
    member: str | None = None

    @property
    def suffix(self) -> str:
        """The end of its name, in small letters."""
        return PurePosixPath(self.member or self.path).suffix.lower()

    def __str__(self) -> str:
        return self.path if self.member is None else f"{self.path}:{self.member}"

    def read(self) -> bytes:
        """Read its contents."""
        with reading(self):
            if self.member is None:
                return Path(self.path).read_bytes()
            return _archive(self.path).read(self.member)

    def bodies(self, skeleton: Skeleton) -> np.ndarray:
        """Read its bodies (T, S, V, C), as recorded; `.csv` and `.npy` are of this skeleton's joints, and may hold
        non-finite values."""
        with reading(self):
            if self.suffix == SKELETON:
                return parse_skeleton(self.read())
            return parse_table(self.read(), self.suffix, skeleton)

    def check_same(self, other: Recording) -> None:
        """Raise UserError if another recording of this name has other contents, as far as both can be read."""
        try:
            differ = self.read() != other.read()
        except UserError:  # the conversion reports it
            return
        if differ:
            raise UserError(f"{other} and {self} differ: leave out one of the two")


@lru_cache(maxsize=8)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@dataclass(frozen=True)
class Input:
    """A recording with the skeleton of its joints, and its label from 0, −1 if unknown."""

    recording: Recording
    skeleton: Skeleton
    label: int = -1

    @property
    def name(self) -> str:
        return self.recording.stem

    @property
    def truth(self) -> list[tuple[int, int, str]] | None:
        """Of a long recording: its true segments in order, (start, end, name of the class), if known."""
        return None if self.recording.member else segments_of(Path(self.recording.path))

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


# ---- find ------------------------------------------------------------------------------------------------------------


def find_recordings(places: Iterable[Path], suffixes: Sequence[str] = (SKELETON,)) -> tuple[list[Recording], int]:
    """Find every file with one of the suffixes in the places: folders (at any depth), zip archives, the archives that
    lie directly in a folder, and files.

    Return the recordings, sorted by name, and how many were left out because their name had been found before. Raises
    UserError if a place does not exist, an archive is broken, or two recordings of one name differ.
    """
    by_stem: dict[str, Recording] = {}
    repeated = 0
    for place in check_exist(list(map(Path, places))):
        for recording in _in_place(place, suffixes):
            first = by_stem.setdefault(recording.stem, recording)
            if first is not recording:
                repeated += 1
                first.check_same(recording)
    return [by_stem[stem] for stem in sorted(by_stem)], repeated


def check_exist(places: list[Path]) -> list[Path]:
    """Return the places. Raises UserError, which names all that do not exist."""
    if missing := [str(place) for place in places if not place.exists()]:
        raise UserError(f"no such file, folder or archive: {', '.join(missing)}")
    return places


def is_recording(name: str, suffixes: Sequence[str]) -> bool:
    """Return whether a file of this name is a recording, and no hidden file or table."""
    return name.lower().endswith(tuple(suffixes)) and not name.startswith(".") and name not in (TABLE, SEGMENTS)


def _in_place(place: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    if place.is_dir():
        yield from recordings_under(place, suffixes)
        for path in sorted(place.iterdir()):
            if path.suffix.lower() == ".zip" and path.is_file():
                yield from _in_archive(path, suffixes)
    elif place.suffix.lower() in suffixes:
        yield Recording(place.stem, str(place))
    else:
        yield from _in_archive(place, suffixes)


def recordings_under(folder: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    """Yield the files in a folder, at any depth, that are recordings by their names. Archives are not opened."""
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        subfolders.sort()
        for name in sorted(files):
            if is_recording(name, suffixes):
                yield Recording(Path(name).stem, os.path.join(parent, name))


def _in_archive(path: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    with reading(path), zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    for member in members:
        name = PurePosixPath(member).name
        if is_recording(name, suffixes):
            yield Recording(PurePosixPath(name).stem, str(path), member)


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
            one = Input(recording, joints, label)
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
    rows, labels, class_names = read_listed(files_in(folder))
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


def label_of(name: str) -> int:
    """Return the label in an NTU recording's name, from 0; −1 for other names."""
    try:
        return parse_name(name).label
    except UserError:
        return -1


def files_in(folder: Path) -> Files:
    """List the recordings in a folder, at any depth, for its tables."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return Files(folder, [Path(recording.path) for recording in recordings_under(folder, SUFFIXES)])


# ---- read ------------------------------------------------------------------------------------------------------------


def convert_all(recordings: list[Recording], workers: int) -> Iterator[np.ndarray | UserError]:
    """Convert recordings, in their order. Yield the normalised people, float32 (T, 2, 25, 3), or the error, of each."""
    return map_in_workers(_convert, recordings, workers, _CHUNK)


def prepare_all(
    recordings: Sequence[tuple[Recording, Skeleton]], workers: int, target: FrameLayout, centred: bool
) -> Iterator[tuple[np.ndarray, set[str]] | UserError]:
    """Read recordings, each with the skeleton of its joints. Yield the result of `fit_people`, or the error, of each,
    in their order. For `.skeleton` files, which are always raw and mostly show one person, two adaptations are not
    mentioned."""
    prepare = partial(_prepare, target=target, centred=centred)
    return map_in_workers(prepare, list(recordings), workers, _CHUNK)


def _prepare(
    item: tuple[Recording, Skeleton], target: FrameLayout, centred: bool
) -> tuple[np.ndarray, set[str]] | UserError:
    recording, source = item

    def prepare() -> tuple[np.ndarray, set[str]]:
        people, adaptations = fit_people(check_values(recording.bodies(source)), source, target, centred)
        return people, adaptations - {NORMALISED, ADDED} if recording.suffix == SKELETON else adaptations

    return attempt(recording, prepare)


def _convert(recording: Recording) -> np.ndarray | UserError:
    return attempt(recording, lambda: normalise(recording.bodies(KINECT_V2)))


def attempt(recording: Recording, work: Callable[[], Result]) -> Result | UserError:
    """Return the result of `work` on a recording, or the error, without the recording's path."""
    try:
        with reading(recording):
            return work()
    except UserError as error:
        cause = error.__cause__
        return UserError(str(cause) if isinstance(cause, UserError) else str(error).removeprefix(f"{recording}: "))


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
