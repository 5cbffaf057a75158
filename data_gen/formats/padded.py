"""Read and write the padded arrays of UmURL and related projects. A folder holds, for `train` and for `val`,

{side}_data_joint.npy  float32 (N, C, T, V, M)   normalised; T = 300 in all known files
{side}_num_frame.npy   integers (N,)             number of valid frames of the T
{side}_label.pkl       (names, labels)           or {side}_label.npy, integers (N,); labels count from 0
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, sides_of
from data_gen.formats.export import check_lengths, staging
from data_gen.formats.pickles import load_labels
from data_gen.packed.reader import SIDES, PackedDataset
from data_gen.raw.recording_files import SKELETON
from data_gen.skeletons import MAX_PEOPLE, Skeleton
from utils.errors import UserError
from utils.files import read_array


def read_padded(folder: Path, protocol: str, skeleton: Skeleton) -> Source:
    """Read the padded arrays in `folder`, split by `protocol`. Raises UserError if they are invalid."""
    suffix = ".pkl" if (folder / "train_label.pkl").exists() else ".npy"
    entries: list[Entry] = []
    shapes = set()
    for side in SIDES:
        path, label_path = folder / f"{side}_data_joint.npy", folder / f"{side}_label{suffix}"
        data, num_frame = _read_data(folder, side, skeleton)
        shapes.add((data.shape[4], data.shape[3], data.shape[1]))
        names, labels = _read_labels(label_path, side, path, len(data))
        for row, (name, label) in enumerate(zip(names, labels)):
            called = f"recording {row}" + (f" ({name})" if suffix == ".pkl" else "")
            content = data[row, :, : num_frame[row]].transpose(1, 3, 2, 0)
            entries.append(Entry(name, label, label_path, path, called, content, side))
    if len(shapes) > 1:
        raise UserError(f"{folder}: train and val have other people, joints or coordinates: {sorted(shapes)}")
    entries = in_order(entries)
    return Source(
        "padded",
        folder,
        skeleton,
        shapes.pop(),
        entries,
        {protocol: sides_of(entries)},
        lambda entry: entry.content,
        named=suffix == ".pkl",
        made={"protocol": protocol},
    )


def _read_data(folder: Path, side: str, skeleton: Skeleton) -> tuple[np.ndarray, list[int]]:
    """Return one side's joints (N, C, T, V, M), memory-mapped and not yet checked, and numbers of frames. Raises
    UserError if shapes or numbers of frames are invalid."""
    path, frame_path, joints = folder / f"{side}_data_joint.npy", folder / f"{side}_num_frame.npy", len(skeleton.joints)
    data = read_array(path)
    right = data.dtype == np.float32 and data.ndim == 5 and data.shape[1] in (2, 3) and data.shape[3] == joints
    if not right or not 1 <= data.shape[4] <= MAX_PEOPLE:
        raise UserError(
            f"{path}: holds {data.dtype} {data.shape}, expected float32 (N, 3, 300, {joints}, 2) for the skeleton "
            f"{skeleton.name}; see --skeleton"
        )
    if not len(data):
        raise UserError(f"{path}: holds no recordings")
    num_frame = _read_integers(frame_path, len(data))
    for row, number in enumerate(num_frame):
        if not 1 <= number <= data.shape[2]:
            raise UserError(f"{frame_path}: recording {row} has {number} frames, of 1 to {data.shape[2]}")
    return data, num_frame


def _read_labels(path: Path, side: str, data_path: Path, count: int) -> tuple[list[str], list[int]]:
    """Read one side's names and labels; make names up if the labels are a .npy. Raises UserError if they are
    invalid."""
    if path.suffix == ".npy":
        return [f"{side}_{row:06d}" for row in range(count)], _read_integers(path, count)
    names, labels = load_labels(path)
    if len(names) != count:
        raise UserError(f"{path}: holds {len(names)} names, {data_path.name} {count} recordings")
    return [name.removesuffix(SKELETON) for name in names], labels


def _read_integers(path: Path, expected: int) -> list[int]:
    values = read_array(path)
    if values.dtype.kind not in "iu" or values.shape != (expected,):
        raise UserError(f"{path}: holds {values.dtype} {values.shape}, expected integers ({expected},)")
    return values.tolist()


def export_padded(packed: PackedDataset, protocol: str, num_frame: int, out: Path) -> list[Path]:
    """Write both sides of a protocol into the folder `out` as padded arrays of `num_frame` frames. Return the files.

    As in the published converter, a recording's frames are repeated until the array is full. Raises UserError if a
    recording is longer, or a side is empty.
    """
    people, joints, coordinates = packed.shape
    indices = {side: check_lengths(packed, protocol, side, num_frame) for side in SIDES}
    with staging(out) as folder:
        for side, chosen in indices.items():
            path = folder / f"{side}_data_joint.npy"
            shape = (len(chosen), coordinates, num_frame, joints, people)
            data = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            if hasattr(os, "posix_fallocate"):  # otherwise a full disk would crash the process with a bus error
                with open(path, "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            for row, index in enumerate(chosen):
                clip = packed.recording(index)
                data[row] = clip[np.arange(num_frame) % len(clip)].transpose(3, 0, 2, 1)
            data.flush()
            np.save(folder / f"{side}_num_frame.npy", packed.num_frame[chosen])
            labels: Any = ([f"{name}{SKELETON}" for name in packed.names[chosen]], packed.label[chosen].tolist())
            (folder / f"{side}_label.pkl").write_bytes(pickle.dumps(labels, protocol=2))
        return sorted(out / path.name for path in folder.iterdir())
