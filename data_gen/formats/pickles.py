"""Read pickles of other projects without running anything of theirs.

A pickle is a program that may import and call whatever it names. Here a few names of numpy's are admitted, and none is
imported: a `_Named` stands for it, and an `Array` keeps what the pickle says of an array, which becomes one of numpy's
only when this module's code asks.
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

from data_gen.packed.info import DataSetError, check_file

# A pickle takes the memory of its text and arrays once, but up to 150 bytes for each byte of tiny objects.
MAX_LABEL_BYTES = 128 * 2**20  # the labels of NTU-120 take up to 68 MB
MAX_ANNOTATION_BYTES = 4 * 2**30  # its annotations some 3 GB
_MAX_AXES = 8
_ITEM = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d?")  # numpy's codes of plain numbers and short text
_OBJECTS = ("O", "O4", "O8")
_ADMITTED = ("numpy.dtype", "numpy.ndarray", "_codecs.encode") + tuple(
    f"{core}.{name}"
    for core in ("numpy.core", "numpy._core")  # numpy 1 and 2
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
)


class Refused(ValueError):
    """What the pickle holds or asks for, in words."""


class _Named:
    """Stands for what a pickle names; there is a new one for each time. Calling it makes what the pickle wants of it,
    as far as data needs that."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state for what has none")

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "numpy.dtype":
            return _DType(arguments[0])
        if self.name == "_codecs.encode":  # how Python 3 writes bytes for Python 2; they stay text, as 2 writes them
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
    """Stands for a numpy.dtype: its code (`i8`, `U29`, `O8`) and its byte order."""

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
    """Stands for a numpy.ndarray: its type, shape and bytes, none of them checked yet."""

    __slots__ = ("dtype", "shape", "raw", "fortran")

    def __init__(self, dtype: Any = None, shape: Any = None, raw: Any = None, fortran: bool = False):
        self.dtype, self.shape, self.raw, self.fortran = dtype, shape, raw, fortran

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def checked(self) -> tuple[np.dtype, tuple[int, ...]]:
        """Its type, of plain numbers or text, and its shape. Raises Refused where it has none."""
        if type(self.dtype) is not _DType or type(self.shape) is not tuple or len(self.shape) > _MAX_AXES:
            raise Refused("an array that has no type, or no shape")
        if not all(type(n) is int and n >= 0 for n in self.shape):
            raise Refused("an array of no known shape")
        return self.dtype.numpy(), self.shape

    def numpy(self) -> np.ndarray:
        """The array, on the pickle's own bytes. Raises ValueError for what is not a sound one."""
        dtype, shape = self.checked()
        if type(self.raw) not in (str, bytes) or len(self.raw) != math.prod(shape) * dtype.itemsize:
            raise Refused("an array with another number of items than it claims")
        raw = self.raw.encode("latin1") if type(self.raw) is str else self.raw  # Python 2 wrote bytes as text
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if self.fortran is True else "C")

    def tolist(self) -> list:
        """Its items; bytes as text. Raises Refused for what is not a sound array of one dimension."""
        if type(self.dtype) is not _DType or type(self.shape) is not tuple or len(self.shape) != 1:
            raise Refused("an array that is not of one dimension, or has no type")
        if self.dtype.code in _OBJECTS:
            if type(self.raw) is not list or self.shape != (len(self.raw),):
                raise Refused("an array with another number of items than it claims")
            return self.raw
        array = self.numpy()
        if array.dtype.kind == "U" and array.size and array.view(array.dtype.str[0] + "u4").max() > 127:
            raise Refused("text beyond ASCII")  # perhaps beyond all characters, of which no text can be made
        items = array.tolist()
        return [item.decode("latin1") for item in items] if array.dtype.kind == "S" else items


class _Unpickler(pickle._Unpickler):
    """Python's unpickler without what could run or hash what a pickle brings.

    It is the one written in Python: that in C makes room for whatever place in its memo a pickle claims.
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
            if type(key) is not str:  # a hash of nested tuples can take for ever
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

    def _read_bytes(self) -> None:  # which Python's would make room for before it has read them
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
    """Read the pickle `(names, labels)` at `path`: lists, tuples or arrays (N,) of text and whole numbers.

    Runs nothing that the file names. Raises DataSetError for anything else.
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
    """Read the pickle `{"split": {name: names}, "annotations": [table, ...]}` at `path`; arrays in it are `Array`s.

    Runs nothing that the file names. Raises DataSetError for anything else.
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
    """Give what the pickle holds; what is wrong with it, here or in the block, becomes a DataSetError."""
    check_file(path, most)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield _Unpickler(mapped, encoding="latin1").load()  # mapped: it gives no more than it has
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror})") from None
    except Refused as refused:
        raise DataSetError(f"{path}: refused: {refused}") from None
    except Exception as error:  # a damaged pickle makes the unpickler raise nearly all there are
        raise DataSetError(f"{path}: not a sound pickle ({type(error).__name__}: {_quote(str(error))})") from None


def _items(part: Any, otherwise: str) -> list | tuple:
    if type(part) is Array:
        return part.tolist()
    if type(part) not in (list, tuple):
        raise Refused(otherwise)
    return part


def _quote(value: Any) -> str:
    """A value as an error shows it, in ASCII and short."""
    return ascii(value[:80]) if type(value) is str else f"a {type(value).__name__}"
