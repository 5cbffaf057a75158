import zipfile

import numpy as np
import pytest

from data_gen.normalise import fill_null_frames, normalise, rotation_to_x, select_people
from data_gen.skeleton_file import parse_skeleton
from tests.helpers import GOLDEN


def golden_cases():
    golden = np.load(GOLDEN / "converted.npz")
    for side in ("train", "val"):
        for i, name in enumerate(golden[f"xsub_{side}_names"]):
            stem = str(name).removesuffix(".skeleton")
            yield pytest.param(stem, golden[f"xsub_{side}_data"][i], int(golden[f"xsub_{side}_num_frame"][i]), id=stem)


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
