"""Find recordings in folders and zip archives, and read them in parallel."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

import numpy as np

from data_gen.packed.info import DataSetError, check_file
from data_gen.packed.names import parse_name
from data_gen.raw.normalise import ADDED, NORMALISED, fit_people, normalise
from data_gen.raw.number_lines import SkeletonError, too_large
from data_gen.raw.recording_files import SKELETON, check_values, parse_recording
from data_gen.raw.skeleton_file import MAX_BYTES, parse_skeleton
from data_gen.raw.workers import map_in_workers
from data_gen.skeletons import Skeleton

OTHER_TABLES = ("recordings.csv", "segments.csv")  # of clips, of long recordings; no recordings themselves
MISSING_LISTS = (
    "samples_with_missing_skeletons.txt",
    "NTU_RGBD_samples_with_missing_skeletons.txt",
    "NTU_RGBD120_samples_with_missing_skeletons.txt",
)
# What zipfile raises for damaged archives, or ones of another kind.
ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error)
_CHUNK = 16  # recordings a worker takes at a time


@dataclass(frozen=True)
class Recording:
    """Refer to a file at `path`, or to the entry `member` of the archive at `path`."""

    stem: str
    path: str
    member: str | None = None
    place: int = 0  # of the entry in the archive, which may have several of one name

    @property
    def suffix(self) -> str:
        """Return what its name ends with, in small letters."""
        return PurePosixPath(self.member or self.path).suffix.lower()

    def __str__(self) -> str:
        place = self.path if self.member is None else f"{self.path}:{self.member}"
        return place if place.isprintable() else ascii(place)

    def read(self, most: int = MAX_BYTES) -> bytes:
        """Return its contents. Raises SkeletonError if it cannot be read or has more than `most` bytes."""
        try:
            if self.member is None:
                status = os.stat(self.path)
                if not stat.S_ISREG(status.st_mode):
                    raise SkeletonError("cannot be read (not a regular file)")
                if status.st_size > most:
                    raise too_large(most)
                return Path(self.path).read_bytes()
            entry = _archive(self.path).infolist()[self.place]
            if entry.filename != self.member:
                raise SkeletonError("cannot be read (the archive was replaced meanwhile)")
            if entry.file_size > most:
                raise too_large(most)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile unpacks other methods without a bound.
                raise SkeletonError("cannot be read (compressed by another method than deflate: unpack the archive)")
            with _archive(self.path).open(entry) as text:
                return text.read(entry.file_size + 1)  # bounded, whatever size the archive claims for the entry
        except SkeletonError:
            raise
        except (*ZIP_ERRORS, IndexError, zlib.error) as error:
            raise SkeletonError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error

    def check_same(self, other: Recording) -> None:
        """Raise DataSetError if another recording of this name has other contents, as far as both can be read."""
        try:
            differ = self.read() != other.read()
        except SkeletonError:  # the conversion will tell
            return
        if differ:
            raise DataSetError(f"{other} and {self} differ: leave out one of the two")


@lru_cache(maxsize=8)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def find_recordings(places: Iterable[Path], suffixes: Sequence[str] = (SKELETON,)) -> tuple[list[Recording], int]:
    """Find every file with one of the suffixes in the places: folders (at any depth), zip archives, and the archives
    that lie directly in a folder.

    Return the recordings, sorted by name, and how many were left out because their name had been found before. Raises
    FileNotFoundError if a place does not exist, zipfile.BadZipFile if an archive is broken, DataSetError if two
    recordings of one name differ.
    """
    found: dict[str, Recording] = {}
    repeated = 0
    for place in check_there(list(map(Path, places))):
        for recording in _in_place(place, suffixes):
            first = found.setdefault(recording.stem, recording)
            if first is not recording:
                repeated += 1
                first.check_same(recording)
    return [found[stem] for stem in sorted(found)], repeated


def check_there(places: list[Path]) -> list[Path]:
    """Return the places. Raises FileNotFoundError, which names all that do not exist."""
    if missing := [str(place) for place in places if not place.exists()]:
        raise FileNotFoundError(f"no such file, folder or archive: {', '.join(missing)}")
    return places


def is_recording(name: str, suffixes: Sequence[str]) -> bool:
    """Tell whether a file of this name is a recording, and no hidden file or table."""
    return name.lower().endswith(tuple(suffixes)) and not name.startswith(".") and name not in OTHER_TABLES


def _in_place(place: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    if place.is_file():
        if place.suffix.lower() in suffixes:
            yield Recording(place.stem, str(place))
        else:
            yield from _in_archive(place, suffixes)
        return
    if not place.is_dir():
        raise FileNotFoundError(f"neither a file, folder nor archive: {place}")
    yield from recordings_under(place, suffixes)
    for name in sorted(os.listdir(place)):
        if name.lower().endswith(".zip") and not (place / name).is_dir():
            yield from _in_archive(place / name, suffixes)


def recordings_under(folder: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    """Yield the files in a folder, at any depth, that are recordings by their names. Archives are not opened."""
    entered: set[tuple[int, int]] = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=_raise):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in entered:  # links may lead in circles
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders.sort()
        # A folder with a recording's name is kept, to be reported when reading it fails.
        for name in sorted(files) + [s for s in subfolders if s.lower().endswith(tuple(suffixes))]:
            if is_recording(name, suffixes):
                yield Recording(Path(name).stem, os.path.join(parent, name))


def _raise(error: OSError) -> None:
    raise error


def _in_archive(path: Path, suffixes: Sequence[str]) -> Iterator[Recording]:
    try:
        if not path.is_file():
            raise zipfile.BadZipFile("not a regular file")
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except ZIP_ERRORS as error:
        raise zipfile.BadZipFile(f"{path} is not a zip archive, or a damaged one ({error})") from error
    for place, member in enumerate(members):
        name = PurePosixPath(member).name  # only the last part is used, so no entry can point elsewhere
        if is_recording(name, suffixes):
            yield Recording(PurePosixPath(name).stem, str(path), member, place)


def read_missing_list(path: Path) -> set[str]:
    """Read a list of recordings with missing skeletons. Return their names without `.skeleton`; lines that are no names
    are ignored. Raises DataSetError if it is no file, or too large."""
    check_file(path, MAX_BYTES)
    names = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        stem = line.strip().removesuffix(SKELETON)
        try:
            parse_name(stem)
        except ValueError:
            continue
        names.add(stem)
    return names


def find_missing_lists(places: Iterable[Path]) -> list[Path]:
    """Find the lists of missing skeletons in, or beside, the given folders and archives."""
    folders = dict.fromkeys(f for place in places for f in (Path(place), Path(place).parent))
    return [folder / name for folder in folders for name in MISSING_LISTS if (folder / name).is_file()]


def convert_all(recordings: list[Recording], workers: int) -> Iterator[np.ndarray | SkeletonError]:
    """Convert recordings, in their order. Yield the normalised people, float32 (T, 2, 25, 3), or the error, of each."""
    return map_in_workers(_convert, recordings, workers, _CHUNK)


def prepare_all(
    recordings: Sequence[tuple[Recording, Skeleton]],
    workers: int,
    target: Skeleton,
    shape: tuple[int, int],
    centred: bool,
) -> Iterator[tuple[np.ndarray, set[str]] | SkeletonError]:
    """Read recordings and their joints' skeletons, in their order. Yield the result of `fit_people`, or the error, of
    each. For `.skeleton` files, which are always raw and mostly show one person, it leaves out these two words."""
    prepare = partial(_prepare, target=target, shape=shape, centred=centred)
    return map_in_workers(prepare, list(recordings), workers, _CHUNK)


def _prepare(
    item: tuple[Recording, Skeleton], target: Skeleton, shape: tuple[int, int], centred: bool
) -> tuple[np.ndarray, set[str]] | SkeletonError:
    recording, source = item
    try:
        bodies = check_values(parse_recording(recording.read(), recording.suffix, source))
        people, done = fit_people(bodies, source, target, shape, centred)
        return people, done - {NORMALISED, ADDED} if recording.suffix == SKELETON else done
    except SkeletonError as error:
        return error
    except ValueError as error:  # from map_joints
        return SkeletonError(str(error))


def _convert(recording: Recording) -> np.ndarray | SkeletonError:
    try:
        return normalise(parse_skeleton(recording.read()))
    except SkeletonError as error:
        return error
