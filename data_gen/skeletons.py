"""The one table of skeletons: joints, bones, and the joints that conversion centres and aligns people by."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

NUM_PEOPLE = 2  # in a frame of NTU's recordings
MAX_JOINTS = 500
MAX_PEOPLE = 100
_MAX_FILE = 2**20  # bytes
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Skeleton:
    """parents: each joint's parent, from 0; the root is its own. centre: the joint that conversion moves to the origin.
    align: two joints; conversion turns people so that the line from the second to the first points along +x
    (docs/method.md, 2). None leaves a step out. Raises ValueError for contradictions."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    centre: int | None = None
    align: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError("a skeleton's name has 1 to 64 letters, digits, - and _")
        if not 1 <= len(self.joints) <= MAX_JOINTS:
            raise ValueError(f"a skeleton has 1 to {MAX_JOINTS} joints, {self.name} has {len(self.joints)}")
        if not all(isinstance(joint, str) and joint.isprintable() and 0 < len(joint) <= 64 for joint in self.joints):
            raise ValueError(f"{self.name}: the name of a joint is not a text of 1 to 64 characters")
        if len(set(self.joints)) < len(self.joints):
            twice = next(joint for joint in self.joints if self.joints.count(joint) > 1)
            raise ValueError(f"{self.name}: two joints are called {twice!r}")
        if len(self.parents) != len(self.joints):
            raise ValueError(f"{self.name} has {len(self.joints)} joints and {len(self.parents)} parents")
        for what, places in (("parents", self.parents), ("align", self.align or ()), ("centre", self._centres())):
            for place in places:
                if type(place) is not int or not 0 <= place < len(self.joints):
                    raise ValueError(f"{self.name}: {what} holds {place!r:.40}, of joints 0 to {len(self.joints) - 1}")
        if self.align is not None and len(set(self.align)) != 2:
            raise ValueError(f"{self.name}: align is not two different joints")
        self._check_tree()

    def _centres(self) -> tuple[int, ...]:
        return () if self.centre is None else (self.centre,)

    def _check_tree(self) -> None:
        roots = [joint for joint, parent in enumerate(self.parents) if joint == parent]
        if len(roots) != 1:
            raise ValueError(f"{self.name}: one joint, the root, must be its own parent; {len(roots)} are")
        reached = set(roots)
        for joint in range(len(self.joints)):
            path = []
            while joint not in reached:
                path.append(joint)
                joint = self.parents[joint]
                if joint in path:
                    raise ValueError(f"{self.name}: the parents of joint {joint} ({self.joints[joint]}) go in a circle")
            reached.update(path)

    @property
    def root(self) -> int:
        return next(joint for joint, parent in enumerate(self.parents) if joint == parent)

    def mirrored(self) -> tuple[int, ...]:
        """Return each joint's counterpart in a mirror: left_hip for right_hip, itself if its name has neither word.
        Raises ValueError if no name has them or one of a pair is missing."""
        other = {"left": "right", "right": "left"}
        found = ["_".join(other.get(word, word) for word in joint.split("_")) for joint in self.joints]
        if found == list(self.joints) or not set(found) <= set(self.joints):
            raise ValueError(f"{self.name} cannot be mirrored: its joints are not in pairs of left_... and right_...")
        return tuple(map(self.joints.index, found))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: object) -> Skeleton:
        """Read what `to_json` returns. Raises ValueError for anything else."""
        if not isinstance(found, dict) or not {"name", "joints", "parents"} <= found.keys():
            raise ValueError("a skeleton is an object with name, joints and parents")
        unknown = found.keys() - {"name", "joints", "parents", "centre", "align"}
        if unknown:
            raise ValueError(
                f"a skeleton has name, joints, parents, centre and align, not {ascii(min(map(str, unknown))):.80}"
            )
        align = found.get("align")
        for key in ("joints", "parents", *(["align"] if align is not None else [])):
            if not isinstance(found[key], list | tuple):
                raise ValueError(f"{key} is not a list")
        return cls(
            found["name"],
            tuple(found["joints"]),
            tuple(found["parents"]),
            found.get("centre"),
            None if align is None else tuple(align),
        )


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

# (from, to): for each joint of the second skeleton, the joint of the first to take. Kinect v1's first 20 joints are
# v2's, except the shoulder centre, which is v2's spine_shoulder and is copied to its neck; hand tips and thumbs, which
# v1 lacks, are copies of the hands.
JOINT_MAPS: dict[tuple[str, str], tuple[int, ...]] = {
    ("kinect_v1", "kinect_v2"): (*range(20), 2, 7, 7, 11, 11),
}


def load_skeleton(name_or_file: str) -> Skeleton:
    """Return a skeleton of the table by its name, or read it from a JSON file. Raises ValueError."""
    if name_or_file in SKELETONS:
        return SKELETONS[name_or_file]
    path = Path(name_or_file)
    try:
        if not path.is_file():
            raise ValueError(f"no such skeleton, of {', '.join(SKELETONS)}, and no such file")
        if path.stat().st_size > _MAX_FILE:
            raise ValueError("larger than 1 MiB")
        return Skeleton.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"skeleton {name_or_file}: {error}") from error


def has_mapping(source: Skeleton, target: Skeleton) -> bool:
    """Tell whether `map_joints` can make joints of the one of those of the other."""
    return source == target or (source, target) in [(SKELETONS[a], SKELETONS[b]) for a, b in JOINT_MAPS]


def map_joints(people: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Convert people (..., V, C) of one skeleton to (..., V', C) of another, by the table JOINT_MAPS. Raises ValueError
    if it has no such row."""
    if source == target:
        return people
    rows = {(SKELETONS[a], SKELETONS[b]): joints for (a, b), joints in JOINT_MAPS.items()}
    if (source, target) not in rows:
        known = ", ".join(f"{a} to {b}" for a, b in JOINT_MAPS)
        raise ValueError(f"there is no joint mapping from {source.name} to {target.name}, only from {known}")
    return people[..., list(rows[source, target]), :]
