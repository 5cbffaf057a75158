"""Read one recording, whatever kind of file holds it: NTU's text, a table of numbers, or a NumPy array.

NAME.csv         a line a frame: joint by joint x y z (or x y) of the first person, then of the second; a heading may
                 stand above
NAME.npy         floats (T, V, C) or (T, M, V, C)
NAME.skeleton    NTU's text, joints of Kinect v2
"""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np

from data_gen.packed.info import DataSetError, check_file, read_text
from data_gen.packed.reader import map_array
from data_gen.raw.number_lines import SkeletonError, quote
from data_gen.raw.skeleton_file import FARTHEST, MAX_BODIES, MAX_BYTES, MAX_FRAMES, parse_skeleton
from data_gen.skeletons import KINECT_V2, MAX_PEOPLE, SKELETONS, Skeleton

CSV, NPY, SKELETON = SUFFIXES = (".csv", ".npy", ".skeleton")
_SHORTEST_LINE = 20  # bytes, on average over a table
# People and coordinates, by the values that a frame has for each joint.
_FRAMES = {2: (1, 2), 3: (1, 3), 4: (2, 2), 6: (2, 3)}


def parse_recording(content: bytes, suffix: str, skeleton: Skeleton) -> np.ndarray:
    """Read a recording's bodies: floats (T, S, V, C), of the skeleton's V joints (`.skeleton`: of Kinect v2's).

    Raises SkeletonError, with the line of a text. Values may be nan or infinite in `.csv` and `.npy`.
    """
    if suffix == SKELETON:
        return parse_skeleton(content)
    return _parse_npy(content, skeleton) if suffix == NPY else _parse_csv(content, skeleton)


def as_bodies(array: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Take an array (T, V, C) or (T, M, V, C) as bodies (T, S, V, C) of the skeleton's joints. Raises SkeletonError."""
    return array.reshape(_npy_shape(array.dtype, array.shape, skeleton))


def check_values(people: np.ndarray) -> np.ndarray:
    """Return the bodies of a recording (T, S, V, C) if all are finite metres and there are not too many frames. Raises
    SkeletonError, with the frame."""
    if not 1 <= len(people) <= MAX_FRAMES:
        raise SkeletonError(f"has {len(people)} frames, of 1 to {MAX_FRAMES}")
    broken = np.flatnonzero(~np.isfinite(people).all(axis=(1, 2, 3)))
    if len(broken):
        raise SkeletonError(
            f"holds values that are not finite in {len(broken)} of its {len(people)} frames, the first of them frame "
            f"{broken[0]} (counted from 0)"
        )
    if people.size and np.abs(people).max() > FARTHEST:
        raise SkeletonError(f"holds values beyond {FARTHEST:.0e}")
    return people


def fill_gaps(people: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Interpolate values that are not finite, each between its neighbours in time, and at the ends as the nearest one.
    Returns the bodies (T, S, V, C), and the gaps: [start, stop) of frames with such values. A value that is nowhere
    finite stays as it is, in a gap of all frames."""
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
    """People, joints and coordinates of a frame of so many values, of one person or two; None where none fit."""
    joints = len(skeleton.joints)
    people, coordinates = _FRAMES.get(values / joints, (0, 0))  # type: ignore[call-overload]
    return (people, joints, coordinates) if people else None


def shape_of(path: Path, skeleton: Skeleton) -> tuple[int, int, int]:
    """The most people, joints and coordinates of the frames of a recording, of which only the start is read. Raises
    DataSetError."""
    if path.suffix == SKELETON:
        if skeleton != KINECT_V2:
            raise DataSetError(f"{path}: holds joints of kinect_v2, --skeleton says {skeleton.name}")
        return MAX_BODIES, len(skeleton.joints), 3
    try:
        if path.suffix == NPY:
            check_file(path, MAX_BYTES)
            array = map_array(path)
            return _npy_shape(array.dtype, array.shape, skeleton)[1:]
        return _csv_shape(read_text(path, MAX_BYTES, first_line=True).count(",") + 1, skeleton)
    except SkeletonError as error:
        raise DataSetError(f"{path}: {error}") from None


def _npy_shape(dtype: np.dtype, shape: tuple[int, ...], skeleton: Skeleton) -> tuple[int, int, int, int]:
    """Frames, people, joints and coordinates of an array. Raises SkeletonError."""
    full = (*shape[:1], 1, *shape[1:]) if len(shape) == 3 else shape
    if dtype.kind != "f" or len(full) != 4 or not 1 <= full[1] <= MAX_PEOPLE or full[3] not in (2, 3):
        raise SkeletonError(
            f"holds {dtype} {shape}, expected floats (T, V, 3) or (T, M, V, 3), or 2 in place of 3: time, people, "
            "joints, coordinates"
        )
    if full[2] != len(skeleton.joints):
        fitting = [name for name, other in SKELETONS.items() if len(other.joints) == full[2]]
        raise SkeletonError(
            f"has {full[2]} joints, {skeleton.name} {len(skeleton.joints)}: pass --skeleton{_suggested(fitting)}"
        )
    return full


def _csv_shape(columns: int, skeleton: Skeleton) -> tuple[int, int, int]:
    """People, joints and coordinates of a table's lines. Raises SkeletonError."""
    if found := frame_shape(columns, skeleton):
        return found
    fitting = [name for name, other in SKELETONS.items() if frame_shape(columns, other)]
    raise SkeletonError(
        f"has {columns} columns, {len(skeleton.joints)} joints of {skeleton.name} take 2 or 3 each, or twice that for "
        f"two people: pass --skeleton{_suggested(fitting)}"
    )


def _suggested(names: list[str]) -> str:
    return f" (it may be {' or '.join(names)})" if names else " (a JSON file, see docs/data.md)"


def _parse_npy(content: bytes, skeleton: Skeleton) -> np.ndarray:
    """An array (T, M, V, C), of which the header claims what there is, and no objects."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):  # a header of another version may claim gigabytes
            raise ValueError("not a .npy file of version 1.0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote it
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        expected, size = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
        if dtype.hasobject or size != expected:
            raise ValueError(f"its header tells of {expected} bytes of {dtype}, it has {size}")
    except Exception as error:  # the header is Python's text, and of a damaged one numpy raises all sorts of errors
        raise SkeletonError(f"cannot be read ({ascii(str(error))[1:-1]:.200})") from error
    _npy_shape(dtype, shape, skeleton)  # raises for what no values can be taken from
    values = np.frombuffer(content, dtype, offset=file.tell())
    return as_bodies(values.reshape(shape, order="F" if fortran_order else "C"), skeleton)


def _parse_csv(content: bytes, skeleton: Skeleton) -> np.ndarray:
    """The numbers of a table, float64 (T, M, V, C); a first line that holds none is a heading."""
    if content.count(b"\n") > 2**16 + len(content) // _SHORTEST_LINE:  # a list of them would take much memory
        raise SkeletonError("its lines are too many and too short for a recording")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkeletonError(f"cannot be read ({error})") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    columns = lines[0][1].count(",") + 1 if lines else 1
    shape = _csv_shape(columns, skeleton)
    if not any(map(_is_number, lines[0][1].split(","))):
        del lines[0]
    if not lines:
        raise SkeletonError("holds no frames")
    for number, line in lines:
        if line.count(",") + 1 != columns:
            raise SkeletonError(f"has {line.count(',') + 1} values, the first line {columns}", number)
    try:
        values = np.loadtxt([line for _, line in lines], delimiter=",", comments=None, ndmin=2)
    except ValueError:  # which tells of rows, not of lines
        wrong = ((number, value) for number, line in lines for value in line.split(",") if not _is_number(value))
        number, value = next(wrong)
        raise SkeletonError(f"{quote(value.strip().encode())} is no number", number) from None
    return values.reshape(len(values), *shape)


def _is_number(text: str) -> bool:
    try:
        return bool(text.strip()) and np.loadtxt([text], delimiter=",", comments=None, ndmin=1) is not None
    except ValueError:
        return False
