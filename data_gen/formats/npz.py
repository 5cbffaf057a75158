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
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, sides_of
from data_gen.formats.export import check_lengths, staged
from data_gen.packed.reader import SIDES, PackedDataset
from data_gen.raw.recording_files import frame_shape
from data_gen.skeletons import Skeleton
from utils.errors import UserError


class Header(NamedTuple):
    """The header of a `.npy` array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, values: bytes) -> np.ndarray:
        """Return the array with these values."""
        return np.frombuffer(values, self.dtype).reshape(self.shape, order="F" if self.fortran else "C")


def read_header(file: IO[bytes], size: int) -> Header:
    """Read a header at the start of a file of `size` bytes."""
    np.lib.format.read_magic(file)
    header = Header(*np.lib.format.read_array_header_1_0(file))
    if header.size != size - file.tell():
        raise ValueError(f"its header claims {header.size} bytes, it has {size - file.tell()}")
    return header


_PARTS = {"train": "train", "val": "test"}  # our sides and their names in the archive
_MAX_SMALL = 512 * 2**20  # bytes; for members read as a whole: labels, names, numbers of frames
_MAX_PEOPLE = 2


def read_npz(path: Path, protocol: str, skeleton: Skeleton) -> Source:
    """Read the archive at `path`, split by `protocol`. Raises UserError if its contents are invalid."""
    archive = _Archive(path)
    entries: list[Entry] = []
    headers, classes = {}, set()
    named = f"name_{_PARTS['train']}" in archive.members
    for side, part in _PARTS.items():
        headers[side] = archive.header(f"x_{part}")
        _check_header(path, part, headers[side])
        count = headers[side].shape[0]
        labels, num_classes = _labels(path, part, archive.whole(f"y_{part}"), count)
        classes.add(num_classes)
        names, frames = _extras(archive, part, count) if named else ([f"{side}_{i:06d}" for i in range(count)], None)
        for row, (name, label) in enumerate(zip(names, labels)):
            called = f"recording {row} of x_{part} ({name})"
            entries.append(Entry(name, label, path, path, called, frames[row] if frames else None, side))
    if len(classes) > 1 or len({header.shape[2] for header in headers.values()}) > 1:
        raise UserError(f"{path}: train and test have other values a frame, or other numbers of classes")
    values = headers["train"].shape[2]
    shape = frame_shape(values, skeleton)
    if not shape:
        raise UserError(
            f"{path}: {values} values a frame are not those of one or two people of the {len(skeleton.joints)} joints "
            f"of {skeleton.name}; see --skeleton"
        )
    streams = {side: archive.rows(f"x_{part}") for side, part in _PARTS.items()}

    def read(entry: Entry) -> np.ndarray:
        recording = next(streams[entry.side])  # names ascend on each side
        last = np.flatnonzero((recording != 0).any(axis=1))[-1:] + 1  # nan differs from zero too
        length = entry.content or int(last[0] if len(last) else 1)  # no body: one frame of zeros
        if len(last) and last[0] > length:
            raise UserError(f"{entry.where} has values after its {length} frames")
        return recording[:length].reshape(length, *shape)

    entries = in_order(entries)
    return Source(
        "npz",
        path,
        skeleton,
        shape,
        entries,
        {protocol: sides_of(entries)},
        read,
        named=named,
        every_frame=False,
        made={"protocol": protocol},
        classes=classes.pop(),
    )


class _Archive:
    """Read the members of a `.npz` file: large ones row by row, in one pass, small ones as a whole."""

    def __init__(self, path: Path):
        self.path = path
        with self._errors():
            self._zip = zipfile.ZipFile(path)
            entries = self._zip.infolist()
            self.members = {entry.filename.removesuffix(".npy"): entry for entry in entries}
            if len(self.members) < len(entries):
                raise ValueError("two members have one name")

    @contextmanager
    def _errors(self, member: str = "") -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{self.path}: {member}{': ' * bool(member)}cannot be read ({reason})") from None

    @contextmanager
    def _open(self, member: str) -> Iterator[tuple[IO[bytes], Header]]:
        if member not in self.members:
            found = ", ".join(sorted(self.members)[:10])
            raise UserError(f"{self.path}: has no {member}; it holds {found or 'nothing'}")
        entry = self.members[member]
        with self._errors(member):
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("compressed by another method than deflate")
            with self._zip.open(entry) as file:
                header = read_header(file, entry.file_size)
                if header.dtype.kind not in "biufSU" or header.dtype.itemsize == 0:
                    raise ValueError(f"an array of {header.dtype}")
                yield file, header

    def header(self, member: str) -> Header:
        """Read a member's header. Raises UserError if it is missing or invalid."""
        with self._open(member) as (_, header):
            return header

    def whole(self, member: str) -> np.ndarray:
        """Read a whole member. Raises UserError if it is missing, invalid or larger than 512 MiB."""
        with self._open(member) as (file, header):
            if header.size > _MAX_SMALL:
                raise ValueError(f"larger than {_MAX_SMALL // 2**20} MiB")
            values = _read(file, header.size)
            _read(file, 0)
            return header.array(values)

    def rows(self, member: str) -> Iterator[np.ndarray]:
        """Iterate over the rows (T, ...) of a member. Raises UserError if it is missing or invalid."""
        with self._open(member) as (file, header):
            size = header.size // max(header.shape[0], 1)
            for left in reversed(range(header.shape[0])):
                row = np.frombuffer(_read(file, size), header.dtype).reshape(header.shape[1:])
                if not left:
                    _read(file, 0)
                yield row


def _read(file: IO[bytes], size: int) -> bytes:
    """Read exactly `size` bytes; with size 0, check that the file ends here (zipfile then verifies the checksum).
    Raises EOFError if there are fewer or more."""
    content = file.read(size or 1)
    if len(content) != size:
        raise EOFError(f"{size} bytes should stand there, {len(content)} do")
    return content


def _check_header(path: Path, part: str, header: Header) -> None:
    shape = header.shape
    if header.dtype.kind != "f" or len(shape) != 3:
        raise UserError(f"{path}: x_{part} holds {header.dtype} {shape}, expected float32 (N, T, 150)")
    if not shape[0]:
        raise UserError(f"{path}: x_{part} holds no recordings")
    if not shape[1]:
        raise UserError(f"{path}: x_{part} has no frames")
    if header.fortran:
        raise UserError(f"{path}: x_{part} is in Fortran's order; save np.ascontiguousarray(x_{part})")


def _labels(path: Path, part: str, onehot: np.ndarray, count: int) -> tuple[list[int], int]:
    """Return labels and the number of classes. Raises UserError if `onehot` is not one-hot (count, classes)."""
    if onehot.ndim != 2 or onehot.dtype.kind not in "biuf" or onehot.shape[0] != count or not onehot.shape[1]:
        raise UserError(f"{path}: y_{part} holds {onehot.dtype} {onehot.shape}, expected one-hot ({count}, classes)")
    right = ((onehot == 0) | (onehot == 1)).all(axis=1) & ((onehot == 1).sum(axis=1) == 1)
    if not right.all():
        raise UserError(f"{path}: recording {right.argmin()} of y_{part} is not one-hot: one 1, the others 0")
    return onehot.argmax(axis=1).tolist(), onehot.shape[1]


def _extras(archive: _Archive, part: str, count: int) -> tuple[list[str], list[int]]:
    """Read the names and numbers of frames that this project adds. Raises UserError if they are invalid."""
    names, frames = (archive.whole(f"{what}_{part}") for what in ("name", "num_frame"))
    if names.dtype.kind != "U" or frames.dtype.kind not in "iu" or not names.shape == frames.shape == (count,):
        raise UserError(f"{archive.path}: name_{part} or num_frame_{part} is not text, or integers, ({count},)")
    if names.size and names.astype(names.dtype.newbyteorder("=")).view(np.uint32).max() > 127:
        raise UserError(f"{archive.path}: name_{part} holds text beyond ASCII")
    texts, length = names.tolist(), archive.header(f"x_{part}").shape[1]
    if texts != sorted(texts):
        raise UserError(f"{archive.path}: the names in name_{part} do not ascend")
    if frames.min() < 1 or frames.max() > length:
        raise UserError(f"{archive.path}: num_frame_{part} holds numbers outside 1 to {length}")
    return texts, frames.tolist()


def export_npz(packed: PackedDataset, protocol: str, num_frame: int, out: Path) -> list[Path]:
    """Write a protocol as the archive `out`, padded with zeros to `num_frame` frames. Return [out]. Raises
    UserError if a recording is longer, a side is empty, or frames have more than two people."""
    if packed.shape[0] > _MAX_PEOPLE:
        raise UserError(f"{packed.path}: frames have {packed.shape[0]} people, this format has up to {_MAX_PEOPLE}")
    indices = {side: np.sort(check_lengths(packed, protocol, side, num_frame)) for side in SIDES}
    values = int(np.prod(packed.shape))
    with staged(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        for side, part in _PARTS.items():
            chosen = indices[side]
            with archive.open(f"x_{part}.npy", "w", force_zip64=True) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(chosen), num_frame, values)}
                np.lib.format.write_array_header_1_0(file, header)
                for index in chosen:
                    row = np.zeros((num_frame, values), "<f4")
                    clip = packed.recording(index)
                    row[: len(clip)] = clip.reshape(len(clip), values)
                    file.write(row.data)
            onehot = np.eye(packed.num_classes, dtype=np.float32)[packed.label[chosen]]
            small = {"y": onehot, "name": packed.names[chosen], "num_frame": packed.num_frame[chosen]}
            for what, array in small.items():
                with archive.open(f"{what}_{part}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
    return [out]
