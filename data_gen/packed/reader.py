"""Read packed data sets: one copy of every recording; a protocol is a pair of index files.

    joints.npy     float32 (F, M, V, C)   every recording's frames [0, num_frame), end to end: people, joints, x y (z)
    num_frame.npy  int64 (N,)   label.npy  int64 (N,)   name.npy  text (N,), sorted
    subject.npy    camera.npy   text (N,), if dataset.json lists them under "tables"
    segments.npy   int64 (S, 4), if dataset.json states S: of long recordings, whose labels are -1 (segments.py)
    {protocol}_{train,val}.npy  int64 indices into N
    dataset.json   format version, data set, classes, skeleton, counts, frame rate, how it was made

Plain `.npy`, no pickle, memory-mappable. `dataset.json` is moved into place last: a folder without it is not a
data set.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.packed import segments
from data_gen.skeletons import KINECT_V2, FrameLayout, Skeleton, map_joints
from utils.errors import UserError
from utils.files import read_array, read_json, reading

INFO = "dataset.json"
FORMAT_VERSION = 1
SPLITS = ("train", "val")
ALL = "all"  # the protocol of every data set that trains on all recordings
TABLES = ("subject", "camera")
UNLABELLED = "unlabelled"  # the only class of recordings without labels
NAME = re.compile("[A-Za-z0-9_-]{1,64}")  # of a recording, protocol or data set; no path
MAX_CLASSES = 999  # a recording's name has three digits for its class
REMEDY = "; convert the recordings again"
_BLOCK = 2**16  # frames that are adapted at a time


def read_info(path: Path) -> dict[str, Any]:
    """Read a dataset.json and check its format and the entries that every reader needs."""
    with reading(path, REMEDY):
        info = read_json(path)
        if info["format"] != FORMAT_VERSION:
            raise UserError(f"format {info['format']}, this code reads {FORMAT_VERSION}")
        if not all(map(NAME.fullmatch, (info["dataset"], *info["protocols"]))):
            raise UserError("the name of a data set or protocol is not 1 to 64 letters, digits, - and _")
        if not 1 <= info["classes"] <= MAX_CLASSES:
            raise UserError(f"{info['classes']} classes, of 1 to {MAX_CLASSES}")
        if len(info.get("class_names") or range(info["classes"])) != info["classes"]:
            raise UserError(f"{len(info['class_names'])} class_names for {info['classes']} classes")
        skeleton_of(info)
    return info


def skeleton_of(info: dict) -> Skeleton:
    """Read the skeleton in dataset.json; older data sets have none, which means Kinect v2."""
    return Skeleton.from_json(info["skeleton"]) if "skeleton" in info else KINECT_V2


class PackedDataset:
    """Open a packed data set for reading; `joints` is memory-mapped. Raises UserError if it is damaged."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / INFO).is_file():
            raise UserError(f"{self.path}: not a packed data set, as it has no {INFO}; see Data in README.md")
        self.info = read_info(self.path / INFO)
        self.name: str = self.info["dataset"]
        self.title: str = self.info.get("title", self.name)
        self.num_classes: int = self.info["classes"]
        self.class_names: list[str] | None = self.info.get("class_names")
        self.protocols: list[str] = list(self.info["protocols"])
        skeleton = skeleton_of(self.info)
        self.joints = self._load("joints.npy", np.float32, (-1, -1, len(skeleton.joints), -1))
        _, people, _, coordinates = self.joints.shape
        self.layout = FrameLayout(skeleton, people, coordinates)
        self.num_frame = np.array(self._load("num_frame.npy", np.int64, (-1,)))
        self.label = np.array(self._load("label.npy", np.int64, (len(self),)))
        self.names = np.array(self._load("name.npy", np.str_, (len(self),)))
        self.first = np.cumsum(self.num_frame) - self.num_frame
        self.segments = self._load_segments()  # of each recording; None in a data set of clips
        self._check()

    def __len__(self) -> int:
        return len(self.num_frame)

    @property
    def skeleton(self) -> Skeleton:
        return self.layout.skeleton

    @property
    def shape(self) -> tuple[int, int, int]:
        """People, joints and coordinates of a frame."""
        return self.layout.shape

    def split(self, protocol: str, split: str) -> np.ndarray:
        """Return indices (int64) of a protocol's `train` or `val` recordings; `protocol` is its short name."""
        if protocol == ALL and ALL not in self.protocols:
            return np.arange(len(self) if split == "train" else 0)
        if protocol not in self.protocols:
            raise UserError(f"{self.path}: no protocol {protocol!r}; it has {', '.join(self.protocols) or 'none'}")
        file = f"{protocol}_{split}.npy"
        indices = np.array(self._load(file, np.int64, (-1,)))
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise self._damaged(file, f"an index lies outside the {len(self)} recordings")
        if len(np.unique(indices)) < len(indices):
            raise self._damaged(file, "duplicate index")
        return indices

    def recording(self, index: int) -> np.ndarray:
        """Return one recording's frames: float32 (T, M, V, C)."""
        return self.joints[self.first[index] : self.first[index] + self.num_frame[index]]

    def adapted(self, skeleton: Skeleton, people: int) -> PackedDataset:
        """Return the same recordings with the joints of another skeleton, by the table of mappings, and another number
        of people: the first ones, or absent ones added as zeros. They are held in memory."""
        if (skeleton, people) == (self.skeleton, self.layout.people):
            return self
        other, most = copy(self), min(people, self.layout.people)
        other.layout = replace(self.layout, skeleton=skeleton, people=people)
        other.joints = np.zeros((len(self.joints), *other.shape), np.float32)
        with reading(self.path):
            for start in range(0, len(self.joints), _BLOCK):
                block = self.joints[start : start + _BLOCK, :most]
                other.joints[start : start + _BLOCK, :most] = map_joints(block, self.skeleton, skeleton)
        return other

    def table(self, kind: str) -> list[str] | None:
        """Return each recording's `subject` or `camera`; None if the data set has no such table."""
        if kind not in self.info.get("tables", ()):
            return None
        return self._load(f"{kind}.npy", np.str_, (len(self),)).tolist()

    def _load(self, file: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        array = read_array(self.path / file, REMEDY)
        right_shape = array.ndim == len(shape) and all(w in (-1, h) for w, h in zip(shape, array.shape))
        if not right_shape or not np.issubdtype(array.dtype, dtype) or not array.flags.c_contiguous:
            raise self._damaged(file, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        return array

    def _load_segments(self) -> list[list[segments.Segment]] | None:
        if "segments" not in self.info:
            return None
        rows = np.array(self._load(segments.FILE, np.int64, (self.info["segments"], 4)))
        with reading(self.path / segments.FILE, REMEDY):
            return segments.from_array(rows, self.num_frame, self.num_classes)

    def _check(self) -> None:
        """Check what other code relies on; that values are finite is checked on a sample, as the file may be large."""
        frames = len(self.joints)
        if self.layout.coordinates not in (2, 3):
            raise self._damaged("joints.npy", f"holds {self.layout.coordinates} coordinates, expected 2 or 3")
        if len(self) == 0 or self.num_frame.min() < 1 or self.num_frame.sum() != frames:
            total = self.num_frame.sum()
            raise self._damaged("num_frame.npy", f"sums to {total} frames (each at least 1), joints.npy has {frames}")
        lowest, highest = (0, self.num_classes - 1) if self.segments is None else [segments.NO_LABEL] * 2
        if self.label.min() < lowest or self.label.max() > highest:
            raise self._damaged("label.npy", f"a label lies outside {lowest}..{highest}")
        names = self.names.tolist()
        if not all(map(NAME.fullmatch, names)) or any(a >= b for a, b in zip(names, names[1:])):
            raise self._damaged("name.npy", "the names do not ascend, or one is not letters, digits, - and _")
        sample = np.linspace(0, frames - 1, min(frames, 256), dtype=np.int64)
        if not np.isfinite(self.joints[sample]).all():
            raise self._damaged("joints.npy", "holds non-finite values")
        for protocol in self.protocols:
            train, val = (self.split(protocol, split) for split in SPLITS)
            if np.intersect1d(train, val).size:
                raise UserError(f"{self.path}: {protocol} has recordings in both train and val{REMEDY}")

    def _damaged(self, file: str, reason: str) -> UserError:
        return UserError(f"{self.path / file}: {reason}{REMEDY}")
