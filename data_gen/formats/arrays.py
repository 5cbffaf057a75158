"""Arrays that others saved as `.npy`: any layout, nothing taken for true that the file does not bear out."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from data_gen.packed.reader import DataSetError
from data_gen.raw.number_lines import too_large
from data_gen.raw.skeleton_file import MAX_BYTES

_MAX_AXES = 8


class Header(NamedTuple):
    """What stands before an array's values."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """The header that `file` stands at. Raises ValueError for one that is none, or of an array of objects."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote it
            version = np.lib.format.read_magic(file)
            if version != (1, 0):  # a header of another version may claim gigabytes
                raise ValueError
            header = Header(*np.lib.format.read_array_header_1_0(file))
    except OSError:
        raise
    except Exception as error:  # it is Python's text, and of a damaged one all sorts of things are said
        raise ValueError(f"no sound header of an array: {type(error).__name__}") from None
    if header.dtype.hasobject or header.dtype.kind not in "biufSU" or header.dtype.itemsize == 0:
        raise ValueError(f"an array of {header.dtype}")
    if len(header.shape) > _MAX_AXES or any(n < 0 for n in header.shape):
        raise ValueError("an array of no known shape")
    return header


def open_header(path: Path) -> Header:
    """The header of a `.npy` recording, after a look at the file's size. Raises DataSetError."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("no such file" if not path.exists() else "not a regular file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(str(too_large(MAX_BYTES)))
        with open(path, "rb") as file:
            header = read_header(file)
            if size - file.tell() != header.size:
                raise ValueError(f"its header tells of {header.size} bytes, it has {size - file.tell()}")
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path}: cannot be read ({error})") from None
    return header


def read_recording(path: Path) -> np.ndarray:
    """The array in a `.npy` recording. Raises DataSetError."""
    header = open_header(path)
    with open(path, "rb") as file:
        file.seek(path.stat().st_size - header.size)
        values = np.frombuffer(file.read(header.size), header.dtype)
    return values.reshape(header.shape, order="F" if header.fortran else "C")
