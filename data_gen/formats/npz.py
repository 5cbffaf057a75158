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
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, numbered_names, split_by_side
from data_gen.formats.export import check_lengths, staged, write_rows
from data_gen.packed.reader import SPLITS, PackedDataset
from data_gen.raw.recording_files import frame_shape
from data_gen.skeletons import Skeleton
from utils.errors import UserError
from utils.files import reading

_PARTS = {"train": "train", "val": "test"}  # our splits and their names in the archive
_MAX_PEOPLE = 2


def read_npz(path: Path, protocol: str, skeleton: Skeleton) -> Source:
    """Read the archive at `path`, split by `protocol`."""
    entries: list[Entry] = []
    layouts = set()
    with reading(path):
        archive = zipfile.ZipFile(path)
        named = "name_train.npy" in archive.namelist()
        for split, part in _PARTS.items():
            count, num_frame, values = _read_header(archive, part)
            labels, classes = _read_labels(archive, part, count)
            layouts.add((values, classes))
            names, lengths = numbered_names(split, count), [0] * count
            if named:
                names, lengths = _read_names(archive, part, count, num_frame)
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
    rows = {split: _rows(archive, part) for split, part in _PARTS.items()}

    def read(entry: Entry) -> np.ndarray:
        recording = next(rows[entry.split])  # names ascend in each split
        last = int(np.flatnonzero(recording.any(axis=1))[-1:].sum()) + 1  # nobody: one frame of zeros
        length = entry.content or last
        if last > length:
            raise UserError(f"has values after its {length} frames")
        return recording[:length].reshape(length, *shape)

    entries = in_order(entries)
    return Source(
        "npz",
        path,
        skeleton,
        shape,
        entries,
        {protocol: split_by_side(entries)},
        read,
        named=named,
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


def _start(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of a `.npy` file: shape, whether in Fortran's order, dtype."""
    np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file)


def _read_header(archive: zipfile.ZipFile, part: str) -> tuple[int, ...]:
    """Return the shape (N, T, values) of the recordings."""
    with _open(archive, f"x_{part}") as file:
        shape, is_fortran, dtype = _start(file)
    if dtype.kind != "f" or len(shape) != 3 or 0 in shape or is_fortran:
        order = " in Fortran's order" if is_fortran else ""
        raise UserError(f"x_{part} holds {dtype} {shape}{order}, expected float32 (N, T, 150) in C order")
    return shape


def _rows(archive: zipfile.ZipFile, part: str) -> Iterator[np.ndarray]:
    """Read one recording (T, values) after the other; all of them may take more than the memory."""
    with _open(archive, f"x_{part}") as file:
        (count, *shape), _, dtype = _start(file)
        for _ in range(count):
            content = file.read(math.prod(shape) * dtype.itemsize)
            yield np.frombuffer(content, dtype).reshape(shape)


def _read_labels(archive: zipfile.ZipFile, part: str, count: int) -> tuple[list[int], int]:
    """Return labels and the number of classes."""
    onehot = _read_array(archive, f"y_{part}")
    if onehot.ndim != 2 or len(onehot) != count:
        raise UserError(f"y_{part} holds {onehot.dtype} {onehot.shape}, expected one-hot ({count}, classes)")
    is_right = ((onehot == 0) | (onehot == 1)).all(axis=1) & ((onehot == 1).sum(axis=1) == 1)
    if not is_right.all():
        raise UserError(f"recording {is_right.argmin()} of y_{part} is not one-hot: one 1, the others 0")
    return onehot.argmax(axis=1).tolist(), onehot.shape[1]


def _read_names(archive: zipfile.ZipFile, part: str, count: int, longest: int) -> tuple[list[str], list[int]]:
    """Return the names and numbers of frames that this project adds."""
    names, num_frame = _read_array(archive, f"name_{part}"), _read_array(archive, f"num_frame_{part}")
    if names.dtype.kind != "U" or num_frame.dtype.kind not in "iu" or not names.shape == num_frame.shape == (count,):
        raise UserError(f"name_{part} or num_frame_{part} is not text, or integers, ({count},)")
    texts = names.tolist()
    if texts != sorted(texts):
        raise UserError(f"the names in name_{part} do not ascend")
    if num_frame.min() < 1 or num_frame.max() > longest:
        raise UserError(f"num_frame_{part} holds numbers outside 1 to {longest}")
    return texts, num_frame.tolist()


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
