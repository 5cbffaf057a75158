"""Read one recording from a file of any accepted format.

NAME.csv         one line per frame: x y z (or x y) of each joint of the first person, then of the second; an optional
                 heading
NAME.npy         floats (T, V, C) or (T, M, V, C)
NAME.skeleton    NTU's text format, joints of Kinect v2
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from data_gen.packed.info import DataSetError, check_file, read_text
from data_gen.packed.npy import read_header
from data_gen.packed.reader import map_array
from data_gen.packed.words import counted
from data_gen.raw.number_lines import SkeletonError, quote
from data_gen.raw.skeleton_file import FARTHEST, MAX_BODIES, MAX_BYTES, MAX_FRAMES, parse_skeleton
from data_gen.skeletons import KINECT_V2, MAX_PEOPLE, SKELETONS, Skeleton

CSV, NPY, SKELETON = SUFFIXES = (".csv", ".npy", ".skeleton")
_EMPTY = re.compile(r"(?:^|(?<=,))\s*(?=,|$)")  # a cell of a table
_CROWD = 10  # people; more of them than frames are rather frames
_SHORTEST_LINE = 20  # bytes, on average over a table
# Values per joint in a frame: (people, coordinates).
_FRAMES = {2: (1, 2), 3: (1, 3), 4: (2, 2), 6: (2, 3)}


def parse_recording(content: bytes, suffix: str, skeleton: Skeleton) -> np.ndarray:
    """Return a recording's bodies: floats (T, S, V, C) for the skeleton's V joints (`.skeleton`: of Kinect v2).

    Values from `.csv` and `.npy` may be nan or infinite. Raises SkeletonError, for text with the line, if the content
    is invalid.
    """
    if suffix == SKELETON:
        return parse_skeleton(content)
    return _parse_npy(content, skeleton) if suffix == NPY else _parse_csv(content, skeleton)


def as_bodies(array: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Reshape an array (T, V, C) or (T, M, V, C) to bodies (T, S, V, C). Raises SkeletonError if the array does not
    fit the skeleton."""
    return array.reshape(npy_shape(array.dtype, array.shape, skeleton))


def check_values(people: np.ndarray) -> np.ndarray:
    """Return the bodies (T, S, V, C) unchanged. Raises SkeletonError if a value is not finite (naming the first frame)
    or too large, or if there are no or too many frames."""
    if not 1 <= len(people) <= MAX_FRAMES:
        raise SkeletonError(f"has {len(people)} frames, of 1 to {MAX_FRAMES}")
    broken = np.flatnonzero(~np.isfinite(people).all(axis=(1, 2, 3)))
    if len(broken):
        frames = counted(len(people), "frame")
        raise SkeletonError(
            f"holds values that are not finite in {len(broken)} of its {frames}, the first of them frame {broken[0]} "
            f"(counted from 0); import_dataset --repair N fills gaps of up to N frames"
        )
    if people.size and float(np.abs(people).max()) > FARTHEST:
        raise SkeletonError(f"holds values beyond {FARTHEST:.0e}")
    return people


def fill_gaps(people: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Replace values that are not finite by linear interpolation in time, or at the ends by the nearest finite value.
    Return the bodies (T, S, V, C) and the gaps, [start, stop) of frames with such values. A value that is finite in no
    frame stays unchanged; its gap covers all frames."""
    finite = np.isfinite(people)
    broken = ~finite.all(axis=(1, 2, 3))
    if not broken.any():
        return people, []
    filled, known = people.reshape(len(people), -1).astype(np.float64), finite.reshape(len(people), -1)
    time = np.arange(len(people))
    for column in np.flatnonzero(~known.all(0) & known.any(0)):
        at = known[:, column]
        filled[:, column] = np.interp(time, time[at], filled[at, column])
    edges = np.flatnonzero(np.diff(broken, prepend=False, append=False))
    return filled.reshape(people.shape), list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def frame_shape(values: int, skeleton: Skeleton) -> tuple[int, int, int] | None:
    """Return people (1 or 2), joints and coordinates of a frame with this number of values; None if none fit."""
    joints = len(skeleton.joints)
    people, coordinates = _FRAMES.get(values / joints, (0, 0))  # type: ignore[call-overload]
    return (people, joints, coordinates) if people else None


def shape_of(path: Path, skeleton: Skeleton) -> tuple[int, int, int]:
    """Return the largest number of people, the joints and the coordinates of a recording; read only its start. Raises
    DataSetError if it is invalid or has another skeleton."""
    suffix = path.suffix.lower()
    if suffix == SKELETON:
        if skeleton != KINECT_V2:
            raise DataSetError(f"{path}: holds joints of kinect_v2, --skeleton says {skeleton.name}")
        return MAX_BODIES, len(skeleton.joints), 3
    try:
        if suffix == NPY:
            check_file(path, MAX_BYTES)
            array = map_array(path)
            return npy_shape(array.dtype, array.shape, skeleton)[1:]
        return csv_shape(read_text(path, MAX_BYTES, first_line=True), skeleton)
    except SkeletonError as error:
        raise DataSetError(f"{path}: {error}") from None


def npy_shape(dtype: np.dtype, shape: tuple[int, ...], skeleton: Skeleton) -> tuple[int, int, int, int]:
    """Return frames, people, joints and coordinates of an array. Raises SkeletonError if it does not fit."""
    joints, hint = len(skeleton.joints), ""
    if dtype.kind == "f" and len(shape) in (3, 4):
        if full := _bodies(shape, joints):
            return full
        orders = [
            order for order in permutations(range(len(shape))) if _bodies([shape[axis] for axis in order], joints)
        ]
        if orders:
            fewest = min(orders, key=lambda order: shape[order[1]])  # rather two people than two coordinates
            hint = f"; np.transpose(array, {fewest}) would fit"
        elif _bodies(shape, shape[-2]):
            fitting = [name for name, other in SKELETONS.items() if len(other.joints) == shape[-2]]
            raise SkeletonError(
                f"has {shape[-2]} joints, {skeleton.name} {joints}: pass --skeleton{_suggested(fitting)}"
            )
    raise SkeletonError(
        f"holds {dtype} {shape}, expected floats (T, {joints}, 3) or (T, M, {joints}, 3), or 2 in place of 3: time, "
        f"people, joints, coordinates{hint}"
    )


def _bodies(shape: Sequence[int], joints: int) -> tuple[int, int, int, int] | None:
    """Return (T, M, V, C) of an array (T, V, C) or (T, M, V, C), or None if it cannot be one."""
    frames, people, (v, c) = shape[0], shape[1] if len(shape) == 4 else 1, shape[-2:]
    is_one = v == joints and c in (2, 3) and 1 <= people <= min(MAX_PEOPLE, max(frames, _CROWD))
    return (frames, people, v, c) if is_one else None


def csv_shape(line: str, skeleton: Skeleton) -> tuple[int, int, int]:
    """Return people, joints and coordinates of a table's lines, by the first one. Raises SkeletonError if they do not
    fit the skeleton, or if this line is a heading that names them in another order."""
    columns = line.count(",") + 1
    if found := frame_shape(columns, skeleton):
        if re.search("[a-df-z]", line, re.IGNORECASE):  # an e stands in numbers
            _check_heading(line, skeleton, found[2])
        return found
    if ";" in line or "\t" in line or (columns == 1 and " " in line.strip()):
        raise SkeletonError("its values must stand between commas, not semicolons, tabs or blanks")
    fitting = [name for name, other in SKELETONS.items() if frame_shape(columns, other)]
    raise SkeletonError(
        f"has {counted(columns, 'column')}, {len(skeleton.joints)} joints of {skeleton.name} take 2 or 3 each, or "
        f"twice that for two people: pass --skeleton{_suggested(fitting)}"
    )


def _suggested(names: list[str]) -> str:
    return f" (it may be {' or '.join(names)})" if names else " (a JSON file, see docs/data.md)"


def _parse_npy(content: bytes, skeleton: Skeleton) -> np.ndarray:
    """Parse an array (T, M, V, C). Raises SkeletonError if it holds objects, or another size than its header says."""
    file = io.BytesIO(content)
    try:
        header = read_header(file, len(content))
    except ValueError as error:
        raise SkeletonError(f"cannot be read ({error})") from error
    shape = npy_shape(header.dtype, header.shape, skeleton)  # before values of an unsuitable dtype or shape are read
    return header.array(memoryview(content)[file.tell() :]).reshape(shape)


def _parse_csv(content: bytes, skeleton: Skeleton) -> np.ndarray:
    """Parse a table: float64 (T, M, V, C). A first line without numbers is a heading; an empty cell is nan. Raises
    SkeletonError, if possible with the line, if the table is invalid."""
    if content.count(b"\n") > 2**16 + len(content) // _SHORTEST_LINE:  # a list of the lines would take too much memory
        raise SkeletonError("its lines are too many and too short for a recording")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkeletonError(f"cannot be read ({error})") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    columns = lines[0][1].count(",") + 1 if lines else 1
    shape = csv_shape(lines[0][1] if lines else "", skeleton)
    if not any(map(_is_number, lines[0][1].split(","))):
        del lines[0]
    if not lines:
        raise SkeletonError("holds no frames")
    for number, line in lines:
        if line.count(",") + 1 != columns:
            raise SkeletonError(f"has {counted(line.count(',') + 1, 'value')}, the first line {columns}", number)
    texts = [line for _, line in lines]
    try:
        values = _to_numbers(texts)
    except ValueError:  # it names the row, not the line
        try:
            values = _to_numbers([_EMPTY.sub("nan", line) for line in texts])
        except ValueError:
            wrong = ((n, v.strip()) for n, line in lines for v in line.split(",") if v.strip() and not _is_number(v))
            number, value = next(wrong)
            raise SkeletonError(f"{quote(value.encode())} is no number", number) from None
    return values.reshape(len(values), *shape)


def _check_heading(line: str, skeleton: Skeleton, coordinates: int) -> None:
    """Raise SkeletonError if a line names axes or joints of the skeleton in another order than values are read."""
    cells = line.lower().split(",")
    words = [re.findall(r"[a-z]+|\d+", cell) or [""] for cell in cells]
    axes = set("xyz"[:coordinates])
    place = next((place for place in (-1, 0) if {found[place] for found in words} == axes), None)  # hip_x or x1
    joints = [re.findall(r"[a-z]+|\d+", joint) for joint in skeleton.joints]
    for i, found in enumerate(words):
        joint, axis = joints[i // coordinates % len(joints)], "xyz"[i % coordinates]
        named = [word for at, word in enumerate(found) if place is None or at != place % len(found)]
        named = named[1:] if named not in joints and named[1:] in joints else named  # behind the person's number
        if (place is not None and found[place] != axis) or (named in joints and named != joint):
            raise SkeletonError(
                f"its heading has {quote(cells[i].strip().encode())} where {axis} of {'_'.join(joint)} is read: order "
                "the columns joint by joint, x y z of each (docs/data.md)"
            )


def _to_numbers(lines: list[str]) -> np.ndarray:
    return np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)


def _is_number(text: str) -> bool:
    try:
        return bool(text.strip()) and _to_numbers([text]) is not None
    except ValueError:
        return False
