"""Simulate articulated people who act, for the demo's recordings.

A body is 25 joints in NTU (Kinect v2) order, moved by forward kinematics, so its bones keep their length. In
the body's own frame x points to its right, y up, and it faces -z; all lengths are metres, all angles radians.
A *performance* is one action done once by one subject (and a partner); it depends on seed and numbers alone.
The constants below are all that can be tuned, but for those of the sensor (sensor.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

# --- Difficulty: every nuisance that hides an action. Wider ranges make all tasks harder. ---------------
REST_FRAMES = (4, 29)  # standing still before, and again after, the action
ACTION_FRAMES = (46, 60)  # length of an action at pace 1
PACE = (0.85, 1.25)  # a subject's tempo; every performance strays by PACE_JITTER around it
PACE_JITTER = 0.06
WARP = (0.65, 1.6)  # exponent on the phase: early or late acceleration
AMPLITUDE = (0.75, 1.05)  # how far a subject moves
AMPLITUDE_JITTER = 0.1  # ... and how that varies from one performance to the next
BUILD = {"height": (0.88, 1.12), "width": (0.8, 1.25), "arm": (0.88, 1.14), "leg": (0.9, 1.1)}
CYCLES = (1.5, 3.0)  # how often a repeated movement is repeated
REACH = ((1.4, -0.4, 0.0), (2.7, 0.4, 0.9))  # least and most angles of the raised arm's shoulder
REACH_ELBOW = (0.0, 0.7)  # ... and of its elbow
SEAT = (0.5, 0.95)  # how far down the seat is; 1 is a low one
DISTANCE = (0.75, 1.35)  # factor on the distance between two people
HEADING = 0.55  # standard deviation of the direction somebody stands in
LEAN = 0.20  # standard deviation of a subject's posture: forward, sideways, twisted
LEAN_JITTER = 0.20  # ... and of each performance around it
LEFT_HANDED = 0.2  # share of subjects
STANCE = 0.20  # standard deviation of the legs' angles at rest
IDLE = (0.015, 0.06)  # amplitude of a subject's aimless swaying
SPARE_ARM = (1.1, 0.6, 1.4)  # widest flexion, abduction and elbow bend of the arm that has nothing to do

JOINTS = 25
(BASE, MID, NECK, HEAD, L_SHOULDER, L_ELBOW, L_WRIST, L_HAND, R_SHOULDER, R_ELBOW, R_WRIST, R_HAND,
 L_HIP, L_KNEE, L_ANKLE, L_FOOT, R_HIP, R_KNEE, R_ANKLE, R_FOOT, CHEST,
 L_TIP, L_THUMB, R_TIP, R_THUMB) = range(JOINTS)  # fmt: skip
PARENT = np.array([
    -1, BASE, CHEST, NECK, CHEST, L_SHOULDER, L_ELBOW, L_WRIST, CHEST, R_SHOULDER, R_ELBOW, R_WRIST, BASE,
    L_HIP, L_KNEE, L_ANKLE, BASE, R_HIP, R_KNEE, R_ANKLE, MID, L_HAND, L_HAND, R_HAND, R_HAND])  # fmt: skip
FROM_THE_ROOT = (MID, CHEST, NECK, HEAD, *range(L_SHOULDER, CHEST), *range(L_TIP, JOINTS))
MIRROR = np.array([0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22])

# Each joint seen from its parent, standing upright with the arms down; the left side mirrors the right.
_RIGHT = {MID: (0, .30, 0), CHEST: (0, .23, 0), NECK: (0, .08, 0), HEAD: (0, .15, -.02),
          R_SHOULDER: (.17, -.04, 0), R_ELBOW: (0, -.28, 0), R_WRIST: (0, -.25, 0), R_HAND: (0, -.08, 0),
          R_TIP: (0, -.08, 0), R_THUMB: (-.03, -.04, -.03), R_HIP: (.08, -.02, 0), R_KNEE: (0, -.41, 0),
          R_ANKLE: (0, -.38, 0), R_FOOT: (0, -.06, -.12)}  # fmt: skip
_ARM = [R_ELBOW, R_WRIST, R_HAND, R_TIP, R_THUMB]
_LEG = [R_KNEE, R_ANKLE, R_FOOT]

SUBJECTS = range(1, 21)
PARTNERS = 1000  # a subject's partner has this much higher a number, and no recordings
REPLICATIONS = (1, 2)  # 1: towards the middle camera, 2: towards the left one
CAMERA_ANGLES = {1: -np.pi / 4, 2: 0.0, 3: np.pi / 4}
SETUPS = {1: (1.7, 3.5), 2: (0.5, 4.5), 3: (1.2, 3.0), 4: (2.7, 3.5)}  # camera height and distance, metres


@dataclass(frozen=True)
class Subject:
    """One person: body and habits. `offsets` (25, 3): each joint seen from its parent, metres."""

    offsets: np.ndarray
    pace: float
    amplitude: float
    left_handed: bool
    posture: np.ndarray  # (3,) forward lean, twist, sideways lean
    idle: float


def make_subject(seed: int, number: int) -> Subject:
    """Make the subject of a number; partners have numbers outside SUBJECTS."""
    rng = np.random.default_rng([seed, number])
    height, width, arm, leg = (rng.uniform(*BUILD[part]) for part in ("height", "width", "arm", "leg"))
    offsets = np.zeros((JOINTS, 3))
    for joint, offset in _RIGHT.items():
        stretch = height * (arm if joint in _ARM else leg if joint in _LEG else 1.0)
        offsets[joint] = np.array(offset) * stretch
    offsets[[R_SHOULDER, R_HIP], 0] *= width
    for joint in (*_ARM, *_LEG, R_SHOULDER, R_HIP):
        offsets[MIRROR[joint]] = offsets[joint] * (-1, 1, 1)
    return Subject(
        offsets,
        rng.uniform(*PACE),
        rng.uniform(*AMPLITUDE),
        bool(rng.random() < LEFT_HANDED),
        rng.normal(0, LEAN, 3),
        rng.uniform(*IDLE),
    )


def rotations(angles: np.ndarray) -> np.ndarray:
    """Convert angles (..., 3) about x, y, z to matrices (..., 3, 3), Rz Rx Ry: twist, then flexion, then abduction."""
    cx, cy, cz = np.moveaxis(np.cos(angles), -1, 0)
    sx, sy, sz = np.moveaxis(np.sin(angles), -1, 0)
    rows = [cz * cy - sz * sx * sy, -sz * cx, cz * sy + sz * sx * cy,
            sz * cy + cz * sx * sy, cz * cx, sz * sy - cz * sx * cy,
            -cx * sy, sx, cx * cy]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(*angles.shape, 3)


def forward_kinematics(offsets: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Compute joint positions (T, 25, 3) from bones (25, 3) and angles (T, 25, 3); the spine base is the origin. A
    joint's angles turn all its descendants, relative to its parent."""
    turn = rotations(angles)
    position = np.zeros(angles.shape)
    for joint in FROM_THE_ROOT:
        parent = PARENT[joint]
        position[:, joint] = position[:, parent] + turn[:, parent] @ offsets[joint]
        turn[:, joint] = turn[:, parent] @ turn[:, joint]
    return position


# --- Actions: each adds to the (T, 25, 3) angles of somebody right-handed; `u` (T,) is the phase, 0 to 1. ---
@dataclass(frozen=True)
class Style:
    """How an action is done this time. `sense` is -1 for the left-handed, whose pose is mirrored later."""

    size: float
    reach: np.ndarray  # (3,) angles of the raised shoulder
    elbow: float
    cycles: float  # of a movement that is repeated
    seat: float
    sense: float


Act = Callable[[np.ndarray, np.ndarray, Style], None]


def _ramp(u: np.ndarray, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    x = np.clip((u - start) / (stop - start), 0, 1)
    return x * x * (3 - 2 * x)


def _plateau(u: np.ndarray, edge: float = 0.2) -> np.ndarray:
    return _ramp(u, 0, edge) - _ramp(u, 1 - edge, 1)


def _arm(pose: np.ndarray, amount: np.ndarray, shoulder: np.ndarray, elbow: float) -> None:
    pose[:, R_SHOULDER] += amount[:, None] * shoulder
    pose[:, R_ELBOW, 0] += amount * elbow


def _raise(pose: np.ndarray, u: np.ndarray, style: Style, direction: int) -> None:
    _arm(pose, _ramp(u) if direction > 0 else 1 - _ramp(u), style.reach, style.elbow)


def _wave(pose: np.ndarray, u: np.ndarray, style: Style) -> None:
    up = _plateau(u)
    _arm(pose, up, style.reach, style.elbow)
    swing = up * np.sin(2 * np.pi * (style.cycles + 1) * u)
    pose[:, R_SHOULDER, 2] += 0.25 * style.size * swing
    pose[:, R_ELBOW, 2] += 0.6 * style.size * swing


def _circle(pose: np.ndarray, u: np.ndarray, style: Style, direction: int) -> None:
    up = _plateau(u)
    # A cone around straight ahead: flexed by less than a right angle, the arm goes round by abduction.
    _arm(pose, up, np.array([np.pi / 2 - 0.75 * style.size, 0, 0]), 0.3 * style.elbow)
    turns = direction * style.sense * round(style.cycles)  # whole ones, so that it ends as it began
    pose[:, R_SHOULDER, 2] += 2 * np.pi * turns * _ramp(u, 0.1, 0.9)


def _clap(pose: np.ndarray, u: np.ndarray, style: Style, claps: int) -> None:
    up = _plateau(u, 0.15)
    apart = 0.5 + 0.5 * np.cos(2 * np.pi * claps * u)
    for shoulder, elbow, side in ((R_SHOULDER, R_ELBOW, 1), (L_SHOULDER, L_ELBOW, -1)):
        pose[:, [shoulder, elbow]] *= (1 - up)[:, None, None]  # no arm is spare
        pose[:, shoulder, 0] += up * 0.75
        pose[:, shoulder, 1] += up * side * (0.55 - 0.9 * style.size * apart)
        pose[:, elbow, 0] += up * 1.15


def _sit(pose: np.ndarray, u: np.ndarray, style: Style, direction: int) -> None:
    low = _ramp(u) if direction > 0 else 1 - _ramp(u)
    pose[:, [L_HIP, R_HIP], 0] += (1.6 * low * style.seat)[:, None]
    pose[:, [L_KNEE, R_KNEE], 0] -= (1.6 * low * style.seat)[:, None]
    pose[:, MID, 0] -= 0.5 * style.size * np.sin(np.pi * low)


def _shake_hands(pose: np.ndarray, u: np.ndarray, style: Style) -> None:
    up = _plateau(u, 0.3)
    _arm(pose, up, np.array([0.9, 0.1, 0.0]), 0.6)
    pose[:, R_ELBOW, 0] += 0.3 * style.size * up * np.sin(2 * np.pi * 2 * style.cycles * u)


def _walk(pose: np.ndarray, u: np.ndarray, style: Style, direction: int) -> None:
    swing = style.size * _plateau(u, 0.1) * np.sin(2 * np.pi * style.cycles * u * direction)
    bend = style.size * _plateau(u, 0.1) * np.cos(2 * np.pi * style.cycles * u * direction)
    for side, hip, knee, shoulder in ((1, R_HIP, R_KNEE, R_SHOULDER), (-1, L_HIP, L_KNEE, L_SHOULDER)):
        pose[:, hip, 0] += 0.4 * side * swing + 0.15 * np.maximum(side * bend, 0)
        pose[:, knee, 0] -= 0.6 * np.maximum(side * bend, 0)
        pose[:, shoulder, 0] -= 0.4 * side * swing


@dataclass(frozen=True)
class Action:
    """An action; `gap` holds the distance between two people before and after it, None for one person."""

    name: str
    act: Act
    gap: tuple[float, float] | None = None


ACTIONS = dict(enumerate((
    Action("raise an arm", partial(_raise, direction=1)), Action("lower an arm", partial(_raise, direction=-1)),
    Action("wave a hand", _wave),
    Action("circle an arm clockwise", partial(_circle, direction=-1)),
    Action("circle an arm counterclockwise", partial(_circle, direction=1)),
    Action("clap slowly", partial(_clap, claps=2)), Action("clap quickly", partial(_clap, claps=5)),
    Action("sit down", partial(_sit, direction=1)), Action("stand up", partial(_sit, direction=-1)),
    Action("shake hands", _shake_hands, (1.1, 1.1)),
    Action("walk towards each other", partial(_walk, direction=1), (2.3, 1.0)),
    Action("walk apart", partial(_walk, direction=-1), (1.0, 2.3))), start=1))  # fmt: skip


def _rest_pose(subject: Subject, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Make angles (T, 25, 3) of standing: posture, stance, a spare arm and idle swaying."""
    pose = np.zeros((frames, JOINTS, 3))
    lean, twist, tilt = subject.posture + rng.normal(0, LEAN_JITTER, 3)
    pose[:, BASE] = -0.5 * lean, 0.5 * twist, 0.5 * tilt
    pose[:, MID] = -0.5 * lean, -twist, 0.5 * tilt
    stance = rng.normal(0, STANCE, 3) + [0, 0, 0.08]
    pose[:, [L_HIP, R_HIP]] = np.array([-stance, stance]) - pose[0, BASE]  # opposite, to keep the balance
    pose[:, [L_KNEE, R_KNEE], 0] = -np.abs(rng.normal(0, STANCE, 2))
    pose[:, NECK, :2] = rng.normal(0, LEAN, 2)
    pose[:, [L_SHOULDER, R_SHOULDER]] = [[0.05, 0, -0.1], [0.05, 0, 0.1]]
    pose[:, [L_ELBOW, R_ELBOW], 0] = 0.2
    flexion, abduction, bend = rng.uniform(0, SPARE_ARM)
    pose[:, L_SHOULDER] += [flexion, 0, -abduction]
    pose[:, L_ELBOW, 0] += bend
    t = np.arange(frames)[:, None, None] / 30
    for _ in range(2):
        sway = np.sin(2 * np.pi * (rng.uniform(0.1, 0.6) * t + rng.random((JOINTS, 3))))
        pose += subject.idle * rng.normal(0, 1, (JOINTS, 3)) * sway
    return pose


def _place(offsets: np.ndarray, pose: np.ndarray, path: np.ndarray, heading: float) -> np.ndarray:
    """Return world positions (T, 25, 3): the lower foot on the floor, the ankles around `path` (T, 2) in x and z."""
    body = forward_kinematics(offsets, pose)
    body = body @ rotations(np.array([0.0, heading, 0.0])).T
    shift = np.empty((len(body), 1, 3))
    shift[:, 0, 1] = -body[:, [L_FOOT, R_FOOT], 1].min(axis=1)
    shift[:, 0, ::2] = path - body[:, [L_ANKLE, R_ANKLE]].mean(axis=1)[:, ::2]
    return body + shift


@dataclass(frozen=True)
class Performance:
    """What one or two people do: their world positions (T, 25, 3), metres, around the origin. The action takes frames
    `start` to `end`; before and after it they stand."""

    people: list[np.ndarray]
    start: int
    end: int


def perform(seed: int, subject: int, replication: int, action: int, towards: int | None = None) -> Performance:
    """Simulate a performance. `towards`, one of REPLICATIONS, chooses the camera that people face; default: the
    replication. Raises KeyError for an unknown action."""
    rng, what = np.random.default_rng([seed, subject, replication, action]), ACTIONS[action]
    people = [make_subject(seed, subject)]
    if what.gap:
        people.append(make_subject(seed, subject + PARTNERS))
    before, after = rng.integers(*REST_FRAMES, size=2)
    pace = people[0].pace * rng.uniform(1 - PACE_JITTER, 1 + PACE_JITTER)
    duration = rng.uniform(*ACTION_FRAMES) / pace
    frames = int(before + duration + after)
    phase = np.clip((np.arange(frames) - before) / duration, 0, 1) ** np.exp(rng.uniform(*np.log(WARP)))
    cycles, distance = rng.uniform(*CYCLES), rng.uniform(*DISTANCE)
    angle = -CAMERA_ANGLES[{1: 2, 2: 1}[towards or replication]]
    placed = []
    for person, side in zip(people, (-1, 1)):
        size = person.amplitude * rng.uniform(1 - AMPLITUDE_JITTER, 1 + AMPLITUDE_JITTER)
        hand = -1.0 if person.left_handed else 1.0
        style = Style(size, size * rng.uniform(*REACH), rng.uniform(*REACH_ELBOW), cycles, rng.uniform(*SEAT), hand)
        pose = _rest_pose(person, frames, rng)
        what.act(pose, phase, style)
        if person.left_handed:
            pose = pose[:, MIRROR] * (1, -1, -1)
        path, heading = np.zeros((frames, 2)), angle + rng.normal(0, HEADING)
        if what.gap:
            gap = what.gap[0] + (what.gap[1] - what.gap[0]) * _ramp(phase)
            path = side * distance * gap[:, None] / 2 * np.array([np.cos(angle), -np.sin(angle)])
            heading += side * np.pi / 2
        placed.append(_place(person.offsets, pose, path, heading))
    return Performance(placed, int(before), min(frames, int(np.ceil(before + duration))))
