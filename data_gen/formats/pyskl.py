"""Read and write the annotations of PYSKL and MMAction2: one pickle,
{"split": {name: [frame_dir, ...]}, "annotations": [dict, ...]}.

An annotation has `frame_dir` (the name), `label`, `total_frames` and `keypoint`, float16 or float32 (M, T, V, C);
other entries, such as scores, are ignored. Splits x_train and x_val (or x_test) form the protocol x. Reading runs no
code from the pickle (`pickles.py`).
"""

from __future__ import annotations

import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_gen.formats.base import Entry, Source, in_order, shown
from data_gen.formats.export import staged
from data_gen.formats.pickles import Array, load_annotations
from data_gen.packed.reader import NAME, SIDES, PackedDataset
from data_gen.packed.writer import Splits
from data_gen.skeletons import KINECT_V2, MAX_PEOPLE, SKELETONS, Skeleton
from utils.errors import UserError

_LIST = re.compile(r"(?:(?P<protocol>.+)_)?(?P<side>train|val|test)(?P<number>\d*)")
_ALIASES = {"xset": "xsetup", None: "split"}  # their name for NTU-120's protocol; lists named just train and val
_PROTOCOL = 3  # annotations are pickled one by one, and each may overwrite the memo of the last


class _Shape(NamedTuple):
    people: int
    frames: int
    joints: int
    coordinates: int


def read_pyskl(path: Path, skeleton: Skeleton | None) -> Source:
    """Read the annotations at `path`. Without `skeleton`, 25 joints are Kinect v2 and 17 are COCO. Raises UserError
    if the file is invalid."""
    lists, annotations = load_annotations(path)
    entries: list[Entry] = []
    shapes: set[_Shape] = set()
    total = 0
    for i, annotation in enumerate(annotations):
        name, label, keypoint = (annotation.get(key) for key in ("frame_dir", "label", "keypoint"))
        called = f"annotation {i}" + (f" ({shown(name)[1:-1]})" if type(name) is str else "")
        where = f"{path}: {called}"
        if type(name) is not str:
            raise UserError(f"{where} has no frame_dir, or one that is no text")
        if type(label) is not int:
            raise UserError(f"{where} has no label, or one that is no whole number")
        shape = _shape(keypoint, where)
        frames = annotation.get("total_frames", shape.frames)
        if frames != shape.frames:
            raise UserError(f"{where} has {frames!s:.20} total_frames, its keypoint {shape.frames}")
        shapes.add(shape)
        total += 2 * int(np.prod(shape))
        entries.append(Entry(name, label, path, path, called, keypoint))
        if total > path.stat().st_size:  # annotations may share one array
            raise UserError(f"{path}: tells of more joints than it holds")
    if not entries:
        raise UserError(f"{path}: holds no annotations")
    skeleton, frame = _skeleton(path, shapes, skeleton)
    entries = in_order(entries)
    positions = {entry.name: i for i, entry in enumerate(entries)}
    return Source("pyskl", path, skeleton, frame, entries, _splits(path, lists, positions), _read, raw=True)


def _read(entry: Entry) -> np.ndarray:
    try:
        return entry.content.numpy().transpose(1, 0, 2, 3)
    except ValueError as error:
        raise UserError(f"{entry.where}: keypoint is no sound array ({error})") from None


def _shape(keypoint: Any, where: str) -> _Shape:
    """Return the shape of a keypoint; its values are checked later. Raises UserError if it is invalid."""
    if type(keypoint) is not Array:
        raise UserError(f"{where}: keypoint is no array")
    try:
        dtype, shape = keypoint.checked()
    except ValueError as error:
        raise UserError(f"{where}: keypoint is no sound array ({error})") from None
    right = dtype.kind == "f" and len(shape) == 4 and 1 <= shape[0] <= MAX_PEOPLE and shape[1] >= 1
    if not right or shape[3] not in (2, 3):
        raise UserError(f"{where}: keypoint is not floats (M, T, V, 2 or 3), but {dtype.kind} {shape}")
    return _Shape(*shape)


def _skeleton(path: Path, shapes: set[_Shape], skeleton: Skeleton | None) -> tuple[Skeleton, tuple[int, int, int]]:
    """Return the skeleton (if not given: by the number of joints) and the shape of a frame: largest M, V, C. Raises
    UserError if keypoints do not fit it."""
    frames = {(shape.joints, shape.coordinates) for shape in shapes}
    if len(frames) > 1:
        raise UserError(f"{path}: keypoints of other joints and coordinates in one file: {sorted(frames)[:5]}")
    joints, coordinates = frames.pop()
    skeleton = skeleton or {25: KINECT_V2, 17: SKELETONS["coco"]}.get(joints)
    if skeleton is None or len(skeleton.joints) != joints:
        expected = f"{skeleton.name} has {len(skeleton.joints)}" if skeleton else "of which skeleton is not told"
        raise UserError(f"{path}: keypoints of {joints} joints, {expected}: pass --skeleton")
    return skeleton, (max(shape.people for shape in shapes), joints, coordinates)


def _splits(path: Path, lists: dict[str, list[str]], positions: dict[str, int]) -> Splits:
    """Return the file's protocols. Raises UserError if a split has no valid name, or a recording in it has no
    annotation, occurs twice or is on both sides, or if a protocol lacks a side."""
    splits: Splits = {}
    for list_name, names in lists.items():
        match = _LIST.fullmatch(list_name)
        protocol = _ALIASES.get(match["protocol"], match["protocol"]) + match["number"] if match else ""
        if not match or not NAME.fullmatch(protocol):
            raise UserError(f"{path}: split {shown(list_name)} is called neither x_train nor x_val or x_test")
        side = "train" if match["side"] == "train" else "val"
        sides = splits.setdefault(protocol, {})
        if side in sides:
            raise UserError(f"{path}: split {shown(list_name)} is a second {side} side of {protocol}")
        for name in names:
            if name not in positions:
                raise UserError(f"{path}: split {shown(list_name)} names {shown(name)}, which has no annotation")
        sides[side] = sorted(positions[name] for name in names)
        if len(set(sides[side])) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise UserError(f"{path}: split {shown(list_name)} names {shown(twice)} twice")
    for protocol, sides in splits.items():
        if len(sides) < len(SIDES):
            raise UserError(f"{path}: protocol {protocol} has only a {next(iter(sides))} side")
        both = set(sides["train"]) & set(sides["val"])
        if both:
            name = min(name for name, position in positions.items() if position in both)
            raise UserError(f"{path}: {shown(name)} is on both sides of {protocol}")
    return splits


def export_pyskl(packed: PackedDataset, out: Path) -> list[Path]:
    """Write all recordings and protocols as the pickle `out`, one recording at a time. Return [out]."""
    split = {
        f"{protocol}_{side}": packed.names[packed.split(protocol, side)].tolist()
        for protocol in packed.protocols
        for side in SIDES
    }
    with staged(out) as partial, open(partial, "wb") as file:
        file.write(pickle.PROTO + bytes([_PROTOCOL]) + pickle.EMPTY_DICT)
        file.write(_body("split") + _body(split) + pickle.SETITEM)
        file.write(_body("annotations") + pickle.EMPTY_LIST)
        for i, name in enumerate(packed.names.tolist()):
            clip = packed.recording(i)
            annotation = {
                "frame_dir": name,
                "label": int(packed.label[i]),
                "total_frames": len(clip),
                "keypoint": np.array(clip.transpose(1, 0, 2, 3), np.float32, order="C"),
            }
            file.write(_body(annotation) + pickle.APPEND)
        file.write(pickle.SETITEM + pickle.STOP)
    return [out]


def _body(value: Any) -> bytes:
    """Pickle a value without header and stop byte, to embed it in another pickle."""
    return pickle.dumps(value, _PROTOCOL)[2:-1]
