"""What stands for the things that a pickle names: each keeps what it is given, and does nothing.

Arrays are made of it afterwards, by this code.
"""

from __future__ import annotations

import math
import mmap
import re
from typing import Any

import numpy as np

_MAX_ITEM = 256  # bytes of an array's item: a name of 64 characters
_MAX_AXES = 8
_ITEM = re.compile(r"[biufSU][1-9]\d{0,3}")


class Refused(Exception):
    """What the pickle holds or wants, in words."""


class Stored:
    """Long text (with its encoding) or bytes (without), where they lie in the file."""

    __slots__ = ("file", "start", "size", "encoding")

    def __init__(self, file: mmap.mmap, start: int, size: int, encoding: str | None):
        self.file, self.start, self.size, self.encoding = file, start, size, encoding

    def read(self) -> str | bytes:
        raw = self.file[self.start : self.start + self.size]
        return raw.decode(self.encoding, "surrogatepass") if self.encoding else raw


class DType:
    """Stands for a numpy.dtype: its code (`i8`, `U29`, `O8`) and, from its state, its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        if type(state) is not tuple or not 5 <= len(state) <= 9:  # bounded, since it may come again and again
            raise Refused("a type of no known form")
        self.order = state[1]
        if any(field is not None for field in state[2:5]):
            raise Refused("an array of structures")

    @property
    def is_object(self) -> bool:
        return type(self.code) is str and self.code in ("O", "O4", "O8")

    def numpy(self) -> np.dtype:
        """The type itself, of plain numbers or text. Raises Refused, TypeError."""
        if type(self.code) is not str or not _ITEM.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise Refused(f"an array of type {quote(self.code)}")
        dtype = np.dtype(self.order + self.code)
        if dtype.itemsize > _MAX_ITEM:
            raise Refused(f"an array with items of {dtype.itemsize} bytes")
        return dtype


class Array:
    """Stands for a numpy.ndarray: keeps its state, which nothing is made of before it is asked for."""

    __slots__ = ("dtype", "shape", "raw", "fortran")

    def __init__(self, dtype: Any = None, shape: Any = None, raw: Any = None, fortran: bool = False):
        self.dtype, self.shape, self.raw, self.fortran = dtype, shape, raw, fortran

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        self.fortran = fortran is True

    def checked_shape(self) -> tuple[int, ...]:
        """Its shape. Raises Refused where it is none."""
        if type(self.shape) is not tuple or len(self.shape) > _MAX_AXES:
            raise Refused("an array that has no type, or no shape")
        if not all(type(n) is int and n >= 0 for n in self.shape):
            raise Refused("an array of no known shape")
        return self.shape

    def kind(self) -> str:
        """What its items are, by numpy's letter. Raises Refused where it has no plain type."""
        if type(self.dtype) is not DType:
            raise Refused("an array that has no type, or no shape")
        return self.dtype.numpy().kind

    def numpy(self) -> np.ndarray:
        """The array, of plain numbers or text. Raises Refused for what is not a sound one."""
        if type(self.dtype) is not DType:
            raise Refused("an array that has no type, or no shape")
        dtype, shape = self.dtype.numpy(), self.checked_shape()
        raw, size = self.raw, math.prod(shape) * dtype.itemsize
        if type(raw) is Stored and raw.size <= (2 * size if raw.encoding else size):  # the others are not even read
            raw = raw.read()
        if type(raw) not in (str, bytes, bytearray) or len(raw) != size:
            raise Refused("an array with another number of items than it claims")
        if isinstance(raw, str):
            raw = raw.encode("latin1")  # Python 2 wrote bytes as text
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if self.fortran else "C")

    def tolist(self) -> list:
        """Its items; bytes as text. Raises Refused for what is not a sound array of one dimension."""
        if type(self.dtype) is not DType or type(self.shape) is not tuple or len(self.shape) != 1:
            raise Refused("an array that is not of one dimension, or has no type")
        if self.dtype.is_object:
            if type(self.raw) is not list or self.shape != (len(self.raw),):
                raise Refused("an array with another number of items than it claims")
            return self.raw
        array = self.numpy()
        if array.dtype.kind == "U" and array.size and array.view(array.dtype.str[0] + "u4").max() > 127:
            raise Refused("text beyond ASCII")  # perhaps beyond all characters, of which no text can be made
        items = array.tolist()
        return [item.decode("latin1") for item in items] if array.dtype.kind == "S" else items


_NDARRAY = object()


# No `*arguments` in these: as many as there are would be copied, at every call.
def _dtype(code: Any, align: Any = None, copy: Any = None) -> DType:
    return DType(code)


def _reconstruct(subtype: Any, shape: Any, code: Any) -> Array:
    if subtype is not _NDARRAY:
        raise Refused("an array of a class of its own")
    return Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any = None, axis_order: Any = None) -> Array:
    if axis_order is not None:
        raise Refused("an array with its axes in an order of their own")
    return Array(dtype, shape, raw, order == "F")


def _scalar(dtype: Any, raw: Any) -> Any:
    if type(dtype) is not DType or dtype.is_object:
        raise Refused("a number of no known type")
    return Array(dtype, (1,), raw).tolist()[0]


def _encode(text: Any, codec: Any) -> str | Stored:
    # How Python 3 writes bytes for Python 2. They stay text, as Python 2 writes them itself.
    if type(text) not in (str, Stored) or codec != "latin1":
        raise Refused(f"bytes encoded by {quote(codec)}")
    return text


ADMITTED: dict[str, Any] = {"numpy dtype": _dtype, "numpy ndarray": _NDARRAY, "_codecs encode": _encode}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    ADMITTED[f"{_core}.multiarray _reconstruct"] = _reconstruct
    ADMITTED[f"{_core}.multiarray scalar"] = _scalar
    ADMITTED[f"{_core}.numeric _frombuffer"] = _frombuffer


def quote(value: Any) -> str:
    """A value as an error shows it, in ASCII and short."""
    return ascii(value[:80]) if type(value) is str else f"a {type(value).__name__}"
