"""Read the headers of `.npy` arrays, which may be damaged or made to do harm."""

from __future__ import annotations

import math
import warnings
from typing import IO, NamedTuple

import numpy as np

_MAX_AXES = 8


class Header(NamedTuple):
    """Hold the header of a `.npy` array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Return the size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, values: bytes | memoryview) -> np.ndarray:
        """Return the array whose values these bytes are, without a copy."""
        return np.frombuffer(values, self.dtype).reshape(self.shape, order="F" if self.fortran else "C")


def read_header(file: IO[bytes], size: int) -> Header:
    """Read a header at the file's start; the whole file has `size` bytes. Raises ValueError if the header is invalid,
    tells of another size, or of an array of objects."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of headers written by Python 2
            if np.lib.format.read_magic(file) != (1, 0):  # a header of another version may claim gigabytes
                raise ValueError("not version 1.0")
            header = Header(*np.lib.format.read_array_header_1_0(file))
    except OSError:
        raise
    except Exception as error:  # the header is Python text; a damaged one can raise nearly any error
        raise ValueError(f"no sound header of an array: {ascii(str(error))[1:-1]:.200}") from None
    if header.dtype.hasobject:
        raise ValueError(f"an array of {header.dtype}")
    if len(header.shape) > _MAX_AXES or any(n < 0 for n in header.shape):
        raise ValueError("an array of no known shape")
    found = size - file.tell()
    if header.size != found:
        raise ValueError(f"its header tells of {header.size} bytes of {header.dtype}, it has {found}")
    return header
