"""The packed data set: one copy of every recording, a protocol is a pair of index files.

    joints.npy     float32 (F, 2, 25, 3)   every recording's frames [0, num_frame), end to end
    num_frame.npy  int64 (N,)   label.npy  int64 (N,)   name.npy  text (N,), sorted
    {protocol}_{train,val}.npy  int64 indices into N
    dataset.json   format version, data set, counts, frame rate, how it was made

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_gen.normalise import NUM_PEOPLE
from data_gen.skeleton_file import NUM_JOINTS

FORMAT_VERSION = 1
FRAME_RATE = 30
FRAME_SHAPE = (NUM_PEOPLE, NUM_JOINTS, 3)
INFO = "dataset.json"
SIDES = ("train", "val")
_PARTIAL = ".partial"

# Bounds far above any data set, below what could exhaust memory.
_MAX_RECORDINGS = 10**6
_MAX_NAME = 64
_MAX_CLASSES = 999  # names have three digits for it
_MAX_INFO = 64 * 2**20  # bytes
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_NAME}}}")  # of a recording, protocol or data set; leads to no other folder
# What numpy writes before the values.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[<>|][biufU]\d{1,4})', "
    rb"'fortran_order': False, 'shape': \((?P<shape>\d{1,15}(?:, ?\d{1,15})*,?)\), \} *\n",
    re.DOTALL,
)
_LONGEST_HEADER = 1024
_REMEDY = "convert the recordings again"


class DataSetError(ValueError):
    """A folder that is not a usable packed data set, or cannot become one."""


class PackedDataset:
    """A packed data set opened for reading; `joints` is memory-mapped. Raises DataSetError if damaged."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / INFO).is_file():
            raise DataSetError(f"{self.path} is not a packed data set: it has no {INFO}; see Data in README.md")
        self.info = _read_info(self.path / INFO)
        self.name: str = self.info["dataset"]
        self.num_classes: int = self.info["classes"]
        self.protocols: list[str] = list(self.info["protocols"])
        self.joints = self._load("joints.npy", np.float32, (-1, *FRAME_SHAPE))
        self.num_frame = np.array(self._load("num_frame.npy", np.int64, (-1,)))
        self.label = np.array(self._load("label.npy", np.int64, (len(self),)))
        self.names = np.array(self._load("name.npy", np.str_, (len(self),)))
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
        """One recording's frames: float32 (T, 2, 25, 3)."""
        return self.joints[self.first[index] : self.first[index] + self.num_frame[index]]

    def _load(self, file: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        array = map_array(self.path / file, f"; {_REMEDY}")
        right_shape = array.ndim == len(shape) and all(w in (-1, h) for w, h in zip(shape, array.shape))
        if dtype is np.str_:
            right_type = array.dtype.kind == "U" and 0 < array.itemsize <= 4 * _MAX_NAME
        else:
            right_type = array.dtype == dtype
        if not (right_shape and right_type):
            raise self._damaged(file, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        if len(shape) == 1 and len(array) > _MAX_RECORDINGS:  # read into memory, unlike the joints
            raise self._damaged(file, f"holds {len(array)} values, more than {_MAX_RECORDINGS}")
        return array

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
        if self.names.view(np.uint32).max() > 127:  # perhaps beyond all characters, of which no text can be made
            raise self._damaged("name.npy", "a name has other characters than letters, digits, - and _")
        names = self.names.tolist()
        if not all(map(_NAME.fullmatch, names)):
            wrong = next(name for name in names if not _NAME.fullmatch(name))
            raise self._damaged("name.npy", f"{ascii(wrong)} is not the name of a recording")
        if any(a >= b for a, b in zip(names, names[1:])):
            raise self._damaged("name.npy", "the names do not ascend")
        if not np.isfinite(self._sample()).all():
            raise self._damaged("joints.npy", "holds values that are not finite")
        for protocol in self.protocols:
            train, val = (self.split(protocol, side) for side in SIDES)
            if np.intersect1d(train, val).size:
                raise DataSetError(f"{self.path}: {protocol} has recordings on both sides; {_REMEDY}")

    def _sample(self) -> np.ndarray:
        """Values of 256 frames, evenly spaced. Read, since the mapping would bring in the neighbours of each."""
        assert isinstance(self.joints, np.memmap)  # there are frames
        frames, size = len(self.joints), self.joints[0].nbytes
        chosen = np.linspace(0, frames - 1, min(frames, 256), dtype=np.int64).tolist()
        with open(self.path / "joints.npy", "rb") as file:
            read = [os.pread(file.fileno(), size, self.joints.offset + size * i) for i in chosen]
        return np.frombuffer(b"".join(read), np.float32)

    def _damaged(self, file: str, reason: str) -> DataSetError:
        return DataSetError(f"{self.path / file}: {reason}; {_REMEDY}")


def _read_info(path: Path) -> dict:
    """What dataset.json says, its format and the entries that are used checked. Raises DataSetError."""
    try:
        if path.stat().st_size > _MAX_INFO:
            raise ValueError(f"it is larger than {_MAX_INFO // 2**20} MiB")
        info = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(info, dict) or "format" not in info:
            raise ValueError("it states no format")
        if type(info["format"]) is not int or info["format"] != FORMAT_VERSION:
            raise DataSetError(
                f"{path}: format {ascii(info['format']):.40}, this code reads {FORMAT_VERSION}; {_REMEDY}"
            )
        if not isinstance(info.get("dataset"), str) or not _NAME.fullmatch(info["dataset"]):
            raise ValueError("it names no data set")
        if type(info.get("classes")) is not int or not 1 <= info["classes"] <= _MAX_CLASSES:
            raise ValueError(f"classes is not a whole number from 1 to {_MAX_CLASSES}")
        if not isinstance(info.get("protocols"), dict) or not all(map(_NAME.fullmatch, info["protocols"])):
            raise ValueError("protocols does not map names of protocols")
    except DataSetError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataSetError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
    return info


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


class PackedWriter:
    """Write a packed data set recording by recording, in constant memory; `packing(out)` makes one."""

    def __init__(self, out: Path):
        self.out = out
        self.partial = out / _PARTIAL
        shutil.rmtree(self.partial, ignore_errors=True)  # what a killed conversion left
        self.partial.mkdir(parents=True)
        self._file = open(self.partial / "joints.npy", "wb")
        self._write_header(0)
        self.num_frame: list[int] = []
        self.labels: list[int] = []
        self.names: list[str] = []
        self.without_a_body: list[str] = []

    def add(self, name: str, label: int, people: np.ndarray) -> None:
        """Append a recording, float32 (T, 2, 25, 3). Names must come in ascending order."""
        if self.names and name <= self.names[-1]:
            raise ValueError(f"{name} after {self.names[-1]}: names must ascend")
        self._file.write(np.ascontiguousarray(people, np.float32).data)
        self.num_frame.append(len(people))
        self.labels.append(label)
        self.names.append(name)
        if not people.any():
            self.without_a_body.append(name)

    def counts(self, splits: dict[str, dict[str, list[int]]]) -> dict[str, Any]:
        """What dataset.json says of the recordings that were added."""
        return {
            "recordings": len(self.names),
            "frames": sum(self.num_frame),
            "longest": max(self.num_frame),
            "without_a_body": self.without_a_body,
            "protocols": {name: {side: len(sides[side]) for side in SIDES} for name, sides in splits.items()},
        }

    def finish(self, splits: dict[str, dict[str, list[int]]], info: dict) -> None:
        """Write the rest, then move it all into place, dataset.json last."""
        length = self._file.tell()
        self._file.seek(0)
        self._write_header(sum(self.num_frame))
        if length != self._file.tell() + 4 * sum(self.num_frame) * int(np.prod(FRAME_SHAPE)):
            raise AssertionError("the final header must be as long as the first one")
        self._close()
        arrays = {
            "num_frame": np.array(self.num_frame, np.int64),
            "label": np.array(self.labels, np.int64),
            "name": np.array(self.names, np.str_),
        }
        for protocol, sides in splits.items():
            arrays |= {f"{protocol}_{side}": np.array(sides[side], np.int64) for side in SIDES}
        for stem, array in arrays.items():
            with open(self.partial / f"{stem}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                _flush(file)
        with open(self.partial / INFO, "w") as file:
            json.dump({"format": FORMAT_VERSION, "frame_rate": FRAME_RATE, **info}, file, indent=1)
            _flush(file)
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
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, *FRAME_SHAPE)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _close(self) -> None:
        _flush(self._file)
        self._file.close()


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
def packing(out: Path) -> Iterator[PackedWriter]:
    """A writer into folder `out`, held for it; it leaves nothing behind where the block fails. Raises DataSetError if
    another one holds it."""
    with locked(out):
        writer = PackedWriter(out)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
