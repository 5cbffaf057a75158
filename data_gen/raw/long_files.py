"""Read recordings of any length in blocks of frames, in constant memory: .skeleton, .csv and .npy files.

A file that still grows can be followed: the reader waits for what is not there yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from data_gen.packed.info import DataSetError
from data_gen.packed.reader import map_array
from data_gen.raw.recording_files import CSV, NPY, SKELETON, SUFFIXES, csv_shape, npy_shape, shape_of
from data_gen.raw.skeleton_file import FARTHEST, NUM_JOINTS, SkeletonError, parse_skeleton
from data_gen.skeletons import KINECT_V2, Skeleton

BLOCK = 256  # frames
INTERVAL = 0.2  # seconds between looks at a file that grows
_LONGEST_LINE = 2**16  # bytes
_MOST_BODIES = 30  # in a frame; far more than a sensor lists


class LongFile:
    """Open a recording in a file, with 2 or 3 `coordinates` and up to `slots` bodies in a frame. Raises DataSetError if
    it is not a recording of the skeleton's joints."""

    def __init__(self, path: Path, skeleton: Skeleton = KINECT_V2, follow: bool = False):
        self.path, self.skeleton, self.follow = path, skeleton, follow
        self.ended = False  # set to True, it ends following
        if not path.is_file():
            raise DataSetError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
        self.suffix = path.suffix.lower()
        if self.suffix not in SUFFIXES or (follow and self.suffix == NPY):
            kinds = " or ".join((SKELETON, CSV) if follow else SUFFIXES)
            raise DataSetError(f"{path}: {'what is followed' if follow else 'a recording'} is a {kinds} file")
        self.slots, self.coordinates = self._shape()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the frames in blocks, float64 (T, slots, V, C), zeros in slots without a body. Raises DataSetError,
        with the line, for wrong text."""
        if self.suffix == NPY:
            yield from self._blocks_npy()
            return
        with open(self.path, "rb") as file:
            read = self._blocks_skeleton if self.suffix == SKELETON else self._blocks_csv
            yield from read(_Lines(self, file))

    def _shape(self) -> tuple[int, int]:
        if self.suffix == SKELETON:
            return shape_of(self.path, self.skeleton)[::2]
        try:
            if self.suffix == NPY:
                array = map_array(self.path)
                return npy_shape(array.dtype, array.shape, self.skeleton)[1::2]
            with open(self.path, "rb") as file:
                line = _Lines(self, file).read("the first line")
            return csv_shape(line.decode(errors="replace"), self.skeleton)[::2]
        except SkeletonError as error:
            raise DataSetError(f"{self.path}: {error}") from None

    def _blocks_npy(self) -> Iterator[np.ndarray]:
        array = map_array(self.path).reshape(-1, self.slots, len(self.skeleton.joints), self.coordinates)
        if not len(array):
            raise DataSetError(f"{self.path}: holds no frames")
        for start in range(0, len(array), BLOCK):
            block = array[start : start + BLOCK].astype(np.float64)
            self._check_near(block, f"frame {start}")
            yield block

    def _blocks_csv(self, lines: _Lines) -> Iterator[np.ndarray]:
        columns = self.slots * len(self.skeleton.joints) * self.coordinates
        rows: list[bytes] = []
        found = 0
        while True:
            line = lines.read()
            if line.strip() and not (lines.number == 1 and _is_heading(line)):
                rows.append(line)
            if rows and (line == b"" or len(rows) == BLOCK or lines.waiting):
                block = self._parse_csv(rows, columns, lines.number)
                found += len(block)
                yield block.reshape(-1, self.slots, len(self.skeleton.joints), self.coordinates)
                rows = []
            if line == b"":
                break
        if not found and not self.follow:
            raise DataSetError(f"{self.path}: holds no frames")

    def _parse_csv(self, rows: list[bytes], columns: int, last: int) -> np.ndarray:
        where = f"line {last - len(rows) + 1}"
        try:
            values = np.loadtxt(rows, delimiter=",", comments=None, ndmin=2)
            if values.shape[1] != columns:
                raise ValueError(f"{values.shape[1]} values")
        except ValueError as error:
            for number, row in enumerate(rows, last - len(rows) + 1):
                if row.count(b",") + 1 != columns or _is_heading(row):
                    raise DataSetError(f"{self.path}:{number}: is not {columns} numbers between commas") from None
            raise DataSetError(f"{self.path}: {where} and those after it: {error}") from None
        self._check_near(values, where)
        return values

    def _blocks_skeleton(self, lines: _Lines) -> Iterator[np.ndarray]:
        announced = lines.count("the number of frames")
        found = 0
        while self.follow or found < announced:
            first = lines.number
            texts: list[bytes] = []
            while len(texts) < BLOCK and (self.follow or found + len(texts) < announced):
                frame = self._read_frame(lines, found + len(texts))
                if frame is None:
                    break
                texts.append(frame)
                if lines.waiting:
                    break
            if not texts:
                return  # following has ended
            try:
                bodies = parse_skeleton(b"%d\n" % len(texts) + b"".join(texts))
            except SkeletonError as error:
                line = "" if error.line is None else f":{first + error.line - 1}"
                raise DataSetError(f"{self.path}{line}: {error.reason}") from None
            found += len(texts)
            block = np.zeros((len(texts), self.slots, NUM_JOINTS, 3))
            block[:, : bodies.shape[1]] = bodies
            yield block
        if lines.read().strip():
            raise DataSetError(f"{self.path}:{lines.number}: text goes on after the last of {announced} frames")
        if not found:
            raise DataSetError(f"{self.path}: holds no frames")

    def _read_frame(self, lines: _Lines, frame: int) -> bytes | None:
        """Read the lines of a frame; None if following has ended."""
        what = f"the number of bodies of frame {frame + 1}"
        count = lines.read()
        if count == b"" and self.follow:
            return None
        bodies = lines.as_count(count, what)
        if bodies > _MOST_BODIES:
            raise DataSetError(f"{self.path}:{lines.number}: {bodies} bodies in a frame, more than {_MOST_BODIES}")
        rest = [lines.read() for _ in range(bodies * (2 + NUM_JOINTS))]
        if rest and rest[-1] == b"":
            if self.follow:
                return None
            raise DataSetError(f"{self.path}: frame {frame + 1} is cut short")
        return b"".join((count, *rest))

    def _check_near(self, values: np.ndarray, where: str) -> None:
        if not (np.abs(values) < FARTHEST).all():  # False for nan too
            raise DataSetError(f"{self.path}: {where} or one soon after it: a value is not a finite number of metres")


class _Lines:
    """Read a file line by line; with `follow`, wait for lines that are not there yet. `number` counts the lines read;
    `waiting` tells whether the next one is not there yet."""

    def __init__(self, source: LongFile, file: IO[bytes]):
        self.source, self.file, self.number = source, file, 0

    @property
    def waiting(self) -> bool:
        if not self.source.follow:
            return False
        place = self.file.tell()
        line = self.file.readline(_LONGEST_LINE)
        self.file.seek(place)
        return not line.endswith(b"\n")

    def read(self, what: str = "") -> bytes:
        """Read the next line with its end; empty at the end of the file, or DataSetError if `what` must stand there."""
        place = self.file.tell() if self.source.follow else 0
        line = self.file.readline(_LONGEST_LINE)
        while self.source.follow and not line.endswith(b"\n") and not self.source.ended:
            if len(line) == _LONGEST_LINE:
                break
            time.sleep(INTERVAL)
            self.file.seek(place)
            line = self.file.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            raise DataSetError(f"{self.source.path}:{self.number + 1}: too long a line for a recording")
        if self.source.ended and not line.endswith(b"\n"):
            return b""  # half a line
        self.number += line != b""
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if what and not line.strip():
            raise DataSetError(f"{self.source.path}: the file ends where {what} should stand")
        return line if line.endswith(b"\n") or not line else line + b"\n"

    def count(self, what: str) -> int:
        return self.as_count(self.read(what), what)

    def as_count(self, line: bytes, what: str) -> int:
        word = line.strip()
        if not word.isdigit() or len(word) > 9:
            found = ascii(word[:40].decode("latin-1")) if word else "the end of the file"
            raise DataSetError(f"{self.source.path}:{self.number}: {what} should stand here, found {found}")
        return int(word)


def _is_heading(line: bytes) -> bool:
    """Tell whether no value of a line is a number."""
    for value in line.split(b","):
        try:
            float(value)
        except ValueError:
            continue
        return False
    return True
