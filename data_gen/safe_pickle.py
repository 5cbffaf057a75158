"""Label pickles of other projects, read without running anything of theirs.

A pickle is a program. It does harm through what it fetches by name, and through what it makes the machine that runs
it allocate. Here it fetches nothing but stand-ins defined in this file, which only keep what they are given; arrays
are made of it afterwards, by this code. Before it runs, its operations are looked through, and what labels do not
need is refused: other ways of making objects, tables and sets (a hash of nested tuples can take for ever), places in
the memo that are not there (the machine would make room for all up to them).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.packed import DataSetError

# The labels of NTU-120 take up to 68 MB (arrays in protocol 0) and 2.3 million operations (a list of numpy's numbers).
# An operation takes some hundred bytes of memory at most.
MAX_BYTES = 128 * 2**20
MAX_OPERATIONS = 6_000_000
_MAX_ITEM = 256  # bytes of an array's item: a name of 64 characters
_ITEM = re.compile(r"[biufSU][1-9]\d{0,3}")
_OPERATIONS = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)


class _Refused(Exception):
    """What the pickle holds or wants, in words."""


class _DType:
    """Stands for a numpy.dtype: its code (`i8`, `U29`, `O8`) and, from its state, its byte order."""

    def __init__(self, code: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        if type(state) is not tuple or not 5 <= len(state) <= 9:  # bounded, since it may come again and again
            raise _Refused("a type of no known form")
        self.order = state[1]
        if any(field is not None for field in state[2:5]):
            raise _Refused("an array of structures")

    @property
    def is_object(self) -> bool:
        return type(self.code) is str and self.code in ("O", "O4", "O8")

    def numpy(self) -> np.dtype:
        """The type itself, of plain numbers or text. Raises _Refused, TypeError."""
        if type(self.code) is not str or not _ITEM.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise _Refused(f"an array of type {_quote(self.code)}")
        dtype = np.dtype(self.order + self.code)
        if dtype.itemsize > _MAX_ITEM:
            raise _Refused(f"an array with items of {dtype.itemsize} bytes")
        return dtype


class _Array:
    """Stands for a numpy.ndarray: keeps its state, which nothing is made of before `tolist`."""

    def __init__(self, dtype: Any = None, shape: Any = None, raw: Any = None):
        self.dtype, self.shape, self.raw = dtype, shape, raw

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, _, self.raw = state

    def tolist(self) -> list:
        """Its items; bytes as text. Raises _Refused for what is not a sound array of one dimension."""
        if type(self.dtype) is not _DType or type(self.shape) is not tuple or len(self.shape) != 1:
            raise _Refused("an array that is not of one dimension, or has no type")
        if self.dtype.is_object:
            if type(self.raw) is not list or self.shape != (len(self.raw),):
                raise _Refused("an array with another number of items than it claims")
            return self.raw
        dtype = self.dtype.numpy()
        if type(self.raw) not in (str, bytes, bytearray) or self.shape != (len(self.raw) / dtype.itemsize,):
            raise _Refused("an array with another number of items than it claims")
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw  # Python 2 wrote bytes as text
        array = np.frombuffer(raw, dtype)
        if dtype.kind == "U" and array.size and array.view(dtype.str[0] + "u4").max() > 127:
            raise _Refused("text beyond ASCII")  # perhaps beyond all characters, of which no text can be made
        items = array.tolist()
        return [item.decode("latin1") for item in items] if dtype.kind == "S" else items


_NDARRAY = object()


# No `*arguments` in these: as many as there are would be copied, at every call.
def _dtype(code: Any, align: Any = None, copy: Any = None) -> _DType:
    return _DType(code)


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise _Refused("an array of a class of its own")
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any = None, axis_order: Any = None) -> _Array:
    return _Array(dtype, shape, raw)


def _scalar(dtype: Any, raw: Any) -> Any:
    if type(dtype) is not _DType or dtype.is_object:
        raise _Refused("a number of no known type")
    return _Array(dtype, (1,), raw).tolist()[0]


def _encode(text: Any, codec: Any) -> str:
    # How Python 3 writes bytes for Python 2. They stay text, as Python 2 writes them itself.
    if type(text) is not str or codec != "latin1":
        raise _Refused(f"bytes encoded by {_quote(codec)}")
    return text


_ADMITTED: dict[str, Any] = {"numpy dtype": _dtype, "numpy ndarray": _NDARRAY, "_codecs encode": _encode}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ADMITTED[f"{_core}.multiarray _reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric _frombuffer"] = _frombuffer


def _admit(name: str) -> Any:
    """The stand-in for `module name`. Raises _Refused where there is none."""
    if name not in _ADMITTED:
        raise _Refused(f"it asks for {_quote(name.replace(' ', '.'))}, which no labels need; nothing of it was run")
    return _ADMITTED[name]


class _Unpickler(pickle.Unpickler):
    """Fetches stand-ins only. (It refuses persistent ids by itself.)"""

    def find_class(self, module: str, name: str) -> Any:
        return _admit(f"{module} {name}")


def _look_through(data: bytes) -> None:
    """Refuse operations that labels do not need, and lengths that the file does not bear out, before any is run."""
    argument: Any
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if count >= MAX_OPERATIONS:
            raise _Refused(f"more than {MAX_OPERATIONS} operations")
        if operation.name in ("GLOBAL", "INST"):
            _admit(argument)
        if operation.name not in _OPERATIONS:
            raise _Refused(f"the operation {operation.name}, which no labels need; nothing of it was run")
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= argument <= count:
            raise _Refused("a place in the memo that is not there")


def load_labels(path: Path) -> tuple[list[str], list[int]]:
    """The pickle `(names, labels)` at `path`: lists, tuples or arrays (N,) of text and whole numbers.

    Runs nothing that the file names. Raises DataSetError for anything else.
    """
    try:
        data = _read(path)
        _look_through(data)
        pair = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise _Refused("not a pair (names, labels)")
        names, labels = (_items(part) for part in pair)
        if len(names) != len(labels):
            raise _Refused(f"{len(names)} names and {len(labels)} labels")
        for i, (name, label) in enumerate(zip(names, labels)):
            if type(name) is not str:
                raise _Refused(f"name {i} is no text")
            if type(label) is not int or abs(label) >= 2**31:
                raise _Refused(f"label {i} is no whole number, or a huge one")
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror})") from None
    except _Refused as refused:
        raise DataSetError(f"{path}: refused: {refused}") from None
    except Exception as error:  # a damaged pickle makes the machine raise nearly all there are
        raise DataSetError(f"{path}: not a sound pickle ({type(error).__name__}: {_quote(str(error))})") from None
    return list(names), list(labels)


def _read(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise _Refused("no such file" if not path.exists() else "not a regular file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise _Refused(f"larger than {MAX_BYTES // 2**20} MiB")
    with open(path, "rb") as file:
        return file.read(size)


def _items(part: Any) -> list | tuple:
    if type(part) is _Array:
        return part.tolist()
    if type(part) not in (list, tuple):
        raise _Refused("the names or labels are no list")
    return part


def _quote(value: Any) -> str:
    return ascii(value[:80]) if type(value) is str else f"a {type(value).__name__}"
