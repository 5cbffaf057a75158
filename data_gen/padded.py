"""The padded arrays of related projects, into a packed data set.

A folder holds, for `train` and for `val`,

    {side}_data_joint.npy  float32 (N, 3, T, 25, 2)   normalised, T = 300 in all that is known
    {side}_num_frame.npy   integers (N,)              of the T frames, how many are the recording's
    {side}_label.pkl       (names, labels)            or {side}_label.npy, integers (N,): labels count from 0
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_gen.datasets import DataSet, Protocol
from data_gen.normalise import NUM_PEOPLE
from data_gen.ntu_gendata import derive_splits
from data_gen.packed import SIDES, DataSetError, map_array, packing
from data_gen.recordings import SUFFIX
from data_gen.safe_pickle import load_labels
from data_gen.skeleton_file import NUM_JOINTS, RecordingName, SkeletonError, parse_name
from data_gen.skeletons import KINECT_V2

_OFF_CENTRE = 1e-3  # metres; normalised data has zeros there


@dataclass(frozen=True)
class _Side:
    """One side's files, checked but for the joints: `data` (N, 3, T, 25, 2) is memory-mapped, the rest is (N,)."""

    side: str
    path: Path
    data: np.ndarray
    num_frame: list[int]
    labels: list[int]
    names: list[str] | None  # without the suffix; None where the labels come without

    def people(self, row: int) -> np.ndarray:
        """One recording: float32 (T, 2, 25, 3). Raises DataSetError where it is not finite or not normalised."""
        people = np.ascontiguousarray(self.data[row, :, : self.num_frame[row]].transpose(1, 3, 2, 0))
        what = f"{self.path}: recording {row}" + (f" ({self.names[row]})" if self.names else "")
        if not np.isfinite(people).all():
            raise DataSetError(f"{what} holds values that are not finite")
        if np.abs(people[:, 0, KINECT_V2.centre]).max() > _OFF_CENTRE:
            raise DataSetError(f"{what} is not centred on the first person's spine: convert the raw recordings instead")
        return people


def import_padded(dataset: DataSet, protocol: Protocol, folder: Path, out: Path) -> dict:
    """Write the padded arrays in `folder`, split by `protocol`, as the packed data set `out`; returns its info.

    With names, all recordings of both sides are split by every protocol of the data set; without, they keep the
    folder's own split alone. Raises DataSetError for arrays that are not what they should be; an earlier data set in
    `out` then stays as it was.
    """
    suffix = ".pkl" if (folder / "train_label.pkl").exists() else ".npy"
    sides = [_read_side(folder, side, suffix) for side in SIDES]
    if suffix == ".pkl":
        numbers = _check_names(dataset, protocol, sides)
    else:
        _check_labels(dataset, sides)
    rows = sorted(
        (side.names[row] if side.names else f"{side.side}_{row:06d}", side.side, row)
        for side in sides
        for row in range(len(side.labels))
    )
    if suffix == ".pkl":
        splits = derive_splits(dataset, [numbers[name] for name, _, _ in rows])
    else:
        splits = {protocol.name: {s: [i for i, (_, side, _) in enumerate(rows) if side == s] for s in SIDES}}
    info = {
        "dataset": dataset.name,
        "title": dataset.title,
        "classes": dataset.classes,
        "made": {"padded": str(folder), "protocol": protocol.name},
    }
    by_name = {side.side: side for side in sides}
    with packing(out) as writer:
        for name, side, row in tqdm(rows, desc="import", unit="recording", disable=not sys.stderr.isatty()):
            writer.add(name, by_name[side].labels[row], by_name[side].people(row))
        info |= writer.counts(splits)
        writer.finish(splits, info)
    return info


def _read_side(folder: Path, side: str, suffix: str) -> _Side:
    """The files of one side; the joints are looked at later. Raises DataSetError."""
    path = folder / f"{side}_data_joint.npy"
    data = map_array(path)
    if data.dtype != np.float32 or data.ndim != 5 or data.shape[1:2] + data.shape[3:] != (3, NUM_JOINTS, NUM_PEOPLE):
        raise DataSetError(f"{path}: holds {data.dtype} {data.shape}, expected float32 (N, 3, 300, 25, 2)")
    if not len(data):
        raise DataSetError(f"{path}: holds no recordings")
    num_frame = _read_integers(folder / f"{side}_num_frame.npy", len(data))
    for row, number in enumerate(num_frame):
        if not 1 <= number <= data.shape[2]:
            raise DataSetError(
                f"{folder / f'{side}_num_frame.npy'}: recording {row} has {number} frames, of 1 to {data.shape[2]}"
            )
    label_path = folder / f"{side}_label{suffix}"
    if suffix == ".npy":
        return _Side(side, path, data, num_frame, _read_integers(label_path, len(data)), None)
    names, labels = load_labels(label_path)
    if len(names) != len(data):
        raise DataSetError(f"{label_path}: holds {len(names)} names, {path.name} {len(data)} recordings")
    return _Side(side, path, data, num_frame, labels, [name.removesuffix(SUFFIX) for name in names])


def _read_integers(path: Path, expected: int) -> list[int]:
    values = map_array(path)
    if values.dtype.kind not in "iu" or values.shape != (expected,):
        raise DataSetError(f"{path}: holds {values.dtype} {values.shape}, expected integers ({expected},)")
    return values.tolist()


def _check_names(dataset: DataSet, protocol: Protocol, sides: list[_Side]) -> dict[str, RecordingName]:
    """Names in numbers. Refuses names that are none, labels and sides that do not agree with them."""
    numbers: dict[str, RecordingName] = {}
    for side in sides:
        path = side.path.with_name(f"{side.side}_label.pkl")
        actions = []
        for name in side.names or []:
            shown = ascii(name[:80])
            try:
                number = parse_name(name if name.isascii() else "")
            except SkeletonError as error:
                raise DataSetError(f"{path}: {shown}: {error.reason}") from None
            if not dataset.covers(number):
                raise DataSetError(f"{path}: {shown} is no recording of {dataset.title}")
            if name in numbers:
                raise DataSetError(f"{path}: {shown} stands there, or on the other side, a second time")
            belongs = "train" if protocol.trains_on(number) else "val"
            if belongs != side.side:
                raise DataSetError(f"{path}: {shown} belongs to {belongs} in {protocol.long_name} ({protocol.name})")
            numbers[name] = number
            actions.append(number.action)
        if side.labels == actions:
            raise _one_based(path)
        for name, label, action in zip(side.names or [], side.labels, actions):
            if label != action - 1:
                raise DataSetError(f"{path}: {name} has label {label}, its action − 1 is {action - 1}")
    return numbers


def _check_labels(dataset: DataSet, sides: list[_Side]) -> None:
    """Refuse labels, of which no names tell what they should be, outside the classes."""
    labels = [label for side in sides for label in side.labels]
    for side in sides:
        path = side.path.with_name(f"{side.side}_label.npy")
        for row, label in enumerate(side.labels):
            if label == dataset.classes and min(labels) == 1 and max(labels) == label:
                raise _one_based(path)
            if not 0 <= label < dataset.classes:
                raise DataSetError(f"{path}: recording {row} has label {label}, of 0 to {dataset.classes - 1}")


def _one_based(path: Path) -> DataSetError:
    return DataSetError(
        f"{path}: the labels count from 1, they must count from 0 (action − 1); subtract 1 and save them"
    )
