"""Read lines of text as counts and rows of numbers; refuse anything else, with the line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

_LONGEST_LINE = 2**14  # bytes; the longest valid one, PKU-MMD's 150 values, takes about 2,000
_SHORTEST_LINE = 20  # bytes, least average over a text; a joint's line has more
_PLAIN = b"0123456789+-.eEnaif \t\n"  # numpy and float() agree on numbers of these characters
_NOT_FINITE = re.compile(rb"-?nan\(ind\)|-?1\.#\w+", re.IGNORECASE)  # as Microsoft's C runtime spells nan and inf


class SkeletonError(ValueError):
    """Say why a recording cannot be read; `line` counts from 1, None if no single line is wrong."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line


def too_large(most: int) -> SkeletonError:
    """Make the error for a file of more than `most` bytes."""
    return SkeletonError(f"larger than {most // 2**20} MiB: too large for what it should be")


def split_lines(text: bytes, most: int) -> list[bytes]:
    """Split a text into lines, without byte order mark, line ends and blanks at the end.

    Raises SkeletonError if it is empty, has more than `most` bytes, or lines of a length or number no recording has.
    """
    if len(text) > most:
        raise too_large(most)
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip()
    if not text:
        raise SkeletonError("the file is empty")
    if text.count(b"\n") > 2**16 + len(text) // _SHORTEST_LINE:  # a list of them would take much memory
        raise SkeletonError("its lines are too many and too short for a recording")
    lines = text.split(b"\n")
    longest = max(map(len, lines))
    if longest > _LONGEST_LINE:
        number = next(number for number, line in enumerate(lines, 1) if len(line) == longest)
        raise SkeletonError(f"{longest} bytes are too long a line for a recording", number)
    return lines


def read_count(lines: Sequence[bytes], i: int, what: str) -> int:
    """Read line i (from 0) as a whole number, at least 0. Raises SkeletonError, naming `what`, for anything else."""
    word = _line(lines, i, what).strip()
    if not word.isdigit() or len(word) > 18:
        raise SkeletonError(f"{what} should stand here, found {quote(word)}", i + 1)
    return int(word)


def read_rows(lines: Sequence[bytes], wanted: Sequence[int], columns: int, what: str) -> np.ndarray:
    """Read the lines `wanted` (from 0) of `columns` numbers between blanks: float64 (len(wanted), columns).

    Raises SkeletonError for the first wrong line; `what` names such a line there.
    """
    rows = [lines[i] for i in wanted]
    if rows and not b"".join(rows).translate(None, _PLAIN):
        with suppress(ValueError):
            values = np.loadtxt(rows, comments=None, ndmin=2)
            if values.shape == (len(rows), columns):
                return values
    # Unusual or wrong: line by line, to find out.
    return np.array([read_row(lines, i, columns, what) for i in wanted]).reshape(-1, columns)


def read_row(lines: Sequence[bytes], i: int, columns: int, what: str) -> list[float]:
    """Read one line, i (from 0), like `read_rows`."""
    line = _line(lines, i, what)
    words = line.split()
    if len(words) != columns:
        raise SkeletonError(f"{what} has {columns} values, this line has {len(words)}", i + 1)
    with suppress(ValueError):
        if b"_" not in line:  # Python alone reads 1_0 as a number
            return list(map(float, words))
    return [_read_number(word, i + 1) for word in words]


def _line(lines: Sequence[bytes], i: int, what: str) -> bytes:
    if i >= len(lines):
        raise SkeletonError(f"the file ends where {what} should stand: it is cut short", len(lines))
    return lines[i]


def _read_number(word: bytes, line: int) -> float:
    with suppress(ValueError):
        if b"_" not in word:
            return float(word)
    if _NOT_FINITE.fullmatch(word):
        return float("nan")
    raise SkeletonError(f"not a number: {quote(word)}", line)


def quote(text: bytes) -> str:
    """Shorten a text for an error message, in ASCII."""
    return ascii(text[:40].decode("latin-1")) + ("..." if len(text) > 40 else "")
