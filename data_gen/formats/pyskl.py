"""Read and write the annotations of PYSKL and MMAction2: one pickle,
{"split": {name: [frame_dir, ...]}, "annotations": [dict, ...]}.

An annotation has `frame_dir` (the name), `label`, `total_frames` and `keypoint`, float16 or float32 (M, T, V, C);
other entries, such as scores, are ignored. Splits x_train and x_val (or x_test) form the protocol x.
"""

from __future__ import annotations

import pickle
import re
from collections import Counter
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.formats.base import Entry, Source, in_order
from data_gen.formats.export import staged
from data_gen.formats.pickles import as_list, load_pickle
from data_gen.packed.reader import NAME, SPLITS, PackedDataset
from data_gen.packed.writer import Splits
from data_gen.skeletons import KINECT_V2, SKELETONS, Skeleton
from utils.errors import UserError
from utils.files import reading

_LIST = re.compile(r"(?:(?P<protocol>.+)_)?(?P<split>train|val|test)(?P<number>\d*)")
_ALIASES = {"xset": "xsetup", None: "split"}  # their name for NTU-120's protocol; lists named just train and val


def read_pyskl(path: Path, skeleton: Skeleton | None) -> Source:
    """Read the annotations at `path`. Without `skeleton`, 25 joints are Kinect v2 and 17 are COCO."""
    content = load_pickle(path)
    with reading(path):
        lists, annotations = content["split"], as_list(content["annotations"])
    entries: list[Entry] = []
    for i, annotation in enumerate(annotations):
        with reading(f"{path}: annotation {i}"):
            entries.append(_read_annotation(path, i, annotation))
    if not entries:
        raise UserError(f"{path}: holds no annotations")
    frames = {entry.content.shape[2:] for entry in entries}
    if len(frames) > 1:
        raise UserError(f"{path}: annotations differ in joints or coordinates: {sorted(frames)[:5]}")
    joints, coordinates = frames.pop()
    skeleton = skeleton or {25: KINECT_V2, 17: SKELETONS["coco"]}.get(joints)
    if skeleton is None or len(skeleton.joints) != joints:
        contrast = f", {skeleton.name} has {len(skeleton.joints)}" if skeleton else ""
        raise UserError(f"{path}: keypoints of {joints} joints{contrast}; pass --skeleton")
    people = max(entry.content.shape[1] for entry in entries)
    entries = in_order(entries)
    with reading(path):
        splits = _read_splits(lists, {entry.name: i for i, entry in enumerate(entries)})
    frame = people, joints, coordinates
    return Source("pyskl", path, skeleton, frame, entries, splits, lambda entry: entry.content, raw=True)


def _read_annotation(path: Path, i: int, annotation: dict[str, Any]) -> Entry:
    name, keypoint = str(annotation["frame_dir"]), np.asarray(annotation["keypoint"])
    if keypoint.dtype.kind != "f" or keypoint.ndim != 4 or not keypoint.size or keypoint.shape[3] not in (2, 3):
        raise UserError(f"keypoint holds {keypoint.dtype} {keypoint.shape}, expected floats (M, T, V, 3), or 2")
    frames = annotation.get("total_frames", keypoint.shape[1])
    if frames != keypoint.shape[1]:
        raise UserError(f"total_frames is {frames}, keypoint has {keypoint.shape[1]} frames")
    where = f"{path}: annotation {i} ({name})"
    return Entry(name, index(annotation["label"]), path, where, keypoint.transpose(1, 0, 2, 3))


def _read_splits(lists: dict[str, Any], positions: dict[str, int]) -> Splits:
    """Return the file's protocols; `positions` are the indices of the recordings by name."""
    splits: Splits = {}
    for list_name, values in lists.items():
        match, names = _LIST.fullmatch(list_name), as_list(values)
        protocol = _ALIASES.get(match["protocol"], match["protocol"]) + match["number"] if match else ""
        if not match or not NAME.fullmatch(protocol):
            raise UserError(f"split {list_name!r} is named neither x_train nor x_val or x_test")
        split = "train" if match["split"] == "train" else "val"
        by_split = splits.setdefault(protocol, {})
        if split in by_split:
            raise UserError(f"split {list_name!r} is a second {split} split of {protocol}")
        for name, count in Counter(names).items():
            if name not in positions or count > 1:
                reason = "twice" if name in positions else "which has no annotation"
                raise UserError(f"split {list_name!r} names {name!r}, {reason}")
        by_split[split] = sorted(positions[name] for name in names)
    for protocol, by_split in splits.items():
        if len(by_split) < len(SPLITS):
            raise UserError(f"protocol {protocol} has only a {next(iter(by_split))} split")
        if both := set(by_split["train"]) & set(by_split["val"]):
            name = next(name for name, position in positions.items() if position in both)
            raise UserError(f"{name} is in both splits of {protocol}")
    return splits


def export_pyskl(packed: PackedDataset, out: Path) -> list[Path]:
    """Write all recordings and protocols as the pickle `out`. Return [out]."""
    lists = {
        f"{protocol}_{split}": packed.names[packed.split(protocol, split)].tolist()
        for protocol in packed.protocols
        for split in SPLITS
    }
    with staged(out) as partial, open(partial, "wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # without a memo, which would keep a copy of every array
        pickler.dump({"split": lists, "annotations": [_annotation(packed, i) for i in range(len(packed))]})
    return [out]


def _annotation(packed: PackedDataset, i: int) -> dict[str, Any]:
    clip = np.asarray(packed.recording(i))  # memory-mapped until it is written
    return {
        "frame_dir": str(packed.names[i]),
        "label": int(packed.label[i]),
        "total_frames": len(clip),
        "keypoint": clip.transpose(1, 0, 2, 3),
    }
