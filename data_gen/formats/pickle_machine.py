"""A machine that runs pickles and can do nothing: what a pickle names, it never fetches.

A pickle is a program. It does harm through what it fetches by name, and through what it makes the machine that runs
it allocate. This one knows lists, tuples, tables with text for keys (a hash of nested tuples can take for ever), text,
numbers and numpy's arrays. For the few names that arrays are made with it has stand-ins. Every other name and operation
is refused. Long text and bytes stay in the file until they are asked for, so that data sets larger than memory can be
read.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
from types import FunctionType
from typing import Any, cast

from data_gen.formats.pickle_stand_ins import ADMITTED, Array, DType, Refused, Stored, quote

_MAX_LINE = 128 * 2**20  # bytes, of what is written as text
_SHORT = 1024  # bytes of text or bytes that are read at once
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


class File(mmap.mmap):
    """The file a pickle is in, mapped."""

    def readline(self) -> bytes:
        """The next line. Raises Refused where it is too long to be read."""
        end = self.find(b"\n", self.tell(), self.tell() + _MAX_LINE)
        if end < 0 and len(self) - self.tell() > _MAX_LINE:
            raise Refused(f"a line longer than {_MAX_LINE // 2**20} MiB")
        return super().readline()


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

    def _counted(self, width: int, encoding: str | None) -> str | bytes | Stored:
        size = int.from_bytes(self._file.read(width), "little")
        start = self._file.tell()
        if size > len(self._file) - start:
            raise ValueError(f"expected {size} bytes, {len(self._file) - start} are left")
        stored = Stored(self._file, start, size, encoding)
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
            if argument > len(self._file) - self._file.tell():
                raise ValueError("a frame ends behind the file")
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "GLOBAL":
            stack.append(self._admit(argument))
        else:
            self._combine(name, argument)

    def _combine(self, name: str, argument: Any) -> None:
        """Operations on what lies on the stack, after a mark or not."""
        if name == "INST":
            self._admit(argument)  # to tell what it asks for
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
            if type(stack[-1]) not in (DType, Array):
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
        if name not in ADMITTED:
            raise Refused(
                f"it asks for {quote(name.replace(' ', '.'))}, which no {self._needed_by} need; nothing of it was run"
            )
        return ADMITTED[name]


_PUSHED = frozenset(_COUNTED) | frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING UNICODE".split()
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_COMBINING_MARKED = frozenset("LIST TUPLE DICT SETITEMS APPENDS POP_MARK".split())
_COMBINING = _COMBINING_MARKED | frozenset("EMPTY_DICT SETITEM APPEND POP STACK_GLOBAL REDUCE BUILD".split())
