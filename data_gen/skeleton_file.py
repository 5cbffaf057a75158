"""Read one NTU `.skeleton` text file (docs/method.md, 1).

A recording of 100 frames is some 280 kB of text holding 30,000 numbers, of which 7,500 are wanted. The text is
handled as one byte array: separators give the tokens, tokens per line give the structure, and x, y, z are
built digit by digit for all joints at once, exactly as `float()` would round them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

NUM_JOINTS = 25
MAX_BODIES = 4  # slots kept of each frame's list
JOINT_COLUMNS = 12
BODY_COLUMNS = 10
FARTHEST = 1e6  # metres; keeps float32 finite through every later step
# Far above any recording (300 frames of 6 bodies are 6 MB), far below what could exhaust memory.
MAX_BYTES = 32 * 2**20
MAX_FRAMES = 20_000  # eleven minutes
TOO_LARGE = f"larger than {MAX_BYTES // 2**20} MiB: not a recording"

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_NUMBER = re.compile(rb"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)|-?nan\(ind\)|-?1\.#\w+", re.I)
# What is left of a line of numbers once its digits are deleted.
_REMAINS = re.compile(rb"(([-+]?\.?([eE][-+]?)?|[-+]?(nan|inf|infinity)|-?nan\(ind\)|-?\.#\w+)( |$))*", re.I)
_MAX_REMAINS = 256  # bytes; twelve values of the longest spellings leave half of it
_JOINT_LINES = [JOINT_COLUMNS] * NUM_JOINTS
_DIGITS = b"0123456789"
_WIDTH = 16  # bytes of a token that are read digit by digit
_POWERS = 10.0 ** np.arange(_WIDTH)  # each exact in float64
_seen_remains: set[bytes] = set()


class SkeletonError(ValueError):
    """A recording that cannot be read; `line` is 1-based, None where no line is to blame."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line


@dataclass(frozen=True, order=True)
class RecordingName:
    """The numbers in `SsssCcccPpppRrrrAaaa`; `action` is 1-based, `label` = action − 1."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    @property
    def label(self) -> int:
        return self.action - 1


def parse_name(stem: str) -> RecordingName:
    """Read a recording's name (without `.skeleton`). Raises SkeletonError for anything else."""
    match = _NAME.fullmatch(stem)
    if not match:
        raise SkeletonError("the name is not of the form SsssCcccPpppRrrrAaaa.skeleton")
    numbers = [int(g) for g in match.groups()]
    if 0 in numbers:
        raise SkeletonError("a number in the name is 000; all of them count from 001")
    return RecordingName(*numbers)


def parse_skeleton(text: bytes) -> np.ndarray:
    """Bodies of a recording: float64 (T, S, 25, 3) in metres, S = bodies in the fullest frame (at most 4).

    A slot is a body's position in its frame's list; slots without a body are zero. Raises SkeletonError with
    the 1-based line for text that is not exactly one well-formed recording. nan and inf are accepted in every
    column but x, y and z.
    """
    if len(text) > MAX_BYTES:
        raise SkeletonError(TOO_LARGE)
    text = text.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    text = text.rstrip() + b"\n"
    if text == b"\n":
        raise SkeletonError("the file is empty")
    # A body's 27 lines take over 600 bytes, so only few lines can be as short as a frame's count.
    if len(text) > 2**20 and text.count(b"\n") > MAX_FRAMES + 1 + len(text) // 20:
        raise SkeletonError("its lines are too many and too short for a recording")
    tokens = _Tokens(text)
    if any(blank in text for blank in (b"\t", b"\r", b"\v", b"\f")) or tokens.has_gaps():
        tokens = _Tokens(b"\n".join(b" ".join(line.split()) for line in text.split(b"\n")[:-1]) + b"\n")
    letters = _check_lines(tokens.text)
    if tokens.has_gaps():
        raise SkeletonError("an empty line", tokens.line_of(int(tokens.length.argmin())) + 1)
    _check_tokens(tokens, letters)
    bodies = _walk(tokens)

    result = np.zeros((bodies.num_frame, max(bodies.slot, default=-1) + 1, NUM_JOINTS, 3))
    if bodies.line:
        lines = (np.array(bodies.line)[:, None] + np.arange(NUM_JOINTS)).ravel()
        xyz = _decimals(tokens, ((tokens.line_ends[lines] - (JOINT_COLUMNS - 1))[:, None] + np.arange(3)).ravel())
        wrong = np.flatnonzero(~(np.abs(xyz) < FARTHEST))  # nan too
        if len(wrong):
            raise SkeletonError("x, y or z is not a finite number of metres", int(lines[wrong[0] // 3]) + 1)
        result[bodies.frame, bodies.slot] = xyz.reshape(-1, NUM_JOINTS, 3)
    return result


class _Tokens:
    """Where the values of a text stand: value i is text[start[i]:end[i]]; line n ends with value line_ends[n]."""

    def __init__(self, text: bytes):
        self.text, self.buffer = text, np.frombuffer(text, np.uint8)
        self.end = np.flatnonzero(self.buffer <= 32)
        self.start = np.concatenate(([0], self.end[:-1] + 1))
        self.length = self.end - self.start
        self.line_ends = np.flatnonzero(self.buffer[self.end] == 10)
        self.per_line = np.diff(self.line_ends, prepend=-1)

    def has_gaps(self) -> bool:
        """Whether some values are empty: more than one blank or line feed stand together."""
        return self.length.min() == 0

    def value(self, i: int) -> bytes:
        return self.text[self.start[i] : self.end[i]]

    def line(self, n: int) -> bytes:
        last = self.line_ends[n]
        return self.text[self.start[last - self.per_line[n] + 1] : self.end[last]]

    def line_of(self, i: int) -> int:
        """The line that value i stands in."""
        return int(np.searchsorted(self.line_ends, i))


def _check_lines(text: bytes) -> bool:
    """Refuse lines that are no rows of numbers; whether there are letters (e, nan, inf) in them.

    Without their digits lines repeat, so few are looked at.
    """
    wrong, letters = set(), False
    for remains in set(text.translate(None, _DIGITS).split(b"\n")) - _seen_remains:
        if len(remains) > _MAX_REMAINS or not _REMAINS.fullmatch(remains):
            wrong.add(remains)
        elif remains.strip(b" .+-"):
            letters = True
        elif len(_seen_remains) < 100_000:
            _seen_remains.add(remains)
    if wrong:
        for number, line in enumerate(text.split(b"\n"), 1):
            if line.translate(None, _DIGITS) in wrong:
                raise SkeletonError(f"not a row of numbers: {_quote(line)}", number)
    return letters


def _check_tokens(tokens: _Tokens, letters: bool) -> None:
    """Refuse what `_check_lines` cannot see: a sign behind a digit, digits that are missing or around a word."""
    text, buffer = tokens.text, tokens.buffer
    for sign in b"-+":
        at = np.flatnonzero(buffer == sign) if sign in text else np.array([], int)
        behind = at[buffer[at - 1] - np.uint8(48) < 10]
        if len(behind):
            line = tokens.line_of(np.searchsorted(tokens.end, behind[0]))
            raise SkeletonError(f"not a row of numbers: {_quote(tokens.line(line))}", line + 1)
    # What is left begins or ends with a digit, unless it is too short for one or has letters (all above "9").
    short = np.flatnonzero(tokens.length <= 2)
    suspects = short[buffer[tokens.end[short] - 1] - np.uint8(48) >= 10]
    if letters:
        suspects = np.union1d(suspects, np.searchsorted(tokens.end, np.flatnonzero(buffer > 57)))
    for i in suspects:
        if not _NUMBER.fullmatch(tokens.value(i)):
            raise SkeletonError(f"not a number: {_quote(tokens.value(i))}", tokens.line_of(i) + 1)


@dataclass
class _Bodies:
    """Where each kept body stands: its frame, its slot, the (0-based) line of its first joint."""

    num_frame: int
    frame: list[int]
    slot: list[int]
    line: list[int]


def _walk(tokens: _Tokens) -> _Bodies:
    """Follow the counts from frame to frame."""
    per_line = tokens.per_line.tolist()
    total = len(per_line)

    def count(line: int, what: str) -> int:
        if line >= total:
            raise SkeletonError(f"the file ends where {what} should stand: it is cut short", total)
        value = tokens.line(line)
        if not value.isdigit() or len(value) > 18:
            raise SkeletonError(f"{what} should stand here, found {_quote(value)}", line + 1)
        return int(value)

    num_frame = count(0, "the number of frames")
    if num_frame == 0:
        raise SkeletonError("the recording has zero frames", 1)
    if num_frame > MAX_FRAMES:
        raise SkeletonError(f"{num_frame} frames are announced, more than the {MAX_FRAMES} of the longest", 1)
    if num_frame > total - 1:
        raise SkeletonError(f"{num_frame} frames are announced, the file ends after {total} lines", 1)
    bodies = _Bodies(num_frame, [], [], [])
    line = 1
    for frame in range(num_frame):
        num_body = count(line, f"the number of bodies of frame {frame + 1} of {num_frame}")
        line += 1
        if num_body * (NUM_JOINTS + 2) > total - line:
            raise SkeletonError(f"frame {frame + 1} is cut short: {num_body} bodies, {total - line} lines", total)
        for slot in range(num_body):
            if per_line[line] != BODY_COLUMNS:
                raise SkeletonError(f"a body has {BODY_COLUMNS} values, this line has {per_line[line]}", line + 1)
            num_joint = count(line + 1, "the number of joints")
            if num_joint != NUM_JOINTS:
                raise SkeletonError(f"a body has {NUM_JOINTS} joints, this one {num_joint}", line + 2)
            first = line + 2
            if per_line[first : first + NUM_JOINTS] != _JOINT_LINES:
                wrong = next(n for n in range(first, first + NUM_JOINTS) if per_line[n] != JOINT_COLUMNS)
                raise SkeletonError(f"a joint has {JOINT_COLUMNS} values, this line has {per_line[wrong]}", wrong + 1)
            if slot < MAX_BODIES:
                bodies.frame.append(frame)
                bodies.slot.append(slot)
                bodies.line.append(first)
            line += NUM_JOINTS + 2
    if line != total:
        raise SkeletonError(f"text goes on after the last of {num_frame} frames", line + 1)
    return bodies


def _decimals(tokens: _Tokens, wanted: np.ndarray) -> np.ndarray:
    """The values at the places `wanted`, float64, equal to float() of each.

    Digits are gathered into an integer below 2**53 (exact in float64), which one division by an exact power of
    ten then rounds correctly. Tokens of another form (exponents, over 15 digits) go through float().
    """
    start, length = tokens.start[wanted], tokens.length[wanted]
    width = min(int(length.max()), _WIDTH)
    # Row k holds the k-th byte of every token. A joint's x, y, z have 9 more values behind them, so no window
    # runs over the end of the text.
    byte = sliding_window_view(tokens.buffer, width)[start].T.copy()
    byte[np.arange(width)[:, None] >= length] = 0
    digit = byte - np.uint8(48)
    is_digit, is_dot = digit < 10, byte == 46
    mantissa = np.zeros(len(start))
    for row, shift in zip(digit * is_digit, is_digit * np.uint8(9) + np.uint8(1)):
        mantissa *= shift  # 10 before a digit, 1 before anything else
        mantissa += row
    num_digit = is_digit.sum(0, dtype=np.uint8)
    num_dot = is_dot.sum(0, dtype=np.uint8)
    negative = byte[0] == 45
    plain = (num_digit + num_dot + negative == length) & (num_dot <= 1) & (num_digit >= 1) & (num_digit <= 15)
    decimals = np.where(num_dot == 1, length - 1 - is_dot.argmax(0), 0)
    value = mantissa / _POWERS[np.where(plain, decimals, 0)]
    value = np.where(negative, -value, value)
    for i in np.flatnonzero(~plain):
        value[i] = _to_float(tokens.value(wanted[i]))
    return value


def _to_float(token: bytes) -> float:
    try:
        return float(token)
    except ValueError:  # the spellings of nan and inf that C runtimes print
        return float("nan")


def _quote(text: bytes) -> str:
    return ascii(text[:40].decode("latin-1")) + ("..." if len(text) > 40 else "")
