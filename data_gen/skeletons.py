"""The one table of skeletons: joints, bones, and the joints that conversion centres and aligns people by."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import read_json, reading
from utils.text import counted

NUM_PEOPLE = 2  # in a frame of NTU's recordings
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Skeleton:
    """parents: each joint's parent, from 0; the root is its own. centre: the joint that conversion moves to the origin.
    align: two joints; conversion turns people so that the line from the second to the first points along +x
    (docs/method.md, 2). None leaves a step out. Raises UserError for contradictions."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    centre: int | None = None
    align: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise UserError(f"skeleton {self.name}: {fault}")

    def _fault(self) -> str:
        if not _NAME.fullmatch(str(self.name)):
            return "its name is not 1 to 64 letters, digits, - and _"
        if not self.joints or len(set(self.joints)) < len(self.joints):
            return "it has no joints, or two of one name"
        if len(self.parents) != len(self.joints):
            return f"{len(self.joints)} joints and {len(self.parents)} parents"
        centre = () if self.centre is None else (self.centre,)
        for key, indices in {"parents": self.parents, "align": self.align or (), "centre": centre}.items():
            if not all(type(joint) is int and 0 <= joint < len(self.joints) for joint in indices):
                return f"{key} is not of joints 0 to {len(self.joints) - 1}"
        if self.align is not None and len(set(self.align)) != 2:
            return "align is not two different joints"
        ancestors = np.arange(len(self.joints))
        for _ in self.joints:
            ancestors = np.array(self.parents)[ancestors]
        return "its parents do not all lead to one root, its own parent" if np.ptp(ancestors) else ""

    @property
    def root(self) -> int:
        return next(joint for joint, parent in enumerate(self.parents) if joint == parent)

    def mirrored(self) -> tuple[int, ...]:
        """Return each joint's counterpart in a mirror: left_hip for right_hip, itself if its name has neither word."""
        other = {"left": "right", "right": "left"}
        names = ["_".join(other.get(word, word) for word in joint.split("_")) for joint in self.joints]
        if names == list(self.joints) or not set(names) <= set(self.joints):
            raise UserError(f"{self.name} cannot be mirrored: its joints are not in pairs of left_... and right_...")
        return tuple(map(self.joints.index, names))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Skeleton:
        """Read what `to_json` returns, or a user's file."""
        if unknown := values.keys() - {"name", "joints", "parents", "centre", "align"}:
            raise UserError(f"a skeleton has name, joints, parents, centre and align, not {min(unknown)}")
        joints, parents, align = tuple(values["joints"]), tuple(values["parents"]), values.get("align")
        return cls(values["name"], joints, parents, values.get("centre"), None if align is None else tuple(align))


_KINECT_LIMBS = (
    "left_shoulder left_elbow left_wrist left_hand right_shoulder right_elbow right_wrist right_hand "
    "left_hip left_knee left_ankle left_foot right_hip right_knee right_ankle right_foot"
)
KINECT_V2 = Skeleton(
    "kinect_v2",
    tuple(
        f"spine_base spine_middle neck head {_KINECT_LIMBS} "
        "spine_shoulder left_hand_tip left_thumb right_hand_tip right_thumb".split()
    ),
    # As published: a hand tip's parent is the thumb, the root is at the shoulders.
    (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11),
    centre=1,
    align=(8, 4),
)
# Kinect's x points to the right of a person who faces it, so the right shoulder comes first in `align`. The left one
# comes first for the others: x points to the right of the image, or to the left of SMPL's body, which looks along +z.
# fmt: off
_TABLE = (
    KINECT_V2,
    Skeleton("kinect_v1", tuple(f"hip_centre spine shoulder_centre head {_KINECT_LIMBS}".split()),
             (1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18), centre=1, align=(8, 4)),
    # COCO and MediaPipe have no joint in the trunk; the nose alone favours neither side.
    Skeleton("coco", tuple(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
        "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle".split()),
             (0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14), centre=0, align=(5, 6)),
    Skeleton("openpose", tuple(
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear".split()),
             (1, 1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15), centre=1, align=(5, 2)),
    Skeleton("smpl", tuple(
        "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot "
        "right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow "
        "left_wrist right_wrist left_hand right_hand".split()),
             (0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
             centre=0, align=(16, 17)),
    Skeleton("mediapipe", tuple(
        "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear "
        "right_ear mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist "
        "right_wrist left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip "
        "left_knee right_knee left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index".split()),
             (0, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26,
              27, 28, 29, 30), centre=0, align=(11, 12)),
)
# fmt: on
SKELETONS = {skeleton.name: skeleton for skeleton in _TABLE}
SKELETON_JSON = "skeleton.json"  # in a folder of recordings

# (source, target): for each joint of the target, the joint of the source to take. Kinect v1's first 20 joints are v2's,
# except the shoulder centre, which is v2's spine_shoulder and is copied to its neck; hand tips and thumbs, which v1
# lacks, are copies of the hands.
JOINT_MAPS: dict[tuple[str, str], tuple[int, ...]] = {
    ("kinect_v1", "kinect_v2"): (*range(20), 2, 7, 7, 11, 11),
}


def load_skeleton(name_or_file: str) -> Skeleton:
    """Return a skeleton of the table by its name, or read it from a JSON file."""
    if name_or_file in SKELETONS:
        return SKELETONS[name_or_file]
    path = Path(name_or_file)
    if not path.is_file():
        raise UserError(f"skeleton {name_or_file}: no such file; names: {', '.join(SKELETONS)}")
    with reading(path):
        return Skeleton.from_json(read_json(path))


def skeleton_in(place: Path, name_or_file: str | None) -> Skeleton | None:
    """Return the skeleton that the user names, else the skeleton.json of a folder or beside a file, else None."""
    file = (place if place.is_dir() else place.parent) / SKELETON_JSON
    return load_skeleton(name_or_file) if name_or_file else load_skeleton(str(file)) if file.exists() else None


def _mapping(source: Skeleton, target: Skeleton) -> tuple[int, ...] | None:
    rows = {(SKELETONS[a], SKELETONS[b]): joints for (a, b), joints in JOINT_MAPS.items()}
    return rows.get((source, target))


def has_mapping(source: Skeleton, target: Skeleton) -> bool:
    """Return whether `map_joints` can convert `source` to `target`."""
    return source == target or _mapping(source, target) is not None


def map_joints(people: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Convert people (..., V, C) from one skeleton to another, (..., V', C), by the table JOINT_MAPS."""
    if source == target:
        return people
    joints = _mapping(source, target)
    if joints is None:
        pairs = ", ".join(f"{a} to {b}" for a, b in JOINT_MAPS)
        raise UserError(f"no joint mapping from {source.name} to {target.name}; only {pairs}")
    return people[..., list(joints), :]


@dataclass(frozen=True)
class FrameLayout:
    """Skeleton, people and coordinates of a frame; by default those of NTU RGB+D and the published checkpoints."""

    skeleton: Skeleton = KINECT_V2
    people: int = NUM_PEOPLE
    coordinates: int = 3

    @cached_property
    def joints(self) -> int:
        return len(self.skeleton.joints)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """People, joints and coordinates: (M, V, C)."""
        return self.people, self.joints, self.coordinates

    @cached_property
    def size(self) -> int:
        """Number of values in a frame, M·V·C."""
        return self.people * self.joints * self.coordinates

    def __str__(self) -> str:
        people, joints = counted(self.people, "person"), counted(self.joints, "joint")
        return f"{self.skeleton.name} ({joints}, {people}, {self.coordinates} coordinates)"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `from_json`."""
        return {"skeleton": self.skeleton.to_json(), "people": self.people, "coordinates": self.coordinates}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FrameLayout:
        """Read what `to_json` returns."""
        people, coordinates = values["people"], values["coordinates"]
        if type(people) is not int or people < 1 or coordinates not in (2, 3):
            raise UserError(f"a layout has at least 1 person and 2 or 3 coordinates, not {people} and {coordinates}")
        return cls(Skeleton.from_json(values["skeleton"]), people, coordinates)


NTU_LAYOUT = FrameLayout()
