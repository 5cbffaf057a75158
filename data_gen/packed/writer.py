"""Write packed data sets, whole or not at all; packed.py tells their format and reads them."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_gen.packed.info import FORMAT_VERSION, INFO, NAME, SIDES, DataSetError, skeleton_of
from data_gen.packed.reader import FRAME_SHAPE
from data_gen.packed.segments import FILE as SEGMENTS
from data_gen.packed.segments import NO_LABEL, Segment, to_array
from data_gen.skeletons import KINECT_V2

FRAME_RATE = 30
PARTIAL = ".partial"

Splits = dict[str, dict[str, list[int]]]  # of each protocol, the recordings of each side


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
        self._segments: list[Sequence[Segment]] = []  # of long recordings

    def add(self, name: str, label: int, people: np.ndarray) -> None:
        """Append a recording, float32 (T, M, V, C) of the writer's shape. Names must come in ascending order."""
        self._append(name, label, [people])

    def add_long(self, name: str, blocks: Iterable[np.ndarray], segments: Sequence[Segment]) -> int:
        """Append a long recording, which comes in blocks of frames, float32 (T, M, V, C) each; returns its length.

        All recordings of a data set are long, or none.
        """
        self._segments.append(segments)
        return self._append(name, NO_LABEL, blocks)

    def _append(self, name: str, label: int, blocks: Iterable[np.ndarray]) -> int:
        if self.names and name <= self.names[-1]:
            raise ValueError(f"{name} after {self.names[-1]}: names must ascend")
        length, is_empty = 0, True
        for block in blocks:
            if block.shape[1:] != self.shape:
                raise ValueError(f"{name} has the shape {block.shape}, expected (T, {', '.join(map(str, self.shape))})")
            self._file.write(np.ascontiguousarray(block, np.float32).data)
            length += len(block)
            is_empty = is_empty and not block.any()
        self.num_frame.append(length)
        self.labels.append(label)
        self.names.append(name)
        if is_empty:
            self.without_a_body.append(name)
        return length

    def counts(self, splits: Splits, rules: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What dataset.json says of the recordings that were added, and of the rules that made the protocols."""
        return {
            "recordings": len(self.names),
            "frames": sum(self.num_frame),
            "longest": max(self.num_frame),
            "without_a_body": self.without_a_body,
            "protocols": describe(splits, rules or {}),
            **({"segments": sum(map(len, self._segments))} if self._segments else {}),
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
        if self._segments:
            arrays[Path(SEGMENTS).stem] = to_array(self._segments)
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
    """Hold folder `out` for one conversion; the lock goes with the process. It is made where there is none, and goes
    again if it stays empty. Raises DataSetError if it is held."""
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataSetError(f"{out}: another conversion is writing here") from None
    finally:
        os.close(folder)
        if is_new:
            with suppress(OSError):  # it is not empty
                out.rmdir()


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
