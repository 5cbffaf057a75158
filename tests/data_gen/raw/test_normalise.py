import zipfile

import numpy as np
import pytest

from data_gen.raw.normalise import (
    ADDED,
    DROPPED,
    EMPTY,
    MAPPED,
    NORMALISED,
    UNITS,
    fill_null_frames,
    fit_people,
    normalise,
    other_unit,
    rotation_in_plane,
    rotation_to_x,
    select_people,
)
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT, SKELETONS, FrameLayout, Skeleton, map_joints
from tests.helpers import GOLDEN
from utils.errors import UserError


def golden_cases():
    golden = np.load(GOLDEN / "converted.npz")
    for split in ("train", "val"):
        for i, name in enumerate(golden[f"xsub_{split}_names"]):
            stem = str(name).removesuffix(".skeleton")
            yield pytest.param(
                stem, golden[f"xsub_{split}_data"][i], int(golden[f"xsub_{split}_num_frame"][i]), id=stem
            )


@pytest.mark.parametrize("stem, padded, num_frame", list(golden_cases()))
def test_golden_figures(stem, padded, num_frame):
    with zipfile.ZipFile(GOLDEN / "skeletons.zip") as archive:
        people = normalise(parse_skeleton(archive.read(f"{stem}.skeleton")))
    assert people.dtype == np.float32 and people.shape == (num_frame, 2, 25, 3)
    np.testing.assert_allclose(people.transpose(3, 0, 2, 1), padded[:, :num_frame], atol=1e-5)


def test_slots_are_ordered_by_spread_not_by_size_or_presence():
    rng = np.random.default_rng(0)
    bodies = np.zeros((20, 4, 25, 3))
    bodies[:, 0] = 5 + rng.normal(size=(20, 25, 3)) * 0.1  # far away, still
    bodies[:3, 2] = rng.normal(size=(3, 25, 3)) * 2  # there for three frames, moves most
    bodies[:, 3] = rng.normal(size=(20, 25, 3))
    people = select_people(bodies)
    np.testing.assert_array_equal(people[:, 0], bodies[:, 2].astype(np.float32))
    np.testing.assert_array_equal(people[:, 1], bodies[:, 3].astype(np.float32))


@pytest.mark.parametrize(
    "present, expected",
    [
        ([1, 2, 3, 0, 0, 0, 0, 0], [1, 2, 3, 1, 2, 3, 1, 2]),
        ([0, 0, 1, 0, 2, 0, 0, 0], [1, 2, 1, 2, 1, 2, 1, 2]),  # absent at first: gaps close
        ([1, 0, 2, 0, 3, 0, 0, 0], [1, 0, 2, 0, 3, 1, 0, 2]),  # there at first: gaps stay and are repeated
        ([0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]),
        ([0, 0, 0, 0, 0, 0, 0, 9], [9, 9, 9, 9, 9, 9, 9, 9]),
        ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_null_frames(present, expected):
    person = np.repeat(np.array(present, np.float32), 75).reshape(8, 25, 3)
    fill_null_frames(person)
    np.testing.assert_array_equal(person[:, 0, 0], expected)


@pytest.mark.parametrize("seed", range(10))
def test_rotation_is_the_shortest_one_onto_x(seed):
    vector = np.random.default_rng(seed).normal(size=3)
    rotation = rotation_to_x(vector)
    np.testing.assert_allclose(rotation @ vector, [np.linalg.norm(vector), 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    angle = np.arccos(vector[0] / np.linalg.norm(vector))
    assert np.trace(rotation) == pytest.approx(1 + 2 * np.cos(angle))


@pytest.mark.parametrize("vector", [(0, 0, 0), (2, 0, 0), (-2, 0, 0), (1, 1e-8, 0)])
def test_nothing_turns_where_the_shoulders_say_nothing(vector):
    np.testing.assert_array_equal(rotation_to_x(np.array(vector, np.float64)), np.eye(3))


def test_normalised_people_do_not_depend_on_where_they_stood():
    rng = np.random.default_rng(0)
    bodies = rng.normal(size=(30, 2, 25, 3)) * 0.3
    moved = bodies + [0.5, -0.2, 3.0]
    np.testing.assert_allclose(normalise(moved), normalise(bodies + 1e-3), atol=1e-5)


@pytest.mark.parametrize("name", ["coco", "openpose", "smpl", "mediapipe", "kinect_v1"])
@pytest.mark.parametrize("num_people", [1, 2, 3])
def test_other_skeletons_are_centred_and_aligned_by_their_own_joints(name, num_people):
    skeleton = SKELETONS[name]
    bodies = np.random.default_rng(0).normal(size=(20, 4, len(skeleton.joints), 3)) + [0.5, -0.2, 3]
    people = normalise(bodies, skeleton, num_people)
    assert people.shape == (20, num_people, len(skeleton.joints), 3) and people.any((0, 2, 3)).all()
    np.testing.assert_array_equal(people[:, 0, skeleton.centre], 0)
    line = people[0, 0, skeleton.align[0]] - people[0, 0, skeleton.align[1]]
    np.testing.assert_allclose(line, [np.linalg.norm(line), 0, 0], atol=1e-5)
    # Nothing is stretched: distances between the joints of a frame are those of a body that was there.
    energy = [bodies[:, slot].reshape(-1, 3).std(0).sum() for slot in range(4)]
    kept = bodies[:, np.argsort(energy)[::-1][:num_people]]
    distances = [np.linalg.norm(x[..., 1:, :] - x[..., :-1, :], axis=-1) for x in (people, kept)]
    np.testing.assert_allclose(*distances, rtol=1e-4)


@pytest.mark.parametrize("angle", [0, 30, 89, 91, 150, 180, 200, 269, 271, 350])
def test_in_the_plane_nobody_is_turned_by_more_than_a_right_angle(angle):
    vector = 3 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    rotation = rotation_in_plane(vector)
    np.testing.assert_allclose(np.abs(rotation @ vector), [3, 0], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(2), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    turn = angle % 180 if angle % 180 < 90 else 180 - angle % 180
    assert np.degrees(np.arccos(min(rotation[0, 0], 1))) == pytest.approx(turn, abs=1e-5)


def test_in_the_plane_people_are_centred_and_aligned():
    skeleton = SKELETONS["coco"]
    bodies = np.random.default_rng(1).normal(size=(9, 1, 17, 2)) * 40 + 200
    people = normalise(bodies, skeleton, 2)
    assert people.shape == (9, 2, 17, 2) and not people[:, 1].any() and not people[:, 0, 0].any()
    left, right = people[0, 0, 5], people[0, 0, 6]
    assert left[1] == pytest.approx(right[1], abs=1e-4)
    assert np.linalg.norm(left - right) == pytest.approx(np.linalg.norm(bodies[0, 0, 5] - bodies[0, 0, 6]), rel=1e-5)


def test_a_step_without_joints_is_left_out():
    bodies = np.random.default_rng(0).normal(size=(5, 1, 3, 3))
    plain = Skeleton("mine", ("a", "b", "c"), (0, 0, 0))
    np.testing.assert_array_equal(normalise(bodies, plain, 1), bodies.astype(np.float32))
    centred = normalise(bodies, Skeleton("mine", ("a", "b", "c"), (0, 0, 0), centre=2), 1)
    np.testing.assert_array_equal(centred[:, 0], bodies[:, 0].astype(np.float32) - bodies[:, 0, 2:].astype(np.float32))


@pytest.mark.parametrize("unit", [*UNITS, ""])
def test_the_unit_of_people_who_are_too_tall_is_guessed(unit):
    body = np.random.default_rng(0).uniform(0, [0.6, 1.7, 0.4], (9, 1, 20, 3)) / UNITS.get(unit, 1)
    assert other_unit(body) == unit
    assert other_unit(body[..., :2]) == ""  # perhaps pixels
    assert other_unit(np.zeros_like(body)) == ""


# ---- to fit an encoder -----------------------------------------------------------------------------------------------

V1 = SKELETONS["kinect_v1"]


def moving(people: int, joints: int = 25) -> np.ndarray:
    return np.random.default_rng(people).normal(2, 0.4, (7, people, joints, 3))


def test_a_recording_is_mapped_normalised_and_padded():
    clip = moving(1, 20)
    people, adaptations = fit_people(clip, V1, NTU_LAYOUT)
    assert people.dtype == np.float32 and adaptations == {MAPPED, NORMALISED, ADDED} and not people[:, 1].any()
    np.testing.assert_array_equal(people, normalise(map_joints(clip, V1, KINECT_V2), KINECT_V2, 2))


def test_people_beyond_the_number_are_left_out_by_their_energy():
    crowd = moving(4)
    crowd[:, 2] *= 3  # moves most
    one = FrameLayout(KINECT_V2, 1)
    people, adaptations = fit_people(crowd, KINECT_V2, one)
    assert adaptations == {DROPPED, NORMALISED}
    np.testing.assert_array_equal(people, normalise(crowd[:, 2:3], num_people=1))
    crowd[:, 1:] = 0  # nobody is left out where nobody is
    assert fit_people(crowd, KINECT_V2, one)[1] == {NORMALISED}


def test_what_is_centred_stays_bit_for_bit():
    ready = normalise(moving(2))
    people, adaptations = fit_people(ready, KINECT_V2, NTU_LAYOUT)
    np.testing.assert_array_equal(people, ready)
    assert adaptations == set()
    np.testing.assert_array_equal(fit_people(ready, KINECT_V2, FrameLayout(KINECT_V2, 1))[0], ready[:, :1])
    raw = moving(2)
    stored, adaptations = fit_people(raw, KINECT_V2, FrameLayout(KINECT_V2, 3), centred=False)
    assert adaptations == {ADDED}
    np.testing.assert_array_equal(stored[:, :2], raw.astype(np.float32))


def test_what_cannot_fit_is_refused():
    with pytest.raises(UserError, match="2 coordinates"):
        fit_people(moving(1, 20)[..., :2], V1, NTU_LAYOUT)
    with pytest.raises(UserError, match="kinect_v2 to kinect_v1"):
        fit_people(moving(1), KINECT_V2, FrameLayout(V1))


def test_a_recording_of_nobody_fits_any_number_of_people():
    people, adaptations = fit_people(np.zeros((3, 0, 25, 3)), KINECT_V2, NTU_LAYOUT)
    assert people.shape == (3, 2, 25, 3) and not people.any() and EMPTY in adaptations
