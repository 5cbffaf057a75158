"""Read one NTU `.skeleton` text file (docs/method.md, 1).

The text holds the number of frames; then for each frame the number of bodies; and for each body a line of 10 values,
the number of joints, and a line of 12 values for each joint, x y z first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_gen.packed.words import counted
from data_gen.raw.number_lines import SkeletonError, read_count, read_row, read_rows, split_lines
from data_gen.skeletons import KINECT_V2

NUM_JOINTS = len(KINECT_V2.joints)
MAX_BODIES = 4  # bodies kept of each frame
JOINT_COLUMNS = 12
BODY_COLUMNS = 10
FARTHEST = 1e6  # metres; keeps float32 finite through every later step
# Far above any recording (300 frames of 6 bodies are 6 MB), far below what could exhaust memory.
MAX_BYTES = 32 * 2**20
MAX_FRAMES = 20_000  # eleven minutes


class _Body(NamedTuple):
    frame: int
    slot: int
    first: int  # line of its first joint, from 0


def parse_skeleton(text: bytes) -> np.ndarray:
    """Read the bodies of a recording: float64 (T, S, 25, 3) in metres, S = most bodies in a frame (at most 4).

    A body's slot is its position in the frame's list; slots without a body are zero. Raises SkeletonError, with the
    line, for text that is not exactly one well-formed recording. nan and inf are accepted in every column but x, y, z.
    """
    lines = split_lines(text, MAX_BYTES)
    num_frame = _read_num_frame(lines)
    bodies: list[_Body] = []
    try:
        _find_bodies(lines, num_frame, bodies)
    except SkeletonError:
        _read_joints(lines, bodies)  # raises first if an earlier line is wrong, perhaps missing
        raise
    xyz = _read_joints(lines, bodies)
    kept = np.array([body.slot < MAX_BODIES for body in bodies], bool)
    far = ~(np.abs(xyz) < FARTHEST) & kept[:, None, None]  # True for nan too
    if far.any():
        number, joint, _ = np.argwhere(far)[0].tolist()
        raise SkeletonError("x, y or z is not a finite number of metres", bodies[number].first + joint + 1)
    slots = [body.slot for body in bodies if body.slot < MAX_BODIES]
    result = np.zeros((num_frame, max(slots, default=-1) + 1, NUM_JOINTS, 3))
    for body, joints in zip(bodies, xyz):
        if body.slot < MAX_BODIES:
            result[body.frame, body.slot] = joints
    return result


def _read_num_frame(lines: list[bytes]) -> int:
    num_frame = read_count(lines, 0, "the number of frames")
    if num_frame == 0:
        raise SkeletonError("the recording has zero frames", 1)
    if num_frame > MAX_FRAMES:
        raise SkeletonError(f"{num_frame} frames are announced, more than the {MAX_FRAMES} of the longest", 1)
    if num_frame >= len(lines):
        raise SkeletonError(
            f"announces {counted(num_frame, 'frame')}, the file ends after {counted(len(lines), 'line')}", 1
        )
    return num_frame


def _find_bodies(lines: list[bytes], num_frame: int, bodies: list[_Body]) -> None:
    """Add every body to `bodies`, going from count to count. Checks all lines but those of joints: SkeletonError."""
    at = 1
    for frame in range(num_frame):
        num_body = read_count(lines, at, f"the number of bodies of frame {frame + 1} of {num_frame}")
        at += 1
        if num_body * (2 + NUM_JOINTS) > len(lines) - at:
            raise SkeletonError(
                f"frame {frame + 1} is cut short: {num_body} bodies, {len(lines) - at} lines", len(lines)
            )
        for slot in range(num_body):
            read_row(lines, at, BODY_COLUMNS, "a body")
            num_joint = read_count(lines, at + 1, "the number of joints")
            if num_joint != NUM_JOINTS:
                raise SkeletonError(f"a body has {NUM_JOINTS} joints, this one {num_joint}", at + 2)
            bodies.append(_Body(frame, slot, at + 2))
            at += 2 + NUM_JOINTS
    if at < len(lines):
        raise SkeletonError(f"text goes on after the last of {num_frame} frames", at + 1)


def _read_joints(lines: list[bytes], bodies: list[_Body]) -> np.ndarray:
    """Read x, y and z of every body's joints: float64 (bodies, 25, 3)."""
    wanted = [i for body in bodies for i in range(body.first, body.first + NUM_JOINTS)]
    return read_rows(lines, wanted, JOINT_COLUMNS, "a joint")[:, :3].reshape(-1, NUM_JOINTS, 3)
