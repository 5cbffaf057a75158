"""The packed data set: one copy of every recording, a protocol is a pair of index files.

    joints.npy     float32 (F, M, V, C)   every recording's frames [0, num_frame), end to end: people, joints, x y (z)
    num_frame.npy  int64 (N,)   label.npy  int64 (N,)   name.npy  text (N,), sorted
    subject.npy    camera.npy   text (N,), where dataset.json lists them under "tables"
    {protocol}_{train,val}.npy  int64 indices into N
    dataset.json   format version, data set, classes, skeleton, counts, frame rate, how it was made

Plain `.npy`, no pickle, memory-mappable. `dataset.json` is moved into place last: a folder without it is not a
data set.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_gen.normalise import NUM_PEOPLE
from data_gen.packed_info import (
    FORMAT_VERSION,
    INFO,
    MAX_NAME,
    NAME,
    REMEDY,
    SIDES,
    DataSetError,
    read_info,
    skeleton_of,
)
from data_gen.skeletons import KINECT_V2, MAX_PEOPLE, Skeleton

FRAME_RATE = 30
FRAME_SHAPE = (NUM_PEOPLE, len(KINECT_V2.joints), 3)  # of NTU's recordings
PARTIAL = ".partial"

Splits = dict[str, dict[str, list[int]]]  # of each protocol, the recordings of each side
# Bounds far above any data set, below what could exhaust memory.
_MAX_RECORDINGS = 10**6
# What numpy writes before the values.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[<>|][biufU]\d{1,4})', "
    rb"'fortran_order': False, 'shape': \((?P<shape>\d{1,15}(?:, ?\d{1,15})*,?)\), \} *\n",
    re.DOTALL,
)
_LONGEST_HEADER = 1024


class PackedDataset:
    """A packed data set opened for reading; `joints` is memory-mapped. Raises DataSetError if damaged."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / INFO).is_file():
            raise DataSetError(f"{self.path} is not a packed data set: it has no {INFO}; see Data in README.md")
        self.info = read_info(self.path / INFO)
        self.name: str = self.info["dataset"]
        self.title: str = self.info.get("title", self.name)
        self.num_classes: int = self.info["classes"]
        self.class_names: list[str] | None = self.info.get("class_names")
        self.protocols: list[str] = list(self.info["protocols"])
        self.skeleton: Skeleton = skeleton_of(self.info)
        self.joints = self._load("joints.npy", np.float32, (-1, -1, len(self.skeleton.joints), -1))
        self.shape: tuple[int, int, int] = self.joints.shape[1:]  # people, joints, coordinates
        self._check_shape()
        self.num_frame = np.array(self._load("num_frame.npy", np.int64, (-1,)))
        self.label = np.array(self._load("label.npy", np.int64, (len(self),)))
        self.names = self._load_texts("name.npy", "a name", "the name of a recording")
        self._check()
        self.first = np.cumsum(self.num_frame) - self.num_frame

    def __len__(self) -> int:
        return len(self.num_frame)

    def split(self, protocol: str, side: str) -> np.ndarray:
        """Indices (int64) of one side, `train` or `val`, of a protocol's short name."""
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
        """One recording's frames: float32 (T, M, V, C)."""
        return self.joints[self.first[index] : self.first[index] + self.num_frame[index]]

    def table(self, kind: str) -> list[str] | None:
        """Each recording's `subject` or `camera`; None where the data set does not tell them."""
        if kind not in self.info.get("tables", ()):
            return None
        return self._load_texts(f"{kind}.npy", f"a {kind}", f"a {kind}").tolist()

    def _load(self, file: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        array = map_array(self.path / file, f"; {REMEDY}")
        right_shape = array.ndim == len(shape) and all(w in (-1, h) for w, h in zip(shape, array.shape))
        if dtype is np.str_:
            right_type = array.dtype.kind == "U" and 0 < array.itemsize <= 4 * MAX_NAME
        else:
            right_type = array.dtype == dtype
        if not (right_shape and right_type):
            raise self._damaged(file, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        if len(shape) == 1 and len(array) > _MAX_RECORDINGS:  # read into memory, unlike the joints
            raise self._damaged(file, f"holds {len(array)} values, more than {_MAX_RECORDINGS}")
        return array

    def _load_texts(self, file: str, what: str, expected: str) -> np.ndarray:
        texts = np.array(self._load(file, np.str_, (len(self),)))
        if len(texts) and texts.view(np.uint32).max() > 127:  # perhaps beyond all characters, of which no text can be
            raise self._damaged(file, f"{what} has other characters than letters, digits, - and _")
        for text in texts.tolist():
            if not NAME.fullmatch(text):
                raise self._damaged(file, f"{ascii(text)} is not {expected}")
        return texts

    def _check_shape(self) -> None:
        people, joints, coordinates = self.shape
        if not 1 <= people <= MAX_PEOPLE or coordinates not in (2, 3):
            raise self._damaged(
                "joints.npy",
                f"holds {people} people of {joints} joints and {coordinates} coordinates, expected 1 to {MAX_PEOPLE} "
                "people and 2 or 3 coordinates",
            )

    def _check(self) -> None:
        """Contents that the rest of the code relies on; finite values are sampled, the file may be large."""
        frames = len(self.joints)
        if len(self) == 0:
            raise self._damaged("num_frame.npy", "no recordings")
        # None is above the sum, so that the sum cannot overflow.
        if self.num_frame.min() < 1 or self.num_frame.max() > frames or self.num_frame.sum() != frames:
            total = sum(self.num_frame.tolist())
            raise self._damaged(
                "num_frame.npy", f"adds up to {total} frames (each at least 1), joints.npy has {frames}"
            )
        if self.label.min() < 0 or self.label.max() >= self.num_classes:
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
        """Values of 256 frames, evenly spaced. Read, since the mapping would bring in the neighbours of each."""
        assert isinstance(self.joints, np.memmap)  # there are frames
        frames, size = len(self.joints), self.joints[0].nbytes
        chosen = np.linspace(0, frames - 1, min(frames, 256), dtype=np.int64).tolist()
        with open(self.path / "joints.npy", "rb") as file:
            read = [os.pread(file.fileno(), size, self.joints.offset + size * i) for i in chosen]
        return np.frombuffer(b"".join(read), np.float32)

    def _damaged(self, file: str, reason: str) -> DataSetError:
        return DataSetError(f"{self.path / file}: {reason}; {REMEDY}")


def map_array(path: Path, remedy: str = "") -> np.ndarray:
    """The array in a `.npy` file, memory-mapped. Nothing is taken for true, or allocated, that the size of the file
    does not bear out. Raises DataSetError, which ends with the remedy."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("no such file" if not path.exists() else "not a regular file")
        with open(path, "rb") as file:
            start = file.read(_LONGEST_HEADER)
        header = _HEADER.match(start)
        if not header or header.end() != 10 + int.from_bytes(header["length"], "little"):
            raise ValueError("it does not begin with the header of a plain array in C order")
        dtype = np.dtype(header["dtype"].decode())
        shape = tuple(int(n) for n in header["shape"].split(b",") if n.strip())
        expected, size = header.end() + math.prod(shape) * dtype.itemsize, path.stat().st_size
        if size != expected:
            raise ValueError(f"its header tells of {expected} bytes, it has {size}")
        if 0 in shape:
            return np.empty(shape, dtype)  # which cannot be mapped
        return np.memmap(path, dtype, "r", header.end(), shape)
    except (OSError, ValueError, TypeError) as error:
        raise DataSetError(f"{path}: cannot be read ({error}){remedy}") from error


def describe(splits: Splits, rules: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What dataset.json says of protocols: how many recordings each side has, and the rule, where one made it."""
    return {
        name: {side: len(sides[side]) for side in SIDES} | ({"rule": rules[name]} if name in rules else {})
        for name, sides in splits.items()
    }


class PackedWriter:
    """Write a packed data set recording by recording, in constant memory; `packing(out)` makes one."""

    def __init__(self, out: Path, shape: tuple[int, int, int] = FRAME_SHAPE):
        self.out, self.shape = out, shape
        self.partial = out / PARTIAL
        shutil.rmtree(self.partial, ignore_errors=True)  # what a killed conversion left
        self.partial.mkdir(parents=True)
        self._file = open(self.partial / "joints.npy", "wb")
        self._write_header(0)
        self.num_frame: list[int] = []
        self.labels: list[int] = []
        self.names: list[str] = []
        self.without_a_body: list[str] = []

    def add(self, name: str, label: int, people: np.ndarray) -> None:
        """Append a recording, float32 (T, M, V, C) of the writer's shape. Names must come in ascending order."""
        if people.shape[1:] != self.shape:
            raise ValueError(f"{name} has the shape {people.shape}, expected (T, {', '.join(map(str, self.shape))})")
        if self.names and name <= self.names[-1]:
            raise ValueError(f"{name} after {self.names[-1]}: names must ascend")
        self._file.write(np.ascontiguousarray(people, np.float32).data)
        self.num_frame.append(len(people))
        self.labels.append(label)
        self.names.append(name)
        if not people.any():
            self.without_a_body.append(name)

    def counts(self, splits: Splits, rules: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What dataset.json says of the recordings that were added, and of the rules that made the protocols."""
        return {
            "recordings": len(self.names),
            "frames": sum(self.num_frame),
            "longest": max(self.num_frame),
            "without_a_body": self.without_a_body,
            "protocols": describe(splits, rules or {}),
        }

    def finish(self, splits: Splits, info: dict, tables: Mapping[str, list[str]] | None = None) -> None:
        """Write the rest, then move it all into place, dataset.json last.

        info: `dataset` (its name), `title`, `classes`, the `counts`, and where they are known `class_names` and
        `skeleton` (of `Skeleton.to_json`; by default Kinect v2's). tables: each recording's `subject` and `camera`, or
        one of them, in the order of the recordings. Raises ValueError where these do not fit the recordings.
        """
        tables = tables or {}
        info = {"skeleton": KINECT_V2.to_json(), **info, **({"tables": list(tables)} if tables else {})}
        for table, values in tables.items():
            if len(values) != len(self.names) or not all(map(NAME.fullmatch, values)):
                raise ValueError(f"{table}: not a value of letters, digits, - and _ for each recording")
        joints = len(skeleton_of(info).joints)
        if joints != self.shape[1]:
            raise ValueError(f"the skeleton has {joints} joints, the recordings {self.shape[1]}")
        length = self._file.tell()
        self._file.seek(0)
        self._write_header(sum(self.num_frame))
        if length != self._file.tell() + 4 * sum(self.num_frame) * math.prod(self.shape):
            raise AssertionError("the final header must be as long as the first one")
        self._close()
        arrays = {
            "num_frame": np.array(self.num_frame, np.int64),
            "label": np.array(self.labels, np.int64),
            "name": np.array(self.names, np.str_),
            **{table: np.array(values, np.str_) for table, values in tables.items()},
        }
        for protocol, sides in splits.items():
            arrays |= index_arrays(protocol, sides)
        write_files(self.partial, arrays, {"format": FORMAT_VERSION, "frame_rate": FRAME_RATE, **info})
        (self.out / INFO).unlink(missing_ok=True)
        for path in sorted(self.partial.iterdir(), key=lambda p: p.name == INFO):
            os.replace(path, self.out / path.name)
        self.partial.rmdir()

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        shutil.rmtree(self.partial, ignore_errors=True)

    def _write_header(self, frames: int) -> None:
        # numpy pads a header so that its first axis can grow in place.
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _close(self) -> None:
        _flush(self._file)
        self._file.close()


def index_arrays(protocol: str, sides: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """What a protocol's index files hold, by their stems."""
    return {f"{protocol}_{side}": np.array(sides[side], np.int64) for side in SIDES}


def write_files(folder: Path, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    """Write `.npy` files by their stems, and dataset.json, onto the disk."""
    for stem, array in arrays.items():
        with open(folder / f"{stem}.npy", "wb") as file:
            np.save(file, array, allow_pickle=False)
            _flush(file)
    with open(folder / INFO, "w") as text:
        json.dump(info, text, indent=1)
        _flush(text)


def _flush(file: IO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold folder `out` for one conversion; the lock goes with the process. Raises DataSetError if it is held."""
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataSetError(f"{out}: another conversion is writing here") from None
    finally:
        os.close(folder)


@contextmanager
def packing(out: Path, shape: tuple[int, int, int] = FRAME_SHAPE) -> Iterator[PackedWriter]:
    """A writer of recordings with frames of that shape, (people, joints, coordinates), into folder `out`, held for it;
    it leaves nothing behind where the block fails. Raises DataSetError if another one holds it."""
    with locked(out):
        writer = PackedWriter(out, shape)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
