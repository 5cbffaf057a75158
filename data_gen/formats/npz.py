"""Read and write the archive of CTR-GCN, InfoGCN and MAMP: one `.npz` file per protocol, with

x_train  x_test   float32 (N, T, 150)   normalised; 75 values of person 1 (x y z per joint), then 75 of person 2;
                                        zeros after the recording's last frame
y_train  y_test   (N, classes)          one-hot

This project's archives also hold {name,num_frame}_{train,test}, which other projects ignore. They preserve the names
of the recordings, and zero frames at their end.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, numbered_names
from data_gen.formats.export import check_lengths, staged, write_rows
from data_gen.packed.reader import SPLITS, PackedDataset
from data_gen.packed.writer import by_split
from data_gen.raw.recording_files import frame_shape
from data_gen.skeletons import Skeleton
from utils.errors import UserError
from utils.files import reading

_PARTS = {"train": "train", "val": "test"}  # our splits and their names in the archive
_MAX_PEOPLE = 2


class _Rows(NamedTuple):
    """The recordings of one split, at the next one: all of them may take more than the memory."""

    file: IO[bytes]
    shape: tuple[int, int, int]  # N, T, values
    dtype: np.dtype

    def read_next(self) -> np.ndarray:
        content = self.file.read(math.prod(self.shape[1:]) * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype).reshape(self.shape[1:])


def read_npz(path: Path, protocol: str, skeleton: Skeleton) -> Source:
    """Read the archive at `path`, split by `protocol`."""
    entries: list[Entry] = []
    rows: dict[str, _Rows] = {}
    layouts = set()
    with reading(path):
        archive = zipfile.ZipFile(path)
        for split, part in _PARTS.items():
            rows[split] = _open_rows(archive, part)
            count, _, values = rows[split].shape
            labels, classes = _read_labels(archive, part, count)
            layouts.add((values, classes))
            names, lengths = _read_names(archive, part, count) or (numbered_names(split, count), [0] * count)
            for row, (name, label, length) in enumerate(zip(names, labels, lengths)):
                entries.append(Entry(name, label, path, f"{path}: recording {row} of x_{part} ({name})", length, split))
        if len(layouts) > 1:
            raise UserError(f"train and test differ in values per frame or in classes: {sorted(layouts)}")
        shape = frame_shape(values, skeleton)
        if not shape:
            raise UserError(
                f"{values} values per frame do not fit one or two people with the {len(skeleton.joints)} joints of "
                f"{skeleton.name}; see --skeleton"
            )

    def read(entry: Entry) -> np.ndarray:
        recording = rows[entry.split].read_next()  # names ascend in each split
        last = int(np.flatnonzero(recording.any(axis=1))[-1:].sum()) + 1  # nobody: one frame of zeros
        length = entry.content or last
        if not last <= length <= len(recording):
            raise UserError(f"has {last} frames, by num_frame {length}")
        return recording[:length].reshape(length, *shape)

    entries = in_order(entries)
    return Source(
        "npz",
        path,
        skeleton,
        shape,
        entries,
        {protocol: by_split(entry.split for entry in entries)},
        read,
        named="name_train.npy" in archive.namelist(),
        every_frame=False,
        made={"protocol": protocol},
        classes=classes,
    )


def _open(archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    if f"{member}.npy" not in archive.namelist():
        raise UserError(f"has no {member}; an archive holds x_train, y_train, x_test and y_test")
    return archive.open(f"{member}.npy")


def _read_array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with _open(archive, member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _open_rows(archive: zipfile.ZipFile, part: str) -> _Rows:
    file = _open(archive, f"x_{part}")
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind != "f" or len(shape) != 3 or 0 in shape or is_fortran:
        order = " in Fortran's order" if is_fortran else ""
        raise UserError(f"x_{part} holds {dtype} {shape}{order}, expected float32 (N, T, 150) in C order")
    return _Rows(file, shape, dtype)


def _read_labels(archive: zipfile.ZipFile, part: str, count: int) -> tuple[list[int], int]:
    """Return labels and the number of classes."""
    onehot = _read_array(archive, f"y_{part}")
    if onehot.ndim != 2 or len(onehot) != count:
        raise UserError(f"y_{part} holds {onehot.dtype} {onehot.shape}, expected one-hot ({count}, classes)")
    is_right = ((onehot == 0) | (onehot == 1)).all(axis=1) & ((onehot == 1).sum(axis=1) == 1)
    if not is_right.all():
        raise UserError(f"recording {is_right.argmin()} of y_{part} is not one-hot: one 1, the others 0")
    return onehot.argmax(axis=1).tolist(), onehot.shape[1]


def _read_names(archive: zipfile.ZipFile, part: str, count: int) -> tuple[list[str], list[int]] | None:
    """Return the names and numbers of frames that this project adds; None if there are none."""
    if f"name_{part}.npy" not in archive.namelist():
        return None
    names, num_frame = (_read_array(archive, f"{key}_{part}").tolist() for key in ("name", "num_frame"))
    if not len(names) == len(num_frame) == count or names != sorted(names):
        raise UserError(f"name_{part} and num_frame_{part} are not of {count} recordings whose names ascend")
    return names, num_frame


def export_npz(packed: PackedDataset, protocol: str, num_frame: int, out: Path) -> list[Path]:
    """Write a protocol as the archive `out`, padded with zeros to `num_frame` frames. Return [out]."""
    if packed.shape[0] > _MAX_PEOPLE:
        raise UserError(f"{packed.path}: frames have {packed.shape[0]} people, this format has up to {_MAX_PEOPLE}")
    indices = {split: np.sort(check_lengths(packed, protocol, split, num_frame)) for split in SPLITS}
    values = math.prod(packed.shape)
    with staged(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        for split, part in _PARTS.items():
            rows = indices[split]
            with archive.open(f"x_{part}.npy", "w", force_zip64=True) as file:
                clips = (packed.recording(i).reshape(-1, values) for i in rows)
                padded = (np.pad(clip, ((0, num_frame - len(clip)), (0, 0))) for clip in clips)
                write_rows(file, (len(rows), num_frame, values), padded)
            onehot = np.eye(packed.num_classes, dtype=np.float32)[packed.label[rows]]
            small = {"y": onehot, "name": packed.names[rows], "num_frame": packed.num_frame[rows]}
            for name, array in small.items():
                with archive.open(f"{name}_{part}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
    return [out]
