"""A machine that runs pickles and can do nothing: what a pickle names, it never fetches.

A pickle is a program. It does harm through what it fetches by name, and through what it makes the machine that runs
it allocate. This one knows lists, tuples, tables with text for keys (a hash of nested tuples can take for ever), text,
numbers and numpy's arrays. For the few names that arrays are made with it has stand-ins, which only keep what they are
given; arrays are made of it afterwards, by this code. Every other name and operation is refused. Long text and bytes
stay in the file until they are asked for, so that data sets larger than memory can be read.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import re
from types import FunctionType
from typing import Any, cast

import numpy as np

_MAX_ITEM = 256  # bytes of an array's item: a name of 64 characters
_MAX_LINE = 128 * 2**20  # bytes, of what is written as text
_MAX_AXES = 8
_SHORT = 1024  # bytes of text or bytes that are read at once
_ITEM = re.compile(r"[biufSU][1-9]\d{0,3}")
# Text and bytes with their length before them: the bytes of the length, and how text is encoded.
_COUNTED = {
    "BINSTRING": (4, "latin1"),
    "SHORT_BINSTRING": (1, "latin1"),
    "SHORT_BINUNICODE": (1, "utf-8"),
    "BINUNICODE": (4, "utf-8"),
    "BINUNICODE8": (8, "utf-8"),
    "SHORT_BINBYTES": (1, None),
    "BINBYTES": (4, None),
    "BINBYTES8": (8, None),
    "BYTEARRAY8": (8, None),
}
_OPERATIONS = {operation.code.encode("latin1"): operation for operation in pickletools.opcodes}


class Refused(Exception):
    """What the pickle holds or wants, in words."""


class File(mmap.mmap):
    """The file a pickle is in, mapped."""

    def readline(self) -> bytes:
        """The next line. Raises Refused where it is too long to be read."""
        end = self.find(b"\n", self.tell(), self.tell() + _MAX_LINE)
        if end < 0 and self.size() - self.tell() > _MAX_LINE:
            raise Refused(f"a line longer than {_MAX_LINE // 2**20} MiB")
        return super().readline()


class _Stored:
    """Long text (with its encoding) or bytes (without), where they lie in the file."""

    __slots__ = ("file", "start", "size", "encoding")

    def __init__(self, file: File, start: int, size: int, encoding: str | None):
        self.file, self.start, self.size, self.encoding = file, start, size, encoding

    def read(self) -> str | bytes:
        raw = self.file[self.start : self.start + self.size]
        return raw.decode(self.encoding, "surrogatepass") if self.encoding else raw


class _DType:
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
        if type(self.dtype) is not _DType:
            raise Refused("an array that has no type, or no shape")
        return self.dtype.numpy().kind

    def numpy(self) -> np.ndarray:
        """The array, of plain numbers or text. Raises Refused for what is not a sound one."""
        if type(self.dtype) is not _DType:
            raise Refused("an array that has no type, or no shape")
        dtype, shape = self.dtype.numpy(), self.checked_shape()
        raw, size = self.raw, math.prod(shape) * dtype.itemsize
        if type(raw) is _Stored and raw.size <= (2 * size if raw.encoding else size):  # the others are not even read
            raw = raw.read()
        if type(raw) not in (str, bytes, bytearray) or len(raw) != size:
            raise Refused("an array with another number of items than it claims")
        if isinstance(raw, str):
            raw = raw.encode("latin1")  # Python 2 wrote bytes as text
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if self.fortran else "C")

    def tolist(self) -> list:
        """Its items; bytes as text. Raises Refused for what is not a sound array of one dimension."""
        if type(self.dtype) is not _DType or type(self.shape) is not tuple or len(self.shape) != 1:
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
def _dtype(code: Any, align: Any = None, copy: Any = None) -> _DType:
    return _DType(code)


def _reconstruct(subtype: Any, shape: Any, code: Any) -> Array:
    if subtype is not _NDARRAY:
        raise Refused("an array of a class of its own")
    return Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any = None, axis_order: Any = None) -> Array:
    if axis_order is not None:
        raise Refused("an array with its axes in an order of their own")
    return Array(dtype, shape, raw, order == "F")


def _scalar(dtype: Any, raw: Any) -> Any:
    if type(dtype) is not _DType or dtype.is_object:
        raise Refused("a number of no known type")
    return Array(dtype, (1,), raw).tolist()[0]


def _encode(text: Any, codec: Any) -> str | _Stored:
    # How Python 3 writes bytes for Python 2. They stay text, as Python 2 writes them itself.
    if type(text) not in (str, _Stored) or codec != "latin1":
        raise Refused(f"bytes encoded by {quote(codec)}")
    return text


_ADMITTED: dict[str, Any] = {"numpy dtype": _dtype, "numpy ndarray": _NDARRAY, "_codecs encode": _encode}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ADMITTED[f"{_core}.multiarray _reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric _frombuffer"] = _frombuffer


class Machine:
    """Runs one pickle of at most `most` operations; `needed_by` says what for in what it refuses."""

    def __init__(self, file: File, most: int, needed_by: str, tables: bool = False):
        self._file, self._most, self._needed_by = file, most, needed_by
        self._left_out = frozenset() if tables else frozenset(["EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"])
        self._stack: list = []
        self._marked: list[list] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What the pickle is of: lists, tuples, tables, text, numbers, None and `Array`s. Raises Refused, and for a
        damaged pickle nearly everything else."""
        file, stop = self._file, pickle.STOP
        for count in range(self._most):
            code = file.read(1)
            if code not in _OPERATIONS:
                raise ValueError(f"operation {code!r} is unknown" if code else "the pickle does not end")
            operation = _OPERATIONS[code]
            name = operation.name
            argument: Any = None
            if name in _COUNTED:
                argument = self._counted(*_COUNTED[name])
            elif operation.arg is not None:
                argument = operation.arg.reader(cast(Any, file))
            if code == stop:
                return self._stack.pop()
            self._do(name, argument, count)
        raise Refused(f"more than {self._most} operations")

    def _counted(self, width: int, encoding: str | None) -> str | bytes | _Stored:
        size = int.from_bytes(self._file.read(width), "little")
        start = self._file.tell()
        if size > self._file.size() - start:
            raise ValueError(f"expected {size} bytes, {self._file.size() - start} are left")
        stored = _Stored(self._file, start, size, encoding)
        self._file.seek(size, 1)
        return stored.read() if size <= _SHORT else stored

    def _do(self, name: str, argument: Any, count: int) -> None:
        stack = self._stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            if not 0 <= argument <= count:
                raise Refused("a place in the memo that is not there")
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            self._marked.append(stack)
            self._stack = []
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name == "PROTO":
            if argument > pickle.HIGHEST_PROTOCOL:
                raise ValueError(f"protocol {argument} is unknown")
        elif name == "FRAME":
            if argument > self._file.size() - self._file.tell():
                raise ValueError("a frame ends behind the file")
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("GLOBAL", "INST"):  # the latter to name what it asks for
            stack.append(self._admit(argument))
        else:
            self._combine(name)

    def _combine(self, name: str) -> None:
        """Operations on what lies on the stack, after a mark or not."""
        if name in self._left_out or name not in _COMBINING:
            raise Refused(f"the operation {name}, which no {self._needed_by} need; nothing of it was run")
        items: list = []
        if name in _COMBINING_MARKED:
            items, self._stack = self._stack, self._marked.pop()
        stack = self._stack
        if name == "LIST":
            stack.append(items)
        elif name == "TUPLE":
            stack.append(tuple(items))
        elif name == "DICT":
            stack.append({})
            self._set(items)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "SETITEM":
            self._set([stack.pop(), stack.pop()][::-1])
        elif name == "SETITEMS":
            self._set(items)
        elif name in ("APPEND", "APPENDS"):
            added = items if name == "APPENDS" else [stack.pop()]
            if type(stack[-1]) is not list:
                raise TypeError("items of what is no list")
            stack[-1].extend(added)
        elif name == "POP":
            if stack:
                stack.pop()
            else:
                self._stack = self._marked.pop()
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if type(module) is not str or type(attribute) is not str:
                raise TypeError("a name that is no text")
            stack.append(self._admit(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if type(function) is not FunctionType or type(arguments) is not tuple:
                raise TypeError("a call of what is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            if type(stack[-1]) not in (_DType, Array):
                raise Refused("a state for what has none")
            stack[-1].__setstate__(state)

    def _set(self, items: list) -> None:
        table = self._stack[-1]
        if type(table) is not dict or len(items) % 2:
            raise TypeError("entries of what is no table, or a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str:
                raise Refused("a table with a key that is no text")
            table[key] = value

    def _admit(self, name: str) -> Any:
        """The stand-in for `module name`. Raises Refused where there is none."""
        if name not in _ADMITTED:
            raise Refused(
                f"it asks for {quote(name.replace(' ', '.'))}, which no {self._needed_by} need; nothing of it was run"
            )
        return _ADMITTED[name]


_PUSHED = frozenset(_COUNTED) | frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING UNICODE".split()
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_COMBINING_MARKED = frozenset("LIST TUPLE DICT SETITEMS APPENDS POP_MARK".split())
_COMBINING = _COMBINING_MARKED | frozenset("EMPTY_DICT SETITEM APPEND POP STACK_GLOBAL REDUCE BUILD".split())


def quote(value: Any) -> str:
    """A value as an error shows it, in ASCII and short."""
    return ascii(value[:80]) if type(value) is str else f"a {type(value).__name__}"
