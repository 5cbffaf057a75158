"""Read one recording from a file of any accepted format.

NAME.csv         one line per frame: x y z (or x y) of each joint of the first person, then of the second; an optional
                 heading
NAME.npy         floats (T, V, C) or (T, M, V, C)
NAME.skeleton    NTU's text format, joints of Kinect v2
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import permutations
from pathlib import Path

import numpy as np

from data_gen.raw.skeleton_file import MAX_BODIES, quote
from data_gen.skeletons import KINECT_V2, SKELETONS, Skeleton
from utils.errors import UserError
from utils.files import read_array, reading
from utils.text import counted

CSV, NPY, SKELETON = SUFFIXES = (".csv", ".npy", ".skeleton")
_CROWD = 10  # people; more of them than frames are rather frames


def parse_table(content: bytes, suffix: str, skeleton: Skeleton) -> np.ndarray:
    """Return the bodies in a `.csv` or `.npy` recording: floats (T, S, V, C), perhaps nan or infinite."""
    if suffix == CSV:
        return _parse_csv(content.decode("utf-8-sig"), skeleton)
    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array.reshape(npy_shape(array.dtype, array.shape, skeleton))


def shape_of(path: Path, skeleton: Skeleton) -> tuple[int, int, int]:
    """Return the largest number of people, the joints and the coordinates of a recording; read only its start."""
    suffix = path.suffix.lower()
    with reading(path):
        if suffix == SKELETON:
            if skeleton != KINECT_V2:
                raise UserError(f"holds joints of kinect_v2, --skeleton says {skeleton.name}")
            return MAX_BODIES, len(skeleton.joints), 3
        if suffix == NPY:
            array = read_array(path)
            return npy_shape(array.dtype, array.shape, skeleton)[1:]
        with open(path, encoding="utf-8-sig") as file:
            return csv_shape(file.readline(), skeleton)


# ---- values ----------------------------------------------------------------------------------------------------------


def fill_gaps(people: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Replace non-finite values by linear interpolation in time, or at the ends by the nearest finite value. Return the
    bodies (T, S, V, C) and the gaps, [start, stop) of frames with such values. A value that is finite in no frame stays
    unchanged; its gap covers all frames."""
    finite = np.isfinite(people)
    broken = ~finite.all(axis=(1, 2, 3))
    if not broken.any():
        return people, []
    filled, usable = people.reshape(len(people), -1).astype(np.float64), finite.reshape(len(people), -1)
    time = np.arange(len(people))
    for column in np.flatnonzero(~usable.all(0) & usable.any(0)):
        at = usable[:, column]
        filled[:, column] = np.interp(time, time[at], filled[at, column])
    edges = np.flatnonzero(np.diff(broken, prepend=False, append=False))
    return filled.reshape(people.shape), list(zip(edges[::2].tolist(), edges[1::2].tolist()))


# ---- shapes ----------------------------------------------------------------------------------------------------------


def frame_shape(values: int, skeleton: Skeleton) -> tuple[int, int, int] | None:
    """Return people (1 or 2), joints and coordinates of a frame with this number of values; None if none fit."""
    joints = len(skeleton.joints)
    for people, coordinates in ((1, 2), (1, 3), (2, 2), (2, 3)):
        if values == people * joints * coordinates:
            return people, joints, coordinates
    return None


def npy_shape(dtype: np.dtype, shape: tuple[int, ...], skeleton: Skeleton) -> tuple[int, int, int, int]:
    """Return frames, people, joints and coordinates of an array."""
    joints, hint = len(skeleton.joints), ""
    if dtype.kind == "f" and len(shape) in (3, 4):
        if bodies := _bodies(shape, joints):
            return bodies
        orders = permutations(range(len(shape)))
        fitting = [order for order in orders if _bodies([shape[axis] for axis in order], joints)]
        if fitting:
            fewest = min(fitting, key=lambda order: shape[order[1]])  # rather two people than two coordinates
            hint = f"; np.transpose(array, {fewest}) would fit"
        elif _bodies(shape, shape[-2]):
            names = [name for name, other in SKELETONS.items() if len(other.joints) == shape[-2]]
            raise UserError(f"has {shape[-2]} joints, {skeleton.name} {joints}: pass --skeleton{_suggested(names)}")
    raise UserError(
        f"holds {dtype} {shape}, expected floats (T, {joints}, 3) or (T, M, {joints}, 3), or 2 in place of 3: time, "
        f"people, joints, coordinates{hint}"
    )


def _bodies(shape: Sequence[int], joints: int) -> tuple[int, int, int, int] | None:
    """Return (T, M, V, C) of an array (T, V, C) or (T, M, V, C), or None if it cannot be one."""
    frames, people, (v, c) = shape[0], shape[1] if len(shape) == 4 else 1, shape[-2:]
    is_one = v == joints and c in (2, 3) and 1 <= people <= max(frames, _CROWD)
    return (frames, people, v, c) if is_one else None


def csv_shape(line: str, skeleton: Skeleton) -> tuple[int, int, int]:
    """Return people, joints and coordinates of a table's lines, by the first one, which may be a heading."""
    columns = line.count(",") + 1
    if shape := frame_shape(columns, skeleton):
        if re.search("[a-df-z]", line, re.IGNORECASE):  # an e stands in numbers
            _check_heading(line, skeleton, shape[2])
        return shape
    if re.search("[;\t]", line) or (columns == 1 and " " in line.strip()):
        raise UserError("its values must stand between commas, not semicolons, tabs or blanks")
    names = [name for name, other in SKELETONS.items() if frame_shape(columns, other)]
    raise UserError(
        f"has {counted(columns, 'column')}, {len(skeleton.joints)} joints of {skeleton.name} take 2 or 3 each, or "
        f"twice that for two people: pass --skeleton{_suggested(names)}"
    )


def _suggested(names: list[str]) -> str:
    return f" (it may be {' or '.join(names)})" if names else " (a JSON file, see docs/data.md)"


# ---- tables ----------------------------------------------------------------------------------------------------------


def _parse_csv(text: str, skeleton: Skeleton) -> np.ndarray:
    """Parse a table: float64 (T, M, V, C). A first line without numbers is a heading; an empty cell is nan."""
    lines = [(number, line.split(",")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    heading = lines[0][1] if lines else []
    shape = csv_shape(",".join(heading), skeleton)
    if not any(map(_is_number, heading)):
        del lines[0]
    if not lines:
        raise UserError("holds no frames")
    rows = []
    for number, cells in lines:
        if len(cells) != len(heading):
            raise UserError(f"has {counted(len(cells), 'value')}, the first line {len(heading)}", number)
        try:
            rows.append([float(cell) if cell.strip() else math.nan for cell in cells])
        except ValueError as error:
            raise UserError(str(error), number) from None
    return np.array(rows).reshape(len(rows), *shape)


def _check_heading(line: str, skeleton: Skeleton, coordinates: int) -> None:
    """Raise UserError if a line names axes or joints of the skeleton in another order than values are read."""
    cells = line.lower().split(",")
    words = [re.findall(r"[a-z]+|\d+", cell) or [""] for cell in cells]
    axes = set("xyz"[:coordinates])
    place = next((place for place in (-1, 0) if {some[place] for some in words} == axes), None)  # hip_x or x1
    joints = [re.findall(r"[a-z]+|\d+", joint) for joint in skeleton.joints]
    for i, some in enumerate(words):
        joint, axis = joints[i // coordinates % len(joints)], "xyz"[i % coordinates]
        name = [word for at, word in enumerate(some) if place is None or at != place % len(some)]
        name = name[1:] if name not in joints and name[1:] in joints else name  # behind the person's number
        if (place is not None and some[place] != axis) or (name in joints and name != joint):
            raise UserError(
                f"its heading has {quote(cells[i].strip().encode())} where {axis} of {'_'.join(joint)} is read: order "
                "the columns joint by joint, x y z of each (docs/data.md)"
            )


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False
