"""The simulated people and what the cameras make of them."""

from __future__ import annotations

import hashlib
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from data_gen import demo_gendata as demo
from data_gen.datasets import NTU60_SUBJECTS
from data_gen.raw import sensor
from data_gen.raw import simulation as sim
from utils.errors import UserError

PAIRS = [a for a, action in sim.ACTIONS.items() if action.gap]
# The child-parent pairs of the bone modality.
CHILD = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25]) - 1
NEXT = np.array([2, 21, 21, 3, 21, 5, 6, 7, 21, 9, 10, 11, 1, 13, 14, 15, 1, 17, 18, 19, 23, 8, 25, 12]) - 1


def bone_lengths(body: np.ndarray) -> np.ndarray:
    return np.linalg.norm(body[..., CHILD, :] - body[..., NEXT, :], axis=-1)


def find_performer(left_handed: bool) -> int:
    return next(p for p in sim.SUBJECTS if sim.make_subject(0, p).left_handed == left_handed)


def test_simulated_recordings_do_not_overwrite_others(tmp_path):
    subjects = sim.SUBJECTS[:1]
    demo.generate(tmp_path, subjects=subjects)
    demo.generate(tmp_path, subjects=subjects)
    first = min(tmp_path.iterdir())
    first.write_text("a real one")
    with pytest.raises(UserError, match=f"{first.name}: holds another recording"):
        demo.generate(tmp_path, subjects=subjects)
    assert first.read_text() == "a real one"


def test_the_set_is_large_enough_and_splits_as_ntu_does():
    assert list(sim.ACTIONS) == list(range(1, 13)) and len(PAIRS) == 3
    assert len({action.name for action in sim.ACTIONS.values()}) == 12
    names = {
        sensor.recording_name(*key) for key in product(sim.SUBJECTS, sim.REPLICATIONS, sim.ACTIONS, sim.CAMERA_ANGLES)
    }
    assert len(names) == 1440
    assert all(re.fullmatch(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}\.skeleton", name) for name in names)
    train = {name for name in names if int(name[9:12]) in NTU60_SUBJECTS}
    assert len(train) == 936
    assert {int(name[1:4]) for name in names} == set(sim.SETUPS)


@pytest.mark.parametrize("action", sim.ACTIONS)
def test_bones_keep_their_length_and_belong_to_the_performer(action):
    for body, number in zip(sim.perform(0, 3, 1, action).people, (3, 3 + sim.PARTNERS)):
        lengths = bone_lengths(body)
        assert np.ptp(lengths, axis=0).max() < 1e-9
        offsets = sim.make_subject(0, number).offsets
        at_rest = sim.forward_kinematics(offsets, np.zeros((1, sim.JOINTS, 3)))
        np.testing.assert_allclose(lengths[0], bone_lengths(at_rest)[0])


@pytest.mark.parametrize("axis, up", [(0, [0, 0, -1]), (2, [1, 0, 0])])
def test_a_right_angle_at_the_shoulder_lifts_the_arm(axis, up):
    angles = np.zeros((1, sim.JOINTS, 3))
    angles[0, sim.R_SHOULDER, axis] = np.pi / 2
    body = sim.forward_kinematics(sim.make_subject(0, 1).offsets, angles)[0]
    arm = body[sim.R_WRIST] - body[sim.R_SHOULDER]
    np.testing.assert_allclose(arm / np.linalg.norm(arm), up, atol=1e-12)


@pytest.mark.parametrize("left_handed", [False, True])
def test_paired_actions_run_the_same_way_in_opposite_order(left_handed):
    subject = find_performer(left_handed)
    hand, shoulder = (sim.L_HAND, sim.L_SHOULDER) if left_handed else (sim.R_HAND, sim.R_SHOULDER)

    def gain(action: int, height) -> float:
        values = height(sim.perform(0, subject, 1, action).people)
        return values[-3:].mean() - values[:3].mean()

    lift = [gain(action, lambda people: people[0][:, hand, 1] - people[0][:, shoulder, 1]) for action in (1, 2)]
    assert lift[0] > 0.1 and lift[1] < -0.1
    stand = [gain(action, lambda people: people[0][:, sim.BASE, 1]) for action in (8, 9)]
    assert stand[0] < -0.05 and stand[1] > 0.05
    apart = [
        gain(action, lambda people: np.linalg.norm(people[0][:, 0] - people[1][:, 0], axis=1)) for action in (11, 12)
    ]
    assert apart[0] < -0.7 and apart[1] > 0.7


@pytest.mark.parametrize("left_handed", [False, True])
def test_circles_turn_in_opposite_directions(left_handed):
    subject = find_performer(left_handed)
    hand = sim.L_HAND if left_handed else sim.R_HAND

    def turned(action: int) -> float:
        body = sim.perform(0, subject, 1, action).people[0]
        across = body[:, sim.R_SHOULDER] - body[:, sim.L_SHOULDER]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        arm = body[:, hand] - body[:, sim.CHEST]
        plane = np.stack([(arm * across).sum(1), arm[:, 1]], axis=1)
        plane -= (plane.max(0) + plane.min(0)) / 2
        (x, y), (dx, dy) = plane[:-1].T, np.diff(plane, axis=0).T
        return (x * dy - y * dx).sum()

    # Seen by the subject, who has x to the right and y up, clockwise is the negative direction.
    assert turned(4) < 0 < turned(5)


def test_feet_stay_on_the_floor():
    for action in sim.ACTIONS:
        for body in sim.perform(0, 4, 1, action).people:
            np.testing.assert_allclose(body[:, [sim.L_FOOT, sim.R_FOOT], 1].min(axis=1), 0, atol=1e-9)


def test_cameras_agree_after_undoing_their_rotation():
    body = sim.perform(0, 1, 1, 3).people[0]
    views = {c: sensor.make_camera(1, c) for c in sim.CAMERA_ANGLES}
    seen = {c: sensor.to_camera(body, view) for c, view in views.items()}
    for camera, view in views.items():
        np.testing.assert_allclose(view.axes @ view.axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(view.axes) == pytest.approx(1)
        np.testing.assert_allclose(seen[camera] @ view.axes + view.position, body, atol=1e-9)
        assert (seen[camera][..., 2] > 1).all()
    assert np.abs(seen[1] - seen[3]).max() > 0.3


def test_who_faces_a_camera_has_the_right_shoulder_on_its_positive_side():
    """Kinect's x grows towards the right hand of somebody who faces it."""
    for replication, camera in ((1, 2), (2, 1)):
        across = []
        for subject in sim.SUBJECTS:
            seen = sensor.to_camera(sim.perform(0, subject, replication, 1).people[0], sensor.make_camera(1, camera))
            across.append((seen[0, sim.R_SHOULDER] - seen[0, sim.L_SHOULDER])[0])
        assert np.mean(across) > 0.2


@pytest.fixture(scope="module")
def recordings() -> dict[tuple[int, int], sensor.SensedBodies]:
    view = sensor.make_camera(1, 2)
    people = {a: [sensor.to_camera(body, view) for body in sim.perform(0, 1, 1, a).people] for a in sim.ACTIONS}
    return {(a, n): sensor.sense(people[a], np.random.default_rng([a, n])) for a in sim.ACTIONS for n in range(100)}


def test_faults_occur_at_the_stated_rates(recordings):
    """Each within four standard errors of the constant that states it."""

    def near(count: int, total: int, rate: float) -> None:
        assert abs(count - total * rate) < 4 * np.sqrt(total * rate * (1 - rate))

    genuine = {key: 2 if key[0] in PAIRS else 1 for key in recordings}
    nobody = late_pairs = swaps = ghosts = 0
    for key, r in recordings.items():
        nobody += (~r.shown.any(axis=1)).sum() if key[0] in PAIRS else 0
        late_pairs += key[0] in PAIRS and bool((r.shown[:2].sum(axis=1) == 1).any())
        ghosts += r.shown.shape[1] > genuine[key]
        swaps += bool((r.body_id != r.body_id[0]).any())
    pairs = [r for (a, _), r in recordings.items() if a in PAIRS]
    near(nobody, sum(len(r.shown) for r in pairs), sensor.DROPPED)
    near(late_pairs, len(pairs), sensor.LATE)
    near(ghosts, len(recordings), sensor.GHOST)
    near(swaps, len(pairs), sensor.SWAP)


def test_hidden_joints_are_inferred_and_noisier():
    view = sensor.make_camera(1, 3)
    seen = sensor.to_camera(sim.perform(0, 1, 2, 1).people[0], view)  # from the side
    noisy, state = sensor.sense_body(seen, np.random.default_rng(0))
    assert 0.005 < (state == 1).mean() < 0.5
    calm = [j for j in range(sim.JOINTS) if j not in sensor.EXTREMITIES]
    error, hidden = np.linalg.norm(noisy - seen, axis=-1)[:, calm], (state == 1)[:, calm]
    assert error[hidden].mean() > 2 * error[~hidden].mean()
    assert 0.003 < error[~hidden].mean() < 0.03


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    assert demo.generate(out, seed=0, workers=1, subjects=[1, 3]) == 2 * 2 * 12 * 3
    return out


def test_files_are_ntu_text(folder):
    paths = sorted(folder.iterdir())
    assert len(paths) == 144 and paths[0].name == "S001C001P001R001A001.skeleton"
    for path in paths[::7]:
        content = path.read_bytes()
        assert b"\r" not in content and content.endswith(b"\n")
        lines = iter(content.decode("ascii").splitlines())
        for _ in range(int(next(lines))):
            for _ in range(int(next(lines))):
                body = next(lines).split()
                assert len(body) == 10 and int(body[0]) > 2**56
                assert next(lines) == "25"
                joints = np.array([next(lines).split() for _ in range(25)], float)
                assert joints.shape == (25, 12) and np.isfinite(joints).all()
                assert set(joints[:, 11]) <= {1.0, 2.0}
                turn = np.linalg.norm(joints[:, 7:11], axis=1)
                assert ((np.abs(turn - 1) < 1e-3) | (turn == 0)).all()
                assert (np.abs(joints[:, 3] - (258 + 365.5 * joints[:, 0] / joints[:, 2])) < 0.02).all()
        assert next(lines, None) is None


def test_the_text_holds_what_the_camera_saw(folder):
    people = [sensor.to_camera(body, sensor.make_camera(3, 2)) for body in sim.perform(0, 3, 2, 10).people]
    recording = sensor.sense(people, np.random.default_rng([0, 3, 2, 10, 2]))
    text = (folder / sensor.recording_name(3, 2, 10, 2)).read_text()
    bodies = re.findall(r"\n25\n((?:[^\n]+\n){25})", text)
    read = np.array([[line.split()[:3] for line in body.splitlines()] for body in bodies], float)
    np.testing.assert_allclose(read, recording.joints[recording.shown], atol=1e-6)


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in sorted(folder.iterdir()))).hexdigest()


def test_same_seed_same_bytes_whatever_the_workers(folder, tmp_path):
    demo.generate(tmp_path / "two", seed=0, workers=2, subjects=[1, 3])
    assert digest(tmp_path / "two") == digest(folder)
    demo.generate(tmp_path / "other", seed=1, workers=1, subjects=[1])
    name = sensor.recording_name(1, 1, 1, 1)
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()
