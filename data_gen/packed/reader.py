"""Read packed data sets: one copy of every recording; a protocol is a pair of index files.

    joints.npy     float32 (F, M, V, C)   every recording's frames [0, num_frame), end to end: people, joints, x y (z)
    num_frame.npy  int64 (N,)   label.npy  int64 (N,)   name.npy  text (N,), sorted
    subject.npy    camera.npy   text (N,), if dataset.json lists them under "tables"
    segments.npy   int64 (S, 4), if dataset.json states S: of long recordings, whose labels are -1 (segments.py)
    {protocol}_{train,val}.npy  int64 indices into N
    dataset.json   format version, data set, classes, skeleton, counts, frame rate, how it was made

Plain `.npy`, no pickle, memory-mappable. `dataset.json` is moved into place last: a folder without it is not a
data set.
"""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path

import numpy as np

from data_gen.packed import segments
from data_gen.packed.info import (
    ALL,
    INFO,
    MAX_NAME,
    NAME,
    REMEDY,
    SIDES,
    DataSetError,
    check_file,
    read_info,
    skeleton_of,
)
from data_gen.packed.npy import read_header
from data_gen.skeletons import KINECT_V2, MAX_PEOPLE, NUM_PEOPLE, Skeleton, map_joints

FRAME_SHAPE = (NUM_PEOPLE, len(KINECT_V2.joints), 3)  # of NTU's recordings
_MAX_RECORDINGS = 10**6  # far above any data set, too few to exhaust memory
_BLOCK = 2**16  # frames that are adapted at a time


class PackedDataset:
    """Open a packed data set for reading; `joints` is memory-mapped. Raises DataSetError if it is damaged."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / INFO).is_file():
            raise DataSetError(f"{self.path} is not a packed data set: it has no {INFO}; see Data in README.md")
        self._version = self._now()
        self.info = read_info(self.path / INFO)
        self.name: str = self.info["dataset"]
        self.title: str = self.info.get("title", self.name)
        self.num_classes: int = self.info["classes"]
        self.class_names: list[str] | None = self.info.get("class_names")
        self.protocols: list[str] = list(self.info["protocols"])
        self.skeleton: Skeleton = skeleton_of(self.info)
        self.joints = self._load("joints.npy", np.float32, (-1, -1, len(self.skeleton.joints), -1))
        _, people, joints, coordinates = self.joints.shape
        self.shape = (people, joints, coordinates)
        self.num_frame = np.array(self._load("num_frame.npy", np.int64, (-1,)))
        self.label = np.array(self._load("label.npy", np.int64, (len(self),)))
        self.names = self._load_texts("name.npy", "a name", "the name of a recording")
        self._check()
        self.segments = self._load_segments()  # of each recording; None in a data set of clips
        self.first = np.cumsum(self.num_frame) - self.num_frame

    def __len__(self) -> int:
        return len(self.num_frame)

    def split(self, protocol: str, side: str) -> np.ndarray:
        """Return indices (int64) of a protocol's `train` or `val` recordings; `protocol` is its short name."""
        if protocol == ALL and ALL not in self.protocols:
            return np.arange(len(self) if side == "train" else 0)
        if protocol not in self.protocols:
            raise DataSetError(f"{self.path} has no protocol {protocol!r}; it has {', '.join(self.protocols)}")
        file = f"{protocol}_{side}.npy"
        indices = np.array(self._load(file, np.int64, (-1,)))
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise self._damaged(file, f"an index lies outside the {len(self)} recordings")
        if len(np.unique(indices)) < len(indices):
            raise self._damaged(file, "an index stands there twice")
        return indices

    def recording(self, index: int) -> np.ndarray:
        """Return one recording's frames: float32 (T, M, V, C)."""
        return self.joints[self.first[index] : self.first[index] + self.num_frame[index]]

    def adapted(self, skeleton: Skeleton, people: int) -> PackedDataset:
        """Return the same recordings with the joints of another skeleton, by the table of mappings, and another number
        of people: the first ones, or absent ones added as zeros. They are kept in memory. Raises DataSetError where
        there is no mapping."""
        if (skeleton, people) == (self.skeleton, self.shape[0]):
            return self
        other, kept = copy(self), min(people, self.shape[0])
        other.skeleton, other.shape = skeleton, (people, len(skeleton.joints), self.shape[2])
        other.joints = np.zeros((len(self.joints), *other.shape), np.float32)
        try:
            for start in range(0, len(self.joints), _BLOCK):
                block = self.joints[start : start + _BLOCK, :kept]
                other.joints[start : start + _BLOCK, :kept] = map_joints(block, self.skeleton, skeleton)
        except ValueError as error:
            raise DataSetError(f"{self.path}: {error}") from None
        return other

    def table(self, kind: str) -> list[str] | None:
        """Return each recording's `subject` or `camera`; None if the data set has no such table."""
        if kind not in self.info.get("tables", ()):
            return None
        return self._load_texts(f"{kind}.npy", f"a {kind}", f"a {kind}").tolist()

    def _now(self) -> tuple[int, int] | None:
        """Identify the dataset.json that is there now: a conversion removes it before it moves its files."""
        try:
            status = os.stat(self.path / INFO)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _load(self, file: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        array = map_array(self.path / file, f"; {REMEDY}")
        if self._now() != self._version:
            raise DataSetError(f"{self.path} has been written anew since it was opened: start again")
        right_shape = array.ndim == len(shape) and all(w in (-1, h) for w, h in zip(shape, array.shape))
        if dtype is np.str_:
            right_type = array.dtype.kind == "U" and 0 < array.itemsize <= 4 * MAX_NAME
        else:
            right_type = array.dtype == dtype
        if not array.flags.c_contiguous:
            raise self._damaged(file, "not in C order")
        if not (right_shape and right_type):
            raise self._damaged(file, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        if len(shape) == 1 and len(array) > _MAX_RECORDINGS:  # read into memory, unlike the joints
            raise self._damaged(file, f"holds {len(array)} values, more than {_MAX_RECORDINGS}")
        return array

    def _load_texts(self, file: str, what: str, expected: str) -> np.ndarray:
        texts = np.array(self._load(file, np.str_, (len(self),)))
        if len(texts) and texts.view(np.uint32).max() > 127:  # or beyond Unicode, which no str can hold
            raise self._damaged(file, f"{what} has other characters than letters, digits, - and _")
        for text in texts.tolist():
            if not NAME.fullmatch(text):
                raise self._damaged(file, f"{ascii(text)} is not {expected}")
        return texts

    def _load_segments(self) -> list[list[segments.Segment]] | None:
        if "segments" not in self.info:
            return None
        rows = self._load(segments.FILE, np.int64, (self.info["segments"], 4))
        try:
            return segments.from_array(np.array(rows), self.num_frame, self.num_classes)
        except ValueError as error:
            raise self._damaged(segments.FILE, str(error)) from None

    def _check(self) -> None:
        """Check what other code relies on; that values are finite is checked on a sample, as the file may be large."""
        people, joints, coordinates = self.shape
        if not 1 <= people <= MAX_PEOPLE or coordinates not in (2, 3):
            raise self._damaged(
                "joints.npy",
                f"holds {people} people of {joints} joints and {coordinates} coordinates, expected 1 to {MAX_PEOPLE} "
                "people and 2 or 3 coordinates",
            )
        frames = len(self.joints)
        if len(self) == 0:
            raise self._damaged("num_frame.npy", "no recordings")
        # Each is at most `frames`, so the sum cannot overflow.
        if self.num_frame.min() < 1 or self.num_frame.max() > frames or self.num_frame.sum() != frames:
            total = sum(self.num_frame.tolist())
            raise self._damaged(
                "num_frame.npy", f"adds up to {total} frames (each at least 1), joints.npy has {frames}"
            )
        if "segments" in self.info:
            if (self.label != segments.NO_LABEL).any():
                raise self._damaged("label.npy", "a long recording has a label; its segments have them")
        elif self.label.min() < 0 or self.label.max() >= self.num_classes:
            raise self._damaged("label.npy", f"a label lies outside 0..{self.num_classes - 1}")
        names = self.names.tolist()
        if any(a >= b for a, b in zip(names, names[1:])):
            raise self._damaged("name.npy", "the names do not ascend")
        if not np.isfinite(self._sample()).all():
            raise self._damaged("joints.npy", "holds values that are not finite")
        for protocol in self.protocols:
            train, val = (self.split(protocol, side) for side in SIDES)
            if np.intersect1d(train, val).size:
                raise DataSetError(f"{self.path}: {protocol} has recordings on both sides; {REMEDY}")

    def _sample(self) -> np.ndarray:
        """Read 256 evenly spaced frames from the file; the mapping would load neighbouring pages, too."""
        assert isinstance(self.joints, np.memmap)  # as it is not empty
        frames, size = len(self.joints), self.joints[0].nbytes
        chosen = np.linspace(0, frames - 1, min(frames, 256), dtype=np.int64).tolist()
        with open(self.path / "joints.npy", "rb") as file:
            read = [os.pread(file.fileno(), size, self.joints.offset + size * i) for i in chosen]
        return np.frombuffer(b"".join(read), np.float32)

    def _damaged(self, file: str, reason: str) -> DataSetError:
        return DataSetError(f"{self.path / file}: {reason}; {REMEDY}")


def map_array(path: Path, remedy: str = "") -> np.ndarray:
    """Memory-map the array in a `.npy` file. Raises DataSetError, ending with `remedy`, for anything else."""
    check_file(path, remedy=remedy)
    try:
        with open(path, "rb") as file:
            header = read_header(file, path.stat().st_size)
            return np.memmap(file, header.dtype, "r", file.tell(), header.shape, "F" if header.fortran else "C")
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path}: cannot be read ({error}){remedy}") from error
