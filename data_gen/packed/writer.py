"""Write packed data sets, whole or not at all; reader.py describes the format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.packed.reader import FORMAT_VERSION, INFO, NAME, SIDES, TABLES, read_info, skeleton_of
from data_gen.packed.segments import FILE as SEGMENTS
from data_gen.packed.segments import NO_LABEL, Segment, to_array
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT
from utils.errors import UserError
from utils.files import PARTIAL, atomic_files, flush, locked

FRAME_RATE = 30

Splits = dict[str, dict[str, list[int]]]  # protocol → train or val → indices of recordings


def describe(splits: Splits, rules: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Describe protocols for dataset.json: numbers of train and val recordings, and the rule, if any."""
    return {
        name: {side: len(sides[side]) for side in SIDES} | ({"rule": rules[name]} if name in rules else {})
        for name, sides in splits.items()
    }


class PackedWriter:
    """Write a packed data set recording by recording, in constant memory. Made by `packing`."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]):
        self.folder, self.shape = folder, shape
        self._file = open(folder / "joints.npy", "wb")
        self._write_header(0)
        self.num_frame: list[int] = []
        self.labels: list[int] = []
        self.names: list[str] = []
        self.without_a_body: list[str] = []
        self._segments: list[Sequence[Segment]] = []  # of long recordings

    def add(self, name: str, label: int, people: np.ndarray) -> None:
        """Append a recording, float32 (T, M, V, C) of the writer's shape. Names must come in ascending order."""
        if self.names and name <= self.names[-1]:
            raise UserError(f"{name} after {self.names[-1]}: names must ascend")
        if people.shape[1:] != self.shape:
            raise UserError(f"{name} has the shape {people.shape}, expected (T, {', '.join(map(str, self.shape))})")
        self._file.write(np.ascontiguousarray(people, np.float32).data)
        self.num_frame.append(len(people))
        self.labels.append(label)
        self.names.append(name)
        if not people.any():
            self.without_a_body.append(name)

    def add_long(self, name: str, people: np.ndarray, segments: Sequence[Segment]) -> None:
        """Append a long recording with its segments. Either all recordings of a data set are long or none is."""
        self._segments.append(segments)
        self.add(name, NO_LABEL, people)

    def counts(self, splits: Splits, rules: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Describe the added recordings and the protocols for dataset.json."""
        return {
            "recordings": len(self.names),
            "frames": sum(self.num_frame),
            "longest": max(self.num_frame),
            "without_a_body": self.without_a_body,
            "protocols": describe(splits, rules or {}),
            **({"segments": sum(map(len, self._segments))} if self._segments else {}),
        }

    def finish(self, splits: Splits, info: dict, tables: Mapping[str, list[str]] | None = None) -> None:
        """Write the remaining files.

        info: `dataset` (its name), `title`, `classes`, the entries of `counts`, and if known `class_names` and
        `skeleton` (from `Skeleton.to_json`; default: Kinect v2). tables: each recording's `subject`, `camera` or both,
        in the order of the recordings.
        """
        tables = tables or {}
        info = {"skeleton": KINECT_V2.to_json(), **info, **({"tables": list(tables)} if tables else {})}
        for table, values in tables.items():
            if len(values) != len(self.names) or not all(map(NAME.fullmatch, values)):
                raise UserError(f"{table}: not a value of letters, digits, - and _ for each recording")
        joints = len(skeleton_of(info).joints)
        if joints != self.shape[1]:
            raise UserError(f"the skeleton has {joints} joints, the recordings {self.shape[1]}")
        self._file.seek(0)
        self._write_header(sum(self.num_frame))
        self.close()
        flush(self.folder / "joints.npy")
        arrays = {
            "num_frame": np.array(self.num_frame, np.int64),
            "label": np.array(self.labels, np.int64),
            "name": np.array(self.names, np.str_),
            **{table: np.array(values, np.str_) for table, values in tables.items()},
        }
        if self._segments:
            arrays[Path(SEGMENTS).stem] = to_array(self._segments)
        for protocol, sides in splits.items():
            arrays |= index_arrays(protocol, sides)
        write_files(self.folder, arrays, {"format": FORMAT_VERSION, "frame_rate": FRAME_RATE, **info})

    def close(self) -> None:
        self._file.close()

    def _write_header(self, frames: int) -> None:
        # numpy pads headers, so the first axis can grow in place.
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


def index_arrays(protocol: str, sides: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Return a protocol's index arrays (int64), by the stems of their files."""
    return {f"{protocol}_{side}": np.array(sides[side], np.int64) for side in SIDES}


def write_files(folder: Path, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    """Write arrays as `.npy` files, by their stems, and dataset.json; flush them to the disk."""
    for stem, array in arrays.items():
        np.save(folder / f"{stem}.npy", array, allow_pickle=False)
        flush(folder / f"{stem}.npy")
    (folder / INFO).write_text(json.dumps(info, indent=1))
    flush(folder / INFO)


@contextmanager
def packing(
    out: Path, shape: tuple[int, int, int] = NTU_LAYOUT.shape, name: str | None = None
) -> Iterator[PackedWriter]:
    """Make a writer of recordings with frames of `shape` (people, joints, coordinates) into folder `out`.

    If the block succeeds, the files move into `out`, dataset.json last, in place of an earlier data set's; if it fails,
    none does. Raises UserError if another program is writing there, or `out` holds arrays that are no data set, or
    another one than that of `name`.
    """
    with ExitStack() as stack:
        stack.enter_context(locked(out))
        outdated = [INFO, *_outdated(out, name)]  # no data set while its files are replaced
        folder = stack.enter_context(atomic_files(out, last=INFO, outdated=outdated))
        writer = PackedWriter(folder, shape)
        try:
            yield writer
        finally:
            writer.close()


def _outdated(out: Path, name: str | None) -> list[str]:
    """List the files of the data set in `out` that a new one would not replace."""
    if not (out / INFO).exists():
        if any(out.glob("*.npy")) and not (out / PARTIAL).exists():  # which a killed conversion leaves
            raise UserError(f"{out}: holds .npy files that are no data set; name another folder by --out")
        return []
    try:
        info = read_info(out / INFO)
    except UserError:  # it is to be converted again
        return []
    if name not in (None, info["dataset"]):
        raise UserError(f"{out}: holds the data set {info['dataset']}; name another folder by --out")
    indices = [f"{protocol}_{side}.npy" for protocol in info["protocols"] for side in SIDES]
    return [*indices, *(f"{table}.npy" for table in TABLES), SEGMENTS]
