"""Read one NTU `.skeleton` text file (docs/method.md, 1).

A recording of 100 frames is some 280 kB of text holding 30,000 numbers, of which 7,500 are wanted. The text is
handled as one byte array: the bytes that are no digits give the values' places (`skeleton_tokens.py`), values per line
the structure, and x, y, z are built from eight bytes at a time for all joints at once, exactly as `float()` would round
them. What is unusual anywhere is looked at more slowly; only then can a text be refused, so the reason is found there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from data_gen.raw.skeleton_tokens import SkeletonError, Tokens, checked, quote, tidied

NUM_JOINTS = 25
MAX_BODIES = 4  # slots kept of each frame's list
JOINT_COLUMNS = 12
BODY_COLUMNS = 10
FARTHEST = 1e6  # metres; keeps float32 finite through every later step
# Far above any recording (300 frames of 6 bodies are 6 MB), far below what could exhaust memory.
MAX_BYTES = 32 * 2**20
MAX_FRAMES = 20_000  # eleven minutes

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_JOINT_LINES = [JOINT_COLUMNS] * NUM_JOINTS
_XYZ = (np.arange(NUM_JOINTS)[:, None] * JOINT_COLUMNS + np.arange(3)).ravel()  # the values wanted of a body
_WIDTH = 16  # digits and point of values that are not read at once
_POWERS = 10.0 ** np.arange(_WIDTH + 1)  # each exact in float64
# The bits that make a digit's value, of the last n of eight bytes.
_LAST_EIGHT = np.array([0x0F0F0F0F0F0F0F0F & ~((1 << 64 - 8 * min(n, 8)) - 1) for n in range(_WIDTH + 1)], np.uint64)


@dataclass(frozen=True, order=True)
class RecordingName:
    """The numbers in `SsssCcccPpppRrrrAaaa`; `action` is 1-based, `label` = action − 1."""

    setup: int
    camera: int
    subject: int
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
    text = tidied(text, MAX_BYTES)
    # A body's 27 lines take over 600 bytes, so only few lines can be as short as a frame's count.
    if len(text) > 2**20 and text.count(b"\n") > MAX_FRAMES + 1 + len(text) // 20:
        raise SkeletonError("its lines are too many and too short for a recording")
    tokens = Tokens(text)
    bodies = _find_bodies(tokens) if tokens.are_plain() else None
    if bodies is None:  # wrong, or unusual
        tokens = checked(tokens)
        bodies = _find_bodies(tokens) or _walk(tokens)

    result = np.zeros((bodies.num_frame, bodies.slot.max(initial=-1) + 1, NUM_JOINTS, 3))
    if len(bodies.line):
        first = tokens.line_ends[bodies.line - 1] + 1  # the first joint's x
        xyz = decimals(tokens, (first[:, None] + _XYZ).ravel()).reshape(-1, NUM_JOINTS, 3)
        near = np.abs(xyz) < FARTHEST  # False for nan too
        if not near.all():
            body, joint, _ = np.argwhere(~near)[0]
            line = bodies.line[body] + joint
            raise SkeletonError("x, y or z is not a finite number of metres", int(line) + 1)
        result[bodies.frame, bodies.slot] = xyz
    return result


@dataclass
class _Bodies:
    """Where each kept body stands: its frame, its slot, the (0-based) line of its first joint."""

    num_frame: int
    frame: np.ndarray
    slot: np.ndarray
    line: np.ndarray


def _find_bodies(tokens: Tokens) -> _Bodies | None:
    """Read all counts at once, and compare the values per line with what they announce.

    None where that differs, or where a count is not written as usual: `_walk` is to judge.
    """
    per_line, end, total = tokens.per_line, tokens.ends(tokens.line_ends), len(tokens.per_line)
    first = tokens.line(0)
    if not first.isdigit() or len(first) > 5 or not 0 < int(first) <= MAX_FRAMES:
        return None
    num_frame = int(first)
    single = np.flatnonzero(per_line[1:] == 1) + 1
    count = single[per_line[single - 1] != BODY_COLUMNS]  # the lines with a frame's number of bodies
    if len(count) != num_frame or count[0] != 1:
        return None
    num_body = (tokens.buffer[end[count] - 1] - np.uint8(48)).astype(int)
    lines_of_frame = 1 + num_body * (NUM_JOINTS + 2)
    if (end[count] - end[count - 1] != 2).any() or (np.diff(count, append=total) != lines_of_frame).any():
        return None

    frame = np.repeat(np.arange(num_frame), num_body)
    slot = np.arange(len(frame)) - np.repeat(num_body.cumsum() - num_body, num_body)
    body = count[frame] + 1 + slot * (NUM_JOINTS + 2)
    expected = np.full(total, JOINT_COLUMNS)
    expected[0] = expected[count] = expected[body + 1] = 1
    expected[body] = BODY_COLUMNS
    if not np.array_equal(per_line, expected):
        return None
    num_joint = tokens.buffer[end[body + 1][:, None] - (3, 2, 1)]  # the three bytes before the line's end
    if (num_joint != np.frombuffer(b"\n%d" % NUM_JOINTS, np.uint8)).any():
        return None
    kept = slot < MAX_BODIES
    return _Bodies(num_frame, frame[kept], slot[kept], body[kept] + 2)


def _walk(tokens: Tokens) -> _Bodies:
    """The same, from count to count and line to line. Refuses the first that is wrong."""
    per_line = tokens.per_line.tolist()
    total = len(per_line)

    def count(line: int, what: str) -> int:
        if line >= total:
            raise SkeletonError(f"the file ends where {what} should stand: it is cut short", total)
        value = tokens.line(line)
        if not value.isdigit() or len(value) > 18:
            raise SkeletonError(f"{what} should stand here, found {quote(value)}", line + 1)
        return int(value)

    num_frame = count(0, "the number of frames")
    if num_frame == 0:
        raise SkeletonError("the recording has zero frames", 1)
    if num_frame > MAX_FRAMES:
        raise SkeletonError(f"{num_frame} frames are announced, more than the {MAX_FRAMES} of the longest", 1)
    if num_frame > total - 1:
        raise SkeletonError(f"{num_frame} frames are announced, the file ends after {total} lines", 1)
    bodies = []
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
                bodies.append((frame, slot, first))
            line += NUM_JOINTS + 2
    if line != total:
        raise SkeletonError(f"text goes on after the last of {num_frame} frames", line + 1)
    return _Bodies(num_frame, *np.array(bodies, int).reshape(-1, 3).T)


def decimals(tokens: Tokens, wanted: np.ndarray) -> np.ndarray:
    """The values of these numbers, float64, equal to float() of each; each must have 16 bytes of text before it.

    Digits are gathered into an integer below 2**53 (exact in float64), which one division by an exact power of
    ten then rounds correctly. Other values (exponents, over 14 digits) go through float().
    """
    k = tokens.blanks[wanted]
    start, end = tokens.ends(wanted - 1) + 1, tokens.place[k]
    negative = tokens.buffer[start] == 45
    has_point = tokens.other[k - 1] == 46
    decimals = (end - tokens.place[k - 1] - 1) * has_point
    length = end - start - negative
    odd = length >= _WIDTH
    np.minimum(length, _WIDTH, out=length)
    if len(tokens.strange):
        odd |= np.isin(wanted, tokens.values_at(tokens.strange))

    value = _eight_digits(tokens, end, _LAST_EIGHT[length])
    if length.max() > 8:
        value += 1e8 * _eight_digits(tokens, end - 8, _LAST_EIGHT[np.maximum(length - 8, 0)])
    # The point was read as the digit 14, its low bits: "3.25" as 3000 + 1400 + 25. Take that out; bring what is before
    # it down by one place.
    power = _POWERS[np.minimum(decimals, _WIDTH)]
    value -= 14 * power * has_point
    value -= np.floor(value / (10 * power)) * (9 * power * has_point)
    value /= power
    np.negative(value, out=value, where=negative)
    for i in np.flatnonzero(odd):
        value[i] = _to_float(tokens.value(wanted[i]))
    return value


def _eight_digits(tokens: Tokens, end: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The eight bytes before each `end`, or what `bits` leaves of them, read as a number."""
    eight = np.ndarray(len(tokens.text) - 7, "<u8", tokens.text, strides=(1,))  # from every place on
    number = eight[end - 8]
    number &= bits
    # The first digit is in the lowest byte. Neighbours become four numbers below 100, two below 10,000, one.
    for factor, shift, mask in ((10, 8, 0x00FF00FF00FF00FF), (100, 16, 0x0000FFFF0000FFFF), (10_000, 32, 2**32 - 1)):
        number *= factor << shift | 1
        number >>= shift
        number &= mask
    return number.astype(np.float64)


def _to_float(token: bytes) -> float:
    try:
        return float(token)
    except ValueError:  # the spellings of nan and inf that C runtimes print
        return float("nan")
