import json
import re

import numpy as np
import pytest

from data_gen.skeletons import (
    JOINT_MAPS,
    KINECT_V2,
    NTU_LAYOUT,
    SKELETONS,
    FrameLayout,
    Skeleton,
    load_skeleton,
    map_joints,
)
from utils.errors import UserError

PLAIN = {"name": "mine", "joints": ["a", "b", "c"], "parents": [1, 1, 1]}


def mirrored(joint: str) -> str:
    return re.sub("left|right", lambda split: {"left": "right", "right": "left"}[split[0]], joint)


def test_the_table_has_the_joints_of_its_sensors_and_estimators():
    counts = {"kinect_v2": 25, "kinect_v1": 20, "coco": 17, "openpose": 18, "smpl": 24, "mediapipe": 33}
    assert {name: len(s.joints) for name, s in SKELETONS.items()} == counts


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_every_skeleton_is_the_same_in_a_mirror(skeleton):
    bones = {(joint, skeleton.joints[parent]) for joint, parent in zip(skeleton.joints, skeleton.parents)}
    assert {(mirrored(joint), mirrored(parent)) for joint, parent in bones} == bones
    assert [skeleton.joints[joint] for joint in skeleton.mirrored()] == [mirrored(joint) for joint in skeleton.joints]
    for central in (skeleton.root, skeleton.centre):
        assert mirrored(skeleton.joints[central]) == skeleton.joints[central]
    first, second = (skeleton.joints[joint] for joint in skeleton.align)
    assert mirrored(first) == second and "shoulder" in first
    assert first.startswith("right") == skeleton.name.startswith("kinect")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../mine"},
        {"joints": []},
        {"joints": ["a", "b", "a"]},
        {"parents": [0, 0]},
        {"parents": [0, 0, 3]},
        {"parents": [0, 0, -1]},
        {"parents": [0, 0, 1.0]},
        {"parents": [0, 1, 0]},
        {"parents": [1, 2, 0]},
        {"parents": [0, 2, 1]},
        {"centre": 3},
        {"align": [0, 0]},
        {"align": [0, 1, 2]},
        {"sizes": []},
    ],
    ids=str,
)
def test_definitions_that_contradict_themselves_are_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        Skeleton.from_json(PLAIN | change)


def test_a_users_skeleton_is_read_from_a_file(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(PLAIN | {"align": [2, 0]}))
    assert load_skeleton(str(file)) == Skeleton("mine", ("a", "b", "c"), (1, 1, 1), None, (2, 0))
    for skeleton in SKELETONS.values():
        file.write_text(json.dumps(skeleton.to_json()))
        assert load_skeleton(str(file)) == skeleton == load_skeleton(skeleton.name)
    for content in ("{", "[]", "{}", json.dumps(PLAIN | {"align": 1}), json.dumps(PLAIN | {"parents": [0]})):
        file.write_text(content)
        with pytest.raises(UserError, match=str(file)):
            load_skeleton(str(file))
    with pytest.raises(UserError, match="kinect_v2"):
        load_skeleton("kinect")


def test_a_layout_is_read_as_it_was_written():
    for layout in (NTU_LAYOUT, FrameLayout(SKELETONS["coco"], 1, 2)):
        assert FrameLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
        assert layout.shape == (layout.people, layout.joints, layout.coordinates) and layout.size == np.prod(
            layout.shape
        )
    assert str(NTU_LAYOUT) == "kinect_v2 (25 joints, 2 people, 3 coordinates)"
    for change in ({"people": 0}, {"people": "2"}, {"coordinates": 4}):
        with pytest.raises(UserError):
            FrameLayout.from_json(NTU_LAYOUT.to_json() | change)


def test_kinect_v1_stands_for_kinect_v2_joint_by_joint():
    v1, joints = SKELETONS["kinect_v1"], JOINT_MAPS["kinect_v1", "kinect_v2"]
    people = np.random.default_rng(0).normal(size=(7, 2, 20, 3)).astype(np.float32)
    mapped = map_joints(people, v1, KINECT_V2)
    assert mapped.shape == (7, 2, 25, 3) and mapped.dtype == np.float32
    told = {"spine_base": "hip_centre", "spine_middle": "spine", "neck": "shoulder_centre"}
    told |= {"spine_shoulder": "shoulder_centre"}
    told |= {f"{split}_{part}": f"{split}_hand" for split in ("left", "right") for part in ("hand_tip", "thumb")}
    for place, joint in enumerate(KINECT_V2.joints):
        np.testing.assert_array_equal(mapped[:, :, place], people[:, :, v1.joints.index(told.get(joint, joint))])
    # A bone becomes a bone, or nothing where a joint was copied.
    for child, parent in enumerate(KINECT_V2.parents):
        assert joints[parent] in (v1.parents[joints[child]], joints[child])


def test_a_mapping_that_nobody_stated_is_refused():
    with pytest.raises(UserError, match="coco to kinect_v2"):
        map_joints(np.zeros((1, 1, 17, 3)), SKELETONS["coco"], KINECT_V2)
    impostor = Skeleton("kinect_v1", ("a", "b"), (0, 0))
    with pytest.raises(UserError, match="kinect_v1"):
        map_joints(np.zeros((1, 1, 2, 3)), impostor, KINECT_V2)


def test_a_skeleton_without_pairs_has_no_mirror():
    for joints in (("a", "b"), ("left_a", "b"), ("left_a", "right_b")):
        with pytest.raises(UserError, match="mine"):
            Skeleton("mine", joints, (0, 0)).mirrored()
