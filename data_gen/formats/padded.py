"""Read and write the padded arrays of UmURL and related projects. A folder holds, for `train` and for `val`,

{split}_data_joint.npy  float32 (N, C, T, V, M)   normalised; T = 300 in all known files
{split}_num_frame.npy   integers (N,)             number of valid frames of the T
{split}_label.pkl       (names, labels)           or {split}_label.npy, integers (N,); labels count from 0
"""

from __future__ import annotations

import pickle
from operator import index
from pathlib import Path

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, numbered_names
from data_gen.formats.export import check_lengths, staging, write_rows
from data_gen.formats.pickles import as_list, load_pickle
from data_gen.packed.reader import SPLITS, PackedDataset
from data_gen.packed.writer import by_split
from data_gen.raw.recording_files import SKELETON
from data_gen.skeletons import Skeleton
from utils.errors import UserError
from utils.files import read_array, reading


def read_padded(folder: Path, protocol: str, skeleton: Skeleton) -> Source:
    """Read the padded arrays in `folder`, split by `protocol`."""
    suffix = ".pkl" if (folder / "train_label.pkl").exists() else ".npy"
    entries: list[Entry] = []
    shapes = set()
    for split in SPLITS:
        path, table = folder / f"{split}_data_joint.npy", folder / f"{split}_label{suffix}"
        data = _read_data(path, skeleton)
        shapes.add((data.shape[4], data.shape[3], data.shape[1]))
        num_frame = _read_num_frame(folder / f"{split}_num_frame.npy", len(data), data.shape[2])
        names, labels = _read_labels(table, split, len(data))
        for row, (name, label) in enumerate(zip(names, labels)):
            content = data[row, :, : num_frame[row]].transpose(1, 3, 2, 0)
            entries.append(Entry(name, label, table, f"{path}: recording {row} ({name})", content, split))
    if len(shapes) > 1:
        raise UserError(f"{folder}: train and val differ in people, joints or coordinates: {sorted(shapes)}")
    entries = in_order(entries)
    return Source(
        "padded",
        folder,
        skeleton,
        shapes.pop(),
        entries,
        {protocol: by_split(entry.split for entry in entries)},
        lambda entry: entry.content,
        named=suffix == ".pkl",
        made={"protocol": protocol},
    )


def _read_data(path: Path, skeleton: Skeleton) -> np.ndarray:
    """Memory-map one split's joints (N, C, T, V, M)."""
    data, joints = read_array(path), len(skeleton.joints)
    if data.dtype != np.float32 or data.ndim != 5 or data.shape[1] not in (2, 3) or data.shape[3] != joints:
        raise UserError(
            f"{path}: holds {data.dtype} {data.shape}, expected float32 (N, 3, 300, {joints}, 2) for the skeleton "
            f"{skeleton.name}; see --skeleton"
        )
    if not data.size:
        raise UserError(f"{path}: holds no recordings")
    return data


def _read_num_frame(path: Path, count: int, longest: int) -> list[int]:
    num_frame = _read_integers(path, count)
    for row, number in enumerate(num_frame):
        if not 1 <= number <= longest:
            raise UserError(f"{path}: recording {row} has {number} frames, outside 1 to {longest}")
    return num_frame


def _read_labels(path: Path, split: str, count: int) -> tuple[list[str], list[int]]:
    """Read one split's names and labels; make names up if the labels are a .npy."""
    if path.suffix == ".npy":
        return numbered_names(split, count), _read_integers(path, count)
    pair = load_pickle(path)
    with reading(path):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UserError("is not a pair (names, labels)")
        names = [str(name).removesuffix(SKELETON) for name in as_list(pair[0])]
        labels = [index(label) for label in as_list(pair[1])]
        if not len(names) == len(labels) == count:
            raise UserError(f"holds {len(names)} names and {len(labels)} labels of {count} recordings")
        return names, labels


def _read_integers(path: Path, count: int) -> list[int]:
    values = read_array(path)
    if values.dtype.kind not in "iu" or values.shape != (count,):
        raise UserError(f"{path}: holds {values.dtype} {values.shape}, expected integers ({count},)")
    return values.tolist()


def export_padded(packed: PackedDataset, protocol: str, num_frame: int, out: Path) -> list[Path]:
    """Write both splits of a protocol into the folder `out` as padded arrays of `num_frame` frames. Return the files.

    As in the published converter, a recording's frames are repeated until the array is full.
    """
    people, joints, coordinates = packed.shape
    indices = {split: check_lengths(packed, protocol, split, num_frame) for split in SPLITS}
    with staging(out) as folder:
        for split, rows in indices.items():
            with open(folder / f"{split}_data_joint.npy", "wb") as file:
                clips = (packed.recording(i) for i in rows)
                padded = (clip[np.arange(num_frame) % len(clip)].transpose(3, 0, 2, 1) for clip in clips)
                write_rows(file, (len(rows), coordinates, num_frame, joints, people), padded)
            np.save(folder / f"{split}_num_frame.npy", packed.num_frame[rows])
            labels = [f"{name}{SKELETON}" for name in packed.names[rows]], packed.label[rows].tolist()
            (folder / f"{split}_label.pkl").write_bytes(pickle.dumps(labels, protocol=2))
        return sorted(out / path.name for path in folder.iterdir())
