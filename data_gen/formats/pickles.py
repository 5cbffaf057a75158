"""Read pickles of other projects without running their code.

A pickle is a program that can import and call anything it names. This module accepts a few names of numpy and imports
none: a `_Named` represents the name, and an `Array` stores what the pickle says about an array. Only this module's own
code converts it to a numpy array.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError

# In memory, text and arrays take their size in the file, tiny objects up to 150 times theirs.
MAX_LABEL_BYTES = 128 * 2**20  # the labels of NTU-120 take up to 68 MB
MAX_ANNOTATION_BYTES = 4 * 2**30  # the annotations of NTU-120 take about 3 GB
_MAX_AXES = 8
_ITEM = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d?")  # numpy's codes of plain numbers and short text
_OBJECTS = ("O", "O4", "O8")
_ADMITTED = ("numpy.dtype", "numpy.ndarray", "_codecs.encode") + tuple(
    f"{core}.{name}"
    for core in ("numpy.core", "numpy._core")  # numpy 1 and 2
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
)


class Refused(ValueError):
    """Say what the pickle holds or requests that is not accepted."""


class _Named:
    """Represent a name in a pickle; each occurrence is a new object. A call returns what the pickle would create, if
    data needs it. Raises Refused otherwise."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state for what has none")

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "numpy.dtype":
            return _DType(arguments[0])
        if self.name == "_codecs.encode":  # Python 3 writes bytes for Python 2 so; keep them as text, as Python 2 does
            if type(arguments[0]) is not str or arguments[1] != "latin1":
                raise Refused(f"bytes encoded by {_quote(arguments[1])}")
            return arguments[0]
        if self.name.endswith("._reconstruct"):
            if type(arguments[0]) is not _Named or arguments[0].name != "numpy.ndarray":
                raise Refused("an array of a class of its own")
            return Array()
        if self.name.endswith("._frombuffer"):
            raw, dtype, shape, order = arguments
            return Array(dtype, shape, raw, order == "F")
        if self.name.endswith(".scalar"):
            dtype, raw = arguments
            if type(dtype) is not _DType or dtype.code in _OBJECTS:
                raise Refused("a number of no known type")
            return Array(dtype, (1,), raw).tolist()[0]
        raise Refused(f"a call of {self.name}")


class _DType:
    """Represent a numpy.dtype: its code (`i8`, `U29`, `O8`) and its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]
        if any(field is not None for field in state[2:5]):
            raise Refused("an array of structures")

    def numpy(self) -> np.dtype:
        if type(self.code) is not str or not _ITEM.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise Refused(f"an array of type {_quote(self.code)}")
        return np.dtype(self.order + self.code)


class Array:
    """Represent a numpy.ndarray: its dtype, shape and bytes, all unchecked."""

    __slots__ = ("dtype", "shape", "raw", "fortran")

    def __init__(self, dtype: Any = None, shape: Any = None, raw: Any = None, fortran: bool = False):
        self.dtype, self.shape, self.raw, self.fortran = dtype, shape, raw, fortran

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def checked(self) -> tuple[np.dtype, tuple[int, ...]]:
        """Return its dtype (numbers or text) and its shape. Raises Refused if one is missing or not accepted."""
        if type(self.dtype) is not _DType or type(self.shape) is not tuple or len(self.shape) > _MAX_AXES:
            raise Refused("an array that has no type, or no shape")
        if not all(type(n) is int and n >= 0 for n in self.shape):
            raise Refused("an array of no known shape")
        return self.dtype.numpy(), self.shape

    def numpy(self) -> np.ndarray:
        """Return the numpy array, a view of the pickle's bytes. Raises ValueError if it is invalid."""
        dtype, shape = self.checked()
        if type(self.raw) not in (str, bytes) or len(self.raw) != math.prod(shape) * dtype.itemsize:
            raise Refused("an array with another number of items than it claims")
        raw = self.raw.encode("latin1") if type(self.raw) is str else self.raw  # Python 2 wrote bytes as text
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if self.fortran is True else "C")

    def tolist(self) -> list:
        """Return its items, bytes as text. Raises Refused if it is not a valid array of one dimension."""
        if type(self.dtype) is not _DType or type(self.shape) is not tuple or len(self.shape) != 1:
            raise Refused("an array that is not of one dimension, or has no type")
        if self.dtype.code in _OBJECTS:
            if type(self.raw) is not list or self.shape != (len(self.raw),):
                raise Refused("an array with another number of items than it claims")
            return self.raw
        array = self.numpy()
        if array.dtype.kind == "U" and array.size and array.view(array.dtype.str[0] + "u4").max() > 127:
            raise Refused("text beyond ASCII")  # it may hold code points that no character has
        items = array.tolist()
        return [item.decode("latin1") for item in items] if array.dtype.kind == "S" else items


class _Unpickler(pickle._Unpickler):
    """Unpickle without running code from the pickle, or hashing its objects.

    The base class is the unpickler written in Python: the one in C allocates memory for any memo index in the pickle.
    """

    stack: list
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list]

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ADMITTED:
            raise Refused(f"it asks for {_quote(f'{module}.{name}')}, which no data needs; nothing of it was run")
        return _Named(f"{module}.{name}")

    def _set(self, items: list) -> None:
        table = self.stack[-1]
        if type(table) is not dict or len(items) % 2:
            raise TypeError("entries of what is no table, or a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str:  # hashing nested tuples can take forever
                raise Refused("a table with a key that is no text")
            table[key] = value

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _make_table(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set(items)

    def _make_set(self) -> None:
        raise Refused("a set, which no data needs")

    def _read_bytes(self) -> None:  # Python's version allocates the memory before it reads
        self.stack.append(self.read(*struct.unpack("<Q", self.read(8))))

    dispatch = pickle._Unpickler.dispatch | {
        pickle.DICT[0]: _make_table,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: lambda self: self._set(self.pop_mark()),
        pickle.EMPTY_SET[0]: _make_set,
        pickle.FROZENSET[0]: _make_set,
        pickle.BYTEARRAY8[0]: _read_bytes,
    }


def load_labels(path: Path) -> tuple[list[str], list[int]]:
    """Read the pickle `(names, labels)` at `path`: lists, tuples or arrays (N,) of strings and integers.

    Runs no code from the file. Raises UserError if the file holds anything else.
    """
    with _loaded(path, MAX_LABEL_BYTES) as pair:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Refused("not a pair (names, labels)")
        names, labels = (_items(part, "the names or labels are no list") for part in pair)
        if len(names) != len(labels):
            raise Refused(f"{len(names)} names and {len(labels)} labels")
        for i, (name, label) in enumerate(zip(names, labels)):
            if type(name) is not str:
                raise Refused(f"name {i} is no text")
            if type(label) is not int or abs(label) >= 2**31:
                raise Refused(f"label {i} is no whole number, or a huge one")
        return list(names), list(labels)


def load_annotations(path: Path) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """Read the pickle `{"split": {name: names}, "annotations": [dict, ...]}` at `path`; return arrays as `Array`.

    Runs no code from the file. Raises UserError if the file holds anything else.
    """
    with _loaded(path, MAX_ANNOTATION_BYTES) as found:
        if type(found) is not dict or not {"split", "annotations"} <= found.keys():
            raise Refused("not a table with split and annotations")
        if type(found["split"]) is not dict:
            raise Refused("split is no table")
        splits = {}
        for side, names in found["split"].items():
            splits[side] = list(_items(names, f"split {_quote(side)} is no list"))
            if not all(type(name) is str for name in splits[side]):
                raise Refused(f"split {_quote(side)} holds what is no text")
        annotations = _items(found["annotations"], "annotations is no list")
        for i, annotation in enumerate(annotations):
            if type(annotation) is not dict:
                raise Refused(f"annotation {i} is no table")
        return splits, list(annotations)


@contextmanager
def _loaded(path: Path, most: int) -> Iterator[Any]:
    """Load the pickle. Raises UserError for every error in it, found here or in the block."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield _Unpickler(mapped, encoding="latin1").load()  # mapped: a read returns no more than the file has
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Refused as refused:
        raise UserError(f"{path}: refused: {refused}") from None
    except Exception as error:  # a damaged pickle can raise nearly any error
        raise UserError(f"{path}: not a sound pickle ({type(error).__name__}: {_quote(str(error))})") from None


def _items(part: Any, otherwise: str) -> list | tuple:
    if type(part) is Array:
        return part.tolist()
    if type(part) not in (list, tuple):
        raise Refused(otherwise)
    return part


def _quote(value: Any) -> str:
    """Quote a value for an error message, in ASCII and short."""
    return ascii(value[:80]) if type(value) is str else f"a {type(value).__name__}"
