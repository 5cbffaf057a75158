"""Read one NTU `.skeleton` text file (docs/method.md, 1).

The text holds the number of frames; then for each frame the number of bodies; and for each body a line of 10 values,
the number of joints, and a line of 12 values for each joint, x y z first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from data_gen.skeletons import KINECT_V2
from utils.errors import UserError

NUM_JOINTS = len(KINECT_V2.joints)
MAX_BODIES = 4  # bodies that are read of each frame
JOINT_COLUMNS = 12
BODY_COLUMNS = 10
FARTHEST = 1e6  # metres; keeps float32 finite through every later step
_NOT_FINITE = re.compile(rb"-?nan\(ind\)|-?1\.#\w+", re.IGNORECASE)  # as Microsoft's C runtime spells nan and inf


class _Body(NamedTuple):
    frame: int
    slot: int
    first: int  # line of its first joint, from 0


def parse_skeleton(text: bytes) -> np.ndarray:
    """Read the bodies of a recording: float64 (T, S, 25, 3) in metres, S = most bodies in a frame (at most 4).

    A body's slot is its position in the frame's list; slots without a body are zero. Raises UserError, with the line,
    for text that is not exactly one well-formed recording. nan and inf are accepted in every column but x, y, z.
    """
    lines = split_lines(text)
    num_frame = read_count(lines, 0, "the number of frames")
    if num_frame == 0:
        raise UserError("the recording has zero frames", 1)
    bodies: list[_Body] = []
    try:
        _find_bodies(lines, num_frame, bodies)
    except UserError:
        _read_joints(lines, bodies)  # raises first if an earlier line is wrong, perhaps missing
        raise
    xyz = _read_joints(lines, bodies)
    far = ~(np.abs(xyz) < FARTHEST)  # True for nan too
    if far.any():
        number, joint, _ = np.argwhere(far)[0].tolist()
        raise UserError("x, y or z is not a finite number of metres", bodies[number].first + joint + 1)
    num_slots = max((body.slot + 1 for body in bodies), default=0)
    result = np.zeros((num_frame, num_slots, NUM_JOINTS, 3))
    for body, joints in zip(bodies, xyz):
        result[body.frame, body.slot] = joints
    return result


def _find_bodies(lines: list[bytes], num_frame: int, bodies: list[_Body]) -> None:
    """Add the bodies to `bodies`, going from count to count. Checks all lines but those of joints: UserError."""
    at = 1
    for frame in range(num_frame):
        num_body = read_count(lines, at, f"the number of bodies of frame {frame + 1} of {num_frame}")
        at += 1
        for slot in range(num_body):
            read_row(lines, at, BODY_COLUMNS, "a body")
            num_joint = read_count(lines, at + 1, "the number of joints")
            if num_joint != NUM_JOINTS:
                raise UserError(f"a body has {NUM_JOINTS} joints, this one {num_joint}", at + 2)
            if slot < MAX_BODIES:
                bodies.append(_Body(frame, slot, at + 2))
            at += 2 + NUM_JOINTS
    if at < len(lines):
        raise UserError(f"text goes on after the last of {num_frame} frames", at + 1)


def _read_joints(lines: list[bytes], bodies: list[_Body]) -> np.ndarray:
    """Read x, y and z of every body's joints: float64 (bodies, 25, 3)."""
    indices = [i for body in bodies for i in range(body.first, body.first + NUM_JOINTS)]
    return read_rows(lines, indices, JOINT_COLUMNS, "a joint")[:, :3].reshape(-1, NUM_JOINTS, 3)


# ---- lines of numbers, of PKU-MMD's files, too -----------------------------------------------------------------------


def split_lines(text: bytes) -> list[bytes]:
    """Split a text that is not empty into lines, without byte order mark, line ends and blanks at the end."""
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip()
    if not text:
        raise UserError("the file is empty")
    return text.split(b"\n")


def read_count(lines: Sequence[bytes], i: int, what: str) -> int:
    """Read line i (from 0) as a whole number, at least 0. Raises UserError, naming `what`, for anything else."""
    word = _line(lines, i, what).strip()
    if not word.isdigit() or len(word) > 18:
        raise UserError(f"{what} should stand here, not {quote(word)}", i + 1)
    return int(word)


def read_rows(lines: Sequence[bytes], indices: Sequence[int], columns: int, what: str) -> np.ndarray:
    """Read lines (from 0) of `columns` numbers between blanks: float64 (len(indices), columns). `what` names such a
    line in errors."""
    rows = [lines[i] for i in indices if i < len(lines)]
    if rows:
        with suppress(ValueError):
            values = np.loadtxt(rows, comments=None, ndmin=2)
            if values.shape == (len(indices), columns):
                return values
    # Unusual or wrong: line by line, to find out.
    return np.array([read_row(lines, i, columns, what) for i in indices]).reshape(-1, columns)


def read_row(lines: Sequence[bytes], i: int, columns: int, what: str) -> list[float]:
    """Read one line, i (from 0), like `read_rows`."""
    words = _line(lines, i, what).split()
    if len(words) != columns:
        raise UserError(f"{what} has {columns} values, this line has {len(words)}", i + 1)
    return [_read_number(word, i + 1) for word in words]


def _line(lines: Sequence[bytes], i: int, what: str) -> bytes:
    if i >= len(lines):
        raise UserError(f"the file ends where {what} should stand: it is cut short", len(lines))
    return lines[i]


def _read_number(word: bytes, line: int) -> float:
    with suppress(ValueError):
        if b"_" not in word:  # Python alone reads 1_0 as a number
            return float(word)
    if _NOT_FINITE.fullmatch(word):
        return float("nan")
    raise UserError(f"not a number: {quote(word)}", line)


def quote(text: bytes) -> str:
    """Shorten a text for an error message, in ASCII."""
    return ascii(text[:40].decode("latin-1")) + ("..." if len(text) > 40 else "")
