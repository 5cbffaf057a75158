"""Write packed data sets, whole or not at all; reader.py describes the format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_gen.packed.reader import FORMAT_VERSION, INFO, SPLITS, TABLES, read_info
from data_gen.packed.segments import FILE as SEGMENTS
from data_gen.packed.segments import NO_LABEL, Segment, to_array
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT
from utils.errors import UserError
from utils.files import PARTIAL, atomic_files, flush, locked

FRAME_RATE = 30

Splits = dict[str, dict[str, list[int]]]  # protocol → train or val → indices of recordings


def by_split(values: Iterable[str | None]) -> dict[str, list[int]]:
    """Return the indices in `train` and `val` of recordings with these splits; those with another value are in none."""
    every = list(values)
    return {split: [i for i, value in enumerate(every) if value == split] for split in SPLITS}


def describe(splits: Splits, rules: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Describe protocols for dataset.json: numbers of train and val recordings, and the rule, if any."""
    return {
        name: {split: len(own[split]) for split in SPLITS} | ({"rule": rules[name]} if name in rules else {})
        for name, own in splits.items()
    }


class PackedWriter:
    """Write a packed data set recording by recording, in constant memory. Made by `packing`, which opens joints.npy."""

    def __init__(self, folder: Path, joints: IO[bytes], shape: tuple[int, int, int]):
        self.folder, self.shape = folder, shape
        self.num_frame: list[int] = []
        self.labels: list[int] = []
        self.names: list[str] = []
        self._joints = joints
        self._write_header(0)
        self._without_a_body: list[str] = []
        self._segments: list[Sequence[Segment]] = []  # of long recordings

    def add(self, name: str, label: int, people: np.ndarray) -> None:
        """Append a recording, float32 (T, M, V, C) of the writer's shape. Names must come in ascending order."""
        if self.names and name <= self.names[-1]:
            raise UserError(f"{name} after {self.names[-1]}: names must ascend")
        if people.shape[1:] != self.shape:
            raise UserError(f"{name} has the shape {people.shape}, expected (T, {', '.join(map(str, self.shape))})")
        self._joints.write(np.ascontiguousarray(people, np.float32).data)
        self.num_frame.append(len(people))
        self.labels.append(label)
        self.names.append(name)
        if not people.any():
            self._without_a_body.append(name)

    def add_long(self, name: str, people: np.ndarray, segments: Sequence[Segment]) -> None:
        """Append a long recording with its segments. Either all recordings of a data set are long or none is."""
        self._segments.append(segments)
        self.add(name, NO_LABEL, people)

    def finish(
        self,
        splits: Splits,
        info: dict[str, Any],
        tables: Mapping[str, list[str]] | None = None,
        rules: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Write the remaining files. Return the contents of dataset.json: `info` and what is counted here.

        info: `dataset` (its name), `title`, `classes`, and if known `class_names` and `skeleton` (from
        `Skeleton.to_json`; default: Kinect v2). tables: each recording's `subject`, `camera` or both. rules: those that
        made protocols, as text.
        """
        tables = tables or {}
        info = {
            "format": FORMAT_VERSION,
            "frame_rate": FRAME_RATE,
            "skeleton": KINECT_V2.to_json(),
            **info,
            "recordings": len(self.names),
            "frames": sum(self.num_frame),
            "longest": max(self.num_frame),
            "without_a_body": self._without_a_body,
            "protocols": describe(splits, rules or {}),
            **({"tables": list(tables)} if tables else {}),
        }
        self._joints.seek(0)
        self._write_header(sum(self.num_frame))
        self._joints.close()
        arrays = {
            "num_frame": np.array(self.num_frame, np.int64),
            "label": np.array(self.labels, np.int64),
            "name": np.array(self.names, np.str_),
            **{table: np.array(values, np.str_) for table, values in tables.items()},
        }
        if self._segments:
            info["segments"] = sum(map(len, self._segments))
            arrays[Path(SEGMENTS).stem] = to_array(self._segments)
        write_files(self.folder, arrays | index_arrays(splits), info)
        return info

    def _write_header(self, frames: int) -> None:
        # numpy pads headers, so the first axis can grow in place.
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, *self.shape)}
        np.lib.format.write_array_header_1_0(self._joints, header)


def index_arrays(splits: Splits) -> dict[str, np.ndarray]:
    """Return the protocols' index arrays (int64), by the stems of their files."""
    return {f"{name}_{split}": np.array(own[split], np.int64) for name, own in splits.items() for split in SPLITS}


def write_files(folder: Path, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    """Write arrays as `.npy` files, by their stems, and dataset.json; flush all files of the folder to the disk."""
    for stem, array in arrays.items():
        np.save(folder / f"{stem}.npy", array, allow_pickle=False)
    (folder / INFO).write_text(json.dumps(info, indent=1))
    for path in folder.iterdir():
        flush(path)


@contextmanager
def packing(
    out: Path, shape: tuple[int, int, int] = NTU_LAYOUT.shape, name: str | None = None
) -> Iterator[PackedWriter]:
    """Make a writer of recordings with frames of `shape` (people, joints, coordinates) into folder `out`.

    If the block succeeds, the files move into `out`, dataset.json last, in place of an earlier data set's, which must
    be that of `name` if one is given; if it fails, none does.
    """
    with locked(out):
        with atomic_files(out, last=INFO, outdated=_outdated(out, name)) as folder:
            with open(folder / "joints.npy", "wb") as joints:
                yield PackedWriter(folder, joints, shape)


def _outdated(out: Path, name: str | None) -> list[str]:
    """List the files of the data set in `out` to remove before new ones move there: dataset.json, so that it is no data
    set meanwhile, and those that a new one may lack."""
    if not (out / INFO).exists():
        if any(out.glob("*.npy")) and not (out / PARTIAL).exists():  # which a killed conversion leaves
            raise UserError(f"{out}: holds .npy files that are no data set; name another folder by --out")
        return []
    try:
        info = read_info(out / INFO)
    except UserError:  # it is to be converted again
        return [INFO]
    if name not in (None, info["dataset"]):
        raise UserError(f"{out}: holds the data set {info['dataset']}; name another folder by --out")
    indices = [f"{protocol}_{split}.npy" for protocol in info["protocols"] for split in SPLITS]
    return [INFO, *indices, *(f"{table}.npy" for table in TABLES), SEGMENTS]
