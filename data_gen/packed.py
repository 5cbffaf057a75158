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
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_gen.normalise import NUM_PEOPLE
from data_gen.skeleton_file import NUM_JOINTS

FORMAT_VERSION = 1
FRAME_RATE = 30
FRAME_SHAPE = (NUM_PEOPLE, NUM_JOINTS, 3)
INFO = "dataset.json"
SIDES = ("train", "val")
_PARTIAL = ".partial"


class DataSetError(ValueError):
    """A folder that is not a usable packed data set, or cannot become one."""


class PackedDataset:
    """A packed data set opened for reading; `joints` is memory-mapped. Raises DataSetError if damaged."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / INFO).is_file():
            raise DataSetError(f"{self.path} is not a packed data set: it has no {INFO}; see data_gen/ntu_gendata.py")
        try:
            self.info = json.loads((self.path / INFO).read_text())
            if self.info["format"] != FORMAT_VERSION:
                raise DataSetError(f"{self.path}: format {self.info['format']}, this code reads {FORMAT_VERSION}")
            self.name = str(self.info["dataset"])
            self.num_classes = int(self.info["classes"])
            self.protocols: list[str] = list(self.info["protocols"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path / INFO, error) from error
        self.joints = self._load("joints.npy", np.float32, (-1, *FRAME_SHAPE), mmap=True)
        self.num_frame = self._load("num_frame.npy", np.int64, (-1,))
        self.label = self._load("label.npy", np.int64, (len(self.num_frame),))
        self.names = self._load("name.npy", np.str_, (len(self.num_frame),))
        self.first = np.cumsum(self.num_frame) - self.num_frame
        self._check()

    def __len__(self) -> int:
        return len(self.num_frame)

    def split(self, protocol: str, side: str) -> np.ndarray:
        """Indices (int64) of one side, `train` or `val`, of a protocol's short name."""
        if protocol not in self.protocols:
            raise DataSetError(f"{self.path} has no protocol {protocol!r}; it has {', '.join(self.protocols)}")
        file = f"{protocol}_{side}.npy"
        indices = self._load(file, np.int64, (-1,))
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise DataSetError(f"{self.path / file}: an index lies outside the {len(self)} recordings")
        return indices

    def recording(self, index: int) -> np.ndarray:
        """One recording's frames: float32 (T, 2, 25, 3)."""
        return self.joints[self.first[index] : self.first[index] + self.num_frame[index]]

    def _load(self, file: str, dtype: type, shape: tuple[int, ...], mmap: bool = False) -> np.ndarray:
        path = self.path / file
        try:
            array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(path, error) from error
        right_shape = array.ndim == len(shape) and all(w in (-1, h) for w, h in zip(shape, array.shape))
        right_type = array.dtype.kind == "U" if dtype is np.str_ else array.dtype == dtype
        if not (right_shape and right_type):
            raise DataSetError(f"{path}: holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        return array

    def _check(self) -> None:
        """Contents that the rest of the code relies on; finite values are sampled, the file may be large."""
        if len(self) == 0:
            raise DataSetError(f"{self.path}: no recordings")
        if self.num_frame.min() < 1 or self.num_frame.sum() != len(self.joints):
            raise DataSetError(
                f"{self.path}: num_frame.npy adds up to {self.num_frame.sum()} frames, "
                f"joints.npy has {len(self.joints)}"
            )
        if self.label.min() < 0 or self.label.max() >= self.num_classes:
            raise DataSetError(f"{self.path / 'label.npy'}: a label lies outside 0..{self.num_classes - 1}")
        sample = np.linspace(0, len(self.joints) - 1, min(len(self.joints), 256), dtype=np.int64)
        if not np.isfinite(self.joints[sample]).all():
            raise DataSetError(f"{self.path / 'joints.npy'}: holds values that are not finite")
        for protocol in self.protocols:
            train, val = (self.split(protocol, side) for side in SIDES)
            if np.intersect1d(train, val).size:
                raise DataSetError(f"{self.path}: {protocol} has recordings on both sides")


def _damaged(path: Path, error: Exception) -> DataSetError:
    if isinstance(error, DataSetError):
        return error
    return DataSetError(f"{path}: cannot be read ({type(error).__name__}: {error})")


class PackedWriter:
    """Write a packed data set recording by recording, in constant memory; `with locked(out): ...` around it."""

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

    def add(self, name: str, label: int, people: np.ndarray) -> None:
        """Append a recording, float32 (T, 2, 25, 3). Names must come in ascending order."""
        if self.names and name <= self.names[-1]:
            raise ValueError(f"{name} after {self.names[-1]}: names must ascend")
        self._file.write(np.ascontiguousarray(people, np.float32).data)
        self.num_frame.append(len(people))
        self.labels.append(label)
        self.names.append(name)

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


def _flush(file) -> None:
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
