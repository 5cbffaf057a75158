"""Find recordings in folders, zip archives and single files, and read them, in parallel if they are many."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    """A file at `path`, or the entry `member` of the archive at `path`. skeleton: of its joints. label: from 0, −1 if
    unknown."""

    name: str
    path: str
    member: str | None = None
    skeleton: Skeleton = KINECT_V2
    label: int = -1

    @property
    def suffix(self) -> str:
        """The end of its file's name, in small letters."""
        return PurePosixPath(self.member or self.path).suffix.lower()

    @property
    def truth(self) -> list[tuple[int, int, str]] | None:
        """Of a long recording: its true segments in order, (start, end, name of the class), if known."""
        return None if self.member else segments_of(Path(self.path))

    def __str__(self) -> str:
        return self.path if self.member is None else f"{self.path}:{self.member}"

    def read(self) -> bytes:
        """Read its contents."""
        with reading(self):
            if self.member is None:
                return Path(self.path).read_bytes()
            return _archive(self.path).read(self.member)

    def read_bodies(self) -> np.ndarray:
        """Read its bodies (T, S, V, C), as recorded; those of `.csv` and `.npy` may hold non-finite values."""
        with reading(self):
            if self.suffix == SKELETON:
                return parse_skeleton(self.read())
            return parse_table(self.read(), self.suffix, self.skeleton)

    def bodies(self) -> np.ndarray:
        """Read its bodies (T, S, V, C), as recorded, all values finite."""
        with reading(self):
            return check_values(self.read_bodies())

    def differs_from(self, other: Recording) -> bool:
        """Return whether another recording has other contents, as far as both can be read."""
        try:
            return self.read() != other.read()
        except UserError:  # the conversion reports it
            return False


@lru_cache(maxsize=8)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@dataclass
class Inputs:
    """Recordings, sorted by name; the names of the classes by label, if a table has them; notes for the user."""

    recordings: list[Recording]
    class_names: list[str]
    notes: list[str]


# ---- find ------------------------------------------------------------------------------------------------------------


def find_recordings(places: Iterable[Path]) -> tuple[list[Recording], int]:
    """Find every `.skeleton` file in the places: folders (at any depth), zip archives, the archives that lie directly
    in a folder, and files. Return the recordings, sorted by name, and how many were left out because their name had
    been found before."""
    return _take_once(recording for place in places for recording in _in_place(place, (SKELETON,)))


def _take_once(recordings: Iterable[Recording]) -> tuple[list[Recording], int]:
    """Take the first recording of each name, sorted by name, and count the others. Raises UserError if they differ."""
    by_name: dict[str, Recording] = {}
    repeated = 0
    for recording in recordings:
        first = by_name.setdefault(recording.name, recording)
        if first is not recording:
            repeated += 1
            if first.differs_from(recording):
                raise UserError(f"{recording} and {first} differ: leave out one of the two")
    return [by_name[name] for name in sorted(by_name)], repeated


def _in_place(place: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    if not place.exists():
        raise UserError(f"{place}: no such file, folder or archive")
    if place.is_dir():
        yield from _in_folder(place, suffixes)
        for path in sorted(place.iterdir()):
            if path.suffix.lower() == ".zip" and path.is_file():
                yield from _in_archive(path, suffixes)
    elif place.suffix.lower() in suffixes:
        yield Recording(place.stem, str(place))
    else:
        yield from _in_archive(place, suffixes)


def _in_folder(folder: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    """Yield the files in a folder, at any depth, that are recordings by their names. Archives are not opened."""
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        subfolders.sort()
        for name in sorted(files):
            if _is_recording(name, suffixes):
                yield Recording(Path(name).stem, os.path.join(parent, name))


def _in_archive(path: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    with reading(path), zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    for member in members:
        name = PurePosixPath(member).name
        if _is_recording(name, suffixes):
            yield Recording(PurePosixPath(name).stem, str(path), member)


def _is_recording(name: str, suffixes: Sequence[str]) -> bool:
    """Return whether a file of this name is a recording, and no hidden file or table."""
    return name.lower().endswith(tuple(suffixes)) and not name.startswith(".") and name not in (TABLE, SEGMENTS)


def files_in(folder: Path) -> Files:
    """List the recordings in a folder, at any depth, for its tables."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return Files(folder, [Path(recording.path) for recording in _in_folder(folder, SUFFIXES)])


def find_inputs(
    places: list[Path], skeleton: str | None = None, default: Skeleton = KINECT_V2, subfolders: bool = True
) -> Inputs:
    """Find the recordings in folders, zip archives and single files.

    A folder's recordings.csv chooses and labels them; otherwise names of NTU's form have labels. `.csv` and `.npy`
    recordings have the joints of `skeleton` (name or file), else of the skeleton.json beside them, else of `default`.
    Without `subfolders`, a folder's own files are read alone: its subfolders may hold a program's output.
    """
    every: list[Recording] = []
    numbered: list[list[str]] = []  # the classes of each folder that numbers them
    notes: list[str] = []
    for place in places:
        own = skeleton_in(place, skeleton) or default
        if (place / TABLE).is_file():
            recordings, class_names = _listed(place, notes)
            numbered += [class_names] * (recordings[0].label >= 0)
        else:
            files = [place]
            if place.is_dir() and not subfolders:
                files = [path for path in place.iterdir() if _is_recording(path.name, SUFFIXES)]
            recordings = [recording for file in files for recording in _in_place(file, SUFFIXES)]
            recordings = [replace(recording, label=_label_of(recording.name)) for recording in recordings]
            _note_unread_tables(place, notes)
        every += [r if r.suffix == SKELETON else replace(r, skeleton=own) for r in recordings]
    if not every:
        raise UserError(f"no recording ({', '.join(SUFFIXES)}) in {', '.join(map(str, places))}")
    recordings, repeated = _take_once(every)
    if repeated:
        notes.append(f"{counted(repeated, 'recording')} found a second time, taken from the first place")
    if any(class_names != numbered[0] for class_names in numbered):
        raise UserError("the folders number their classes in different ways: give them one after the other")
    return Inputs(recordings, numbered[0] if numbered else [], notes)


def _listed(folder: Path, notes: list[str]) -> tuple[list[Recording], list[str]]:
    """Read a folder's recordings.csv: labelled recordings, and the names of the classes, empty if unknown."""
    rows, labels, class_names = read_listed(files_in(folder))
    recordings = [Recording(row.path.stem, str(row.path)) for row in rows]
    if labels is None:
        return recordings, []
    least, most = min(labels), max(labels)
    if least < 0 or (class_names and most >= len(class_names)):
        last = f" to {len(class_names) - 1}" if class_names else ""
        raise UserError(f"{folder / TABLE}: has labels from {least} to {most}; they count from 0{last}")
    if least == 1 and not class_names:
        notes.append(f"{folder / TABLE}: no label is 0; labels count from 0 (action − 1)")
    return [replace(recording, label=label) for recording, label in zip(recordings, labels)], class_names or []


def _label_of(name: str) -> int:
    """Return the label in an NTU recording's name, from 0; −1 for other names."""
    try:
        return parse_name(name).label
    except UserError:
        return -1


def _note_unread_tables(place: Path, notes: list[str]) -> None:
    if place.is_file() and zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            names = {Path(member).name for member in archive.namelist()}
        if tables := [name for name in (TABLE, CLASSES, SKELETON_JSON) if name in names]:
            notes.append(f"{place}: its {' and '.join(tables)} count only in a folder: unpack it")


# ---- read ------------------------------------------------------------------------------------------------------------


def convert_all(recordings: list[Recording], workers: int) -> Iterator[np.ndarray | UserError]:
    """Convert `.skeleton` recordings, in order. Yield the normalised people, float32 (T, 2, 25, 3), or the error."""
    return map_in_workers(_convert, recordings, workers, _CHUNK)


def _convert(recording: Recording) -> np.ndarray | UserError:
    return attempt(recording, lambda: normalise(recording.read_bodies()))


def prepare_all(
    recordings: list[Recording], workers: int, target: FrameLayout, centred: bool
) -> Iterator[tuple[np.ndarray, set[str]] | UserError]:
    """Read recordings, and yield the result of `fit_people`, or the error, of each, in their order. For `.skeleton`
    files, which are always raw and mostly show one person, two adaptations are not mentioned."""
    return map_in_workers(partial(_prepare, target=target, centred=centred), recordings, workers, _CHUNK)


def _prepare(recording: Recording, target: FrameLayout, centred: bool) -> tuple[np.ndarray, set[str]] | UserError:
    def prepare() -> tuple[np.ndarray, set[str]]:
        people, adaptations = fit_people(recording.bodies(), recording.skeleton, target, centred)
        return people, adaptations - {NORMALISED, ADDED} if recording.suffix == SKELETON else adaptations

    return attempt(recording, prepare)


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
    recordings = {recording.name: recording for recording in find_inputs([place], skeleton).recordings}
    first = next(iter(recordings))
    if name is None and len(recordings) > 1:
        raise UserError(f"{place}: {len(recordings)} recordings; choose one by --name, such as {first}")
    if name is not None and name not in recordings:
        raise UserError(f"--name {name}: no such recording in {place}; the first is {first}")
    recording = recordings[name or first]
    bodies = recording.bodies()
    layout = FrameLayout(recording.skeleton, max(1, min(NUM_PEOPLE, bodies.shape[1])), bodies.shape[3])
    return recording.name, fit_people(bodies, recording.skeleton, layout)[0], layout
