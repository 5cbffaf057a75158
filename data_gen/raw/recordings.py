"""Find recordings in folders, zip archives and single files, and read them, in parallel if they are many."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from data_gen.datasets import NTU_NAME
from data_gen.raw.normalise import ADDED, NORMALISED, fit_people, normalise
from data_gen.raw.recording_files import SKELETON, check_values, parse_recording
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import FrameLayout, Skeleton
from utils.errors import UserError
from utils.files import reading
from utils.processes import map_in_workers

OTHER_TABLES = ("recordings.csv", "segments.csv")  # of clips, of long recordings; no recordings themselves
MISSING_LISTS = (
    "samples_with_missing_skeletons.txt",
    "NTU_RGBD_samples_with_missing_skeletons.txt",
    "NTU_RGBD120_samples_with_missing_skeletons.txt",
)
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
        """Read its bodies (T, S, V, C), as recorded; `.csv` and `.npy` are of this skeleton's joints. Raises UserError,
        with path and line; values of `.csv` and `.npy` may be non-finite."""
        with reading(self):
            return parse_recording(self.read(), self.suffix, skeleton)

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
    return name.lower().endswith(tuple(suffixes)) and not name.startswith(".") and name not in OTHER_TABLES


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
    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=_raise):
        subfolders.sort()
        for name in sorted(files):
            if is_recording(name, suffixes):
                yield Recording(Path(name).stem, os.path.join(parent, name))


def _raise(error: OSError) -> None:
    raise error


def _in_archive(path: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    with reading(path), zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    for member in members:
        name = PurePosixPath(member).name
        if is_recording(name, suffixes):
            yield Recording(PurePosixPath(name).stem, str(path), member)


def read_missing_list(path: Path) -> set[str]:
    """Read a list of recordings with missing skeletons: the NTU names in a text."""
    with reading(path):
        return set(re.findall(NTU_NAME, path.read_text(encoding="utf-8", errors="replace")))


def find_missing_lists(places: Iterable[Path]) -> list[Path]:
    """Find the lists of missing skeletons in, or beside, the given folders and archives."""
    folders = dict.fromkeys(f for place in places for f in (Path(place), Path(place).parent))
    return [folder / name for folder in folders for name in MISSING_LISTS if (folder / name).is_file()]


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

    def prepare(content: bytes) -> tuple[np.ndarray, set[str]]:
        bodies = check_values(parse_recording(content, recording.suffix, source))
        people, adaptations = fit_people(bodies, source, target, centred)
        return people, adaptations - {NORMALISED, ADDED} if recording.suffix == SKELETON else adaptations

    return attempt(recording, prepare)


def _convert(recording: Recording) -> np.ndarray | UserError:
    return attempt(recording, lambda content: normalise(parse_skeleton(content)))


def attempt(recording: Recording, work: Callable[[bytes], Result]) -> Result | UserError:
    """Return the result of `work` on a recording's contents, or the error, without the recording's path."""
    try:
        with reading(recording):
            return work(recording.read())
    except UserError as error:
        cause = error.__cause__
        return UserError(str(cause) if isinstance(cause, UserError) else str(error).removeprefix(f"{recording}: "))
