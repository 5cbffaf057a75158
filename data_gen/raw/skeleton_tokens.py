"""The values of a `.skeleton` text as places in its bytes, and the refusal of texts that are no rows of numbers."""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np

_NUMBER = re.compile(rb"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)|-?nan\(ind\)|-?1\.#\w+", re.I)
# Nearly all of them, and the blank behind.
_PLAIN = re.compile(rb"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?[ \n]")
_FEW = 500  # unusual values that are looked at one by one
# What is left of a line of numbers once its digits are deleted.
_REMAINS = re.compile(rb"(([-+]?\.?([eE][-+]?)?|[-+]?(nan|inf|infinity)|-?nan\(ind\)|-?\.#\w+)( |$))*", re.I)
_MAX_REMAINS = 256  # bytes; twelve values of the longest spellings leave half of it
_DIGITS = b"0123456789"


class SkeletonError(ValueError):
    """A recording that cannot be read; `line` is 1-based, None where no line is to blame."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line


def too_large(most: int) -> SkeletonError:
    """The error of a text of more than `most` bytes."""
    return SkeletonError(f"larger than {most // 2**20} MiB: too large for what it should be")


def tidied(text: bytes, most: int) -> bytes:
    """The same lines without a byte order mark, carriage returns and blanks at the end; the last line is ended too.
    Refuses an empty text, and one of more than `most` bytes."""
    if len(text) > most:
        raise too_large(most)
    text = text.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if text[-1:] != b"\n" or text[-2:-1].isspace():
        text = text.rstrip() + b"\n"
    if text == b"\n":
        raise SkeletonError("the file is empty")
    return text


class Tokens:
    """Where the values of a text stand; line n ends with value line_ends[n].

    All of it comes from the bytes that are no digits: other[k] at place[k], of which blanks[i] is value i's end.
    """

    def __init__(self, text: bytes):
        self.text, self.buffer = text, np.frombuffer(text, np.uint8)
        no_digit = self.buffer - np.uint8(48) > 9
        # Nearly all values have the form -?[0-9]+(.[0-9]+)? and one blank behind. That is so where a minus does not
        # stand behind a digit, a blank or a point does; where, digits aside, a minus has a blank before it, a point a
        # blank or a minus; and where there are no other bytes.
        misplaced = self.buffer[1:] == 45  # "-"
        misplaced ^= no_digit[:-1] & no_digit[1:]
        self.place = np.flatnonzero(no_digit)
        self.other = self.buffer[self.place]
        before, other = self.other[:-1], self.other[1:]
        unknown = (other != 32) & (other != 10) & (other - np.uint8(45) >= 2)  # "-" is 45, "." 46
        unordered = (other > 32) & (before >= other)  # the second of "..", ".-" or "--"
        # Where it is not so. What is wrong with the first value, which has nothing before it, may be missing.
        self.strange = np.concatenate((self.place[1:][unknown | unordered], np.flatnonzero(misplaced) + 1))

        self.blanks = np.flatnonzero(self.other <= 32)
        self.line_ends = np.flatnonzero(self.other[self.blanks] == 10)
        self.per_line = np.diff(self.line_ends, prepend=-1)

    def are_plain(self) -> bool:
        """Whether the values are, as nearly always, numbers between single blanks, at most a few of them unusual."""
        if len(self.strange) > _FEW:
            return False
        unusual = np.append(self.values_at(self.strange), 0)
        return all(_PLAIN.fullmatch(self.text, start, end + 1) for start, end in self.spans(unusual))

    def has_gaps(self) -> bool:
        """Whether some values are empty: more than one blank or line feed stand together."""
        return self.lengths.min() == 0

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.place[self.blanks], prepend=-1) - 1

    def ends(self, values: np.ndarray) -> np.ndarray:
        return self.place[self.blanks[values]]

    def end(self, i: int) -> int:
        return int(self.place[self.blanks[i]])

    def start(self, i: int) -> int:
        return self.end(i - 1) + 1 if i else 0

    def spans(self, values: np.ndarray) -> zip[tuple[int, int]]:
        """The start and the end of each of these values."""
        starts = np.where(values > 0, self.ends(values - 1) + 1, 0)
        return zip(starts.tolist(), self.ends(values).tolist())

    def value(self, i: int) -> bytes:
        return self.text[self.start(i) : self.end(i)]

    def values_at(self, places: np.ndarray) -> np.ndarray:
        """The values that bytes belong to; a blank belongs to the one before it."""
        return np.searchsorted(self.blanks, np.searchsorted(self.place, places))

    def line(self, n: int) -> bytes:
        last = self.line_ends[n]
        return self.text[self.start(last - self.per_line[n] + 1) : self.end(last)]

    def line_of(self, i: int) -> int:
        """The line that value i stands in."""
        return int(np.searchsorted(self.line_ends, i))


def checked(tokens: Tokens) -> Tokens:
    """The same values with single blanks between them. Refuses all that are not rows of numbers."""
    text = tokens.text
    if any(blank in text for blank in (b"\t", b"\r", b"\v", b"\f")) or tokens.has_gaps():
        tokens = Tokens(b"\n".join(b" ".join(line.split()) for line in text.split(b"\n")[:-1]) + b"\n")
    letters = _check_lines(tokens.text)
    if tokens.has_gaps():
        raise SkeletonError("an empty line", tokens.line_of(int(tokens.lengths.argmin())) + 1)
    _check_tokens(tokens, letters)
    return tokens


def _check_lines(text: bytes) -> bool:
    """Refuse lines that are no rows of numbers; whether there are letters (e, nan, inf) in them.

    Without their digits lines repeat, so few are looked at.
    """
    wrong, letters = set(), False
    for remains in set(text.translate(None, _DIGITS).split(b"\n")):
        if len(remains) > _MAX_REMAINS or not _REMAINS.fullmatch(remains):
            wrong.add(remains)
        elif remains.strip(b" .+-"):
            letters = True
    if wrong:
        for number, line in enumerate(text.split(b"\n"), 1):
            if line.translate(None, _DIGITS) in wrong:
                raise SkeletonError(f"not a row of numbers: {quote(line)}", number)
    return letters


def _check_tokens(tokens: Tokens, letters: bool) -> None:
    """Refuse what `_check_lines` cannot see: a sign behind a digit, digits that are missing or around a word."""
    text, buffer = tokens.text, tokens.buffer
    for sign in b"-+":
        at = np.flatnonzero(buffer == sign) if sign in text else np.array([], int)
        behind = at[buffer[at - 1] - np.uint8(48) < 10]
        if len(behind):
            line = tokens.line_of(int(tokens.values_at(behind[:1])[0]))
            raise SkeletonError(f"not a row of numbers: {quote(tokens.line(line))}", line + 1)
    # What is left begins or ends with a digit, unless it is too short for one or has letters (all above "9").
    short = np.flatnonzero(tokens.lengths <= 2)
    suspects = short[buffer[tokens.ends(short) - 1] - np.uint8(48) >= 10]
    if letters:
        suspects = np.union1d(suspects, np.searchsorted(tokens.blanks, np.flatnonzero(tokens.other > 57)))
    for i, (start, end) in zip(suspects, tokens.spans(suspects)):
        if not _NUMBER.fullmatch(text, start, end):
            raise SkeletonError(f"not a number: {quote(text[start:end])}", tokens.line_of(i) + 1)


def quote(text: bytes) -> str:
    return ascii(text[:40].decode("latin-1")) + ("..." if len(text) > 40 else "")
