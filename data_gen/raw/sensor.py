"""Sense simulated people as three Kinect v2 cameras would, with their noise and faults, and write NTU's text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_gen.raw import simulation as sim
from utils.errors import UserError
from utils.files import atomic_write

# --- The sensor's noise -------------------------------------------------------------------------------------
JITTER = 0.006  # of a well-seen joint 3 m away, metres
HAND_JITTER = 2.0  # factor on hands and feet
OCCLUDED_JITTER = 4.0  # factor on joints hidden behind the body, whose tracking state is 1
NOISE_MEMORY = 0.6  # correlation of the noise with that of the frame before: Kinect smooths
EXTREMITIES = [sim.L_WRIST, sim.L_HAND, sim.R_WRIST, sim.R_HAND, sim.L_ANKLE, sim.L_FOOT, sim.R_ANKLE, sim.R_FOOT,
               sim.L_TIP, sim.L_THUMB, sim.R_TIP, sim.R_THUMB]  # fmt: skip
# --- Its faults ---------------------------------------------------------------------------------------------
DROPPED = 0.01  # chance that a frame has no body at all
LATE = 0.04  # chance that somebody is missing at the start of a recording
LATE_FRAMES = (2, 9)
SWAP = 0.05  # chance that two people swap their places in the list until the end
GHOST = 0.02  # chance of an additional body for a moment
GHOST_FRAMES = (3, 9)

LEAVES = [sim.HEAD, sim.L_FOOT, sim.R_FOOT, sim.L_TIP, sim.L_THUMB, sim.R_TIP, sim.R_THUMB]
FIRST_BODY_ID = 72057594037927936
# Depth (512 x 424) and colour (1920 x 1080) image: focal length, centre (pixels), shift of the lens (metres).
DEPTH_LENS = (365.5, np.array([258.0, 206.0]), 0.0)
COLOUR_LENS = (1060.0, np.array([960.0, 540.0]), 0.052)
_JOINT_LINE = "%.6f %.6f %.6f %.2f %.2f %.2f %.2f %.5f %.5f %.5f %.5f %d\n"
_BODY = "%d 0 1 1 1 1 0 %.5f %.5f 2\n25\n" + sim.JOINTS * _JOINT_LINE


@dataclass(frozen=True)
class Camera:
    """A camera's position (3,), metres, and its axes (3, 3), one per row, in the world."""

    position: np.ndarray
    axes: np.ndarray


def make_camera(setup: int, camera: int) -> Camera:
    """Place a setup's camera at its angle, looking at the middle of the body. Raises KeyError."""
    angle, (height, distance) = sim.CAMERA_ANGLES[camera], sim.SETUPS[setup]
    position = np.array([np.sin(angle) * distance, height, -np.cos(angle) * distance])
    forward = np.array([0, 0.9, 0]) - position
    forward /= np.linalg.norm(forward)
    across = np.array([np.cos(angle), 0, np.sin(angle)])
    return Camera(position, np.stack([across, np.cross(forward, across), forward]))


def to_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Convert world positions (..., 3) to camera space, metres: x to a facing person's right, y up, z away."""
    return (points - camera.position) @ camera.axes.T


@dataclass
class SensedBodies:
    """What a camera saw: slot s of frame t is a body if `shown`.

    joints (T, S, 25, 3) metres in camera space; state (T, S, 25), 2 tracked or 1 inferred; shown (T, S) bool;
    body_id (T, S).
    """

    joints: np.ndarray
    state: np.ndarray
    shown: np.ndarray
    body_id: np.ndarray


def _jitter(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw unit noise (T, ...) in which each frame resembles the one before."""
    noise = rng.normal(size=shape)
    fresh = np.sqrt(1 - NOISE_MEMORY**2)
    for frame in range(1, len(noise)):
        noise[frame] = NOISE_MEMORY * noise[frame - 1] + fresh * noise[frame]
    return noise


def sense_body(seen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add noise to joints (T, 25, 3) in camera space. Return them and their tracking states (T, 25)."""
    from_chest = seen - seen[:, [sim.CHEST]]
    hidden = (from_chest[..., 2] > 0.1) & (np.abs(from_chest[..., 0]) < 0.12) & (from_chest[..., 1] > -0.7)
    scale = JITTER * (seen[..., 2] / 3) ** 2
    scale[:, EXTREMITIES] *= HAND_JITTER
    scale[hidden] *= OCCLUDED_JITTER
    return seen + scale[..., None] * _jitter(seen.shape, rng), np.where(hidden, 1, 2)


def _ghost(body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make what the sensor mistakes for a body: a third of somebody's size, off to one side."""
    centre = body[:, [sim.MID]]
    return centre + (body - centre) / 3 + np.array([rng.choice([-1, 1]) * rng.uniform(0.6, 1.2), -0.3, 0.4])


def sense(people: list[np.ndarray], rng: np.random.Generator) -> SensedBodies:
    """Sense people (T, 25, 3) in camera space, with the sensor's noise and faults."""
    frames, genuine = len(people[0]), len(people)
    shown = np.ones((frames, genuine), bool)
    if rng.random() < LATE:
        shown[: rng.integers(*LATE_FRAMES), rng.integers(genuine)] = False
    if rng.random() < GHOST:
        people = [*people, _ghost(people[0], rng)]
        start, length = rng.integers(frames // 2), rng.integers(*GHOST_FRAMES)
        at = np.arange(frames)
        shown = np.column_stack([shown, (at >= start) & (at < start + length)])
    shown[rng.random(frames) < DROPPED] = False
    joints, state = (np.stack(x, axis=1) for x in zip(*(sense_body(body, rng) for body in people)))
    body_id = np.tile(FIRST_BODY_ID + rng.integers(1, 30000) + np.arange(len(people)), (frames, 1))
    if genuine > 1 and rng.random() < SWAP:
        swapped = slice(int(rng.integers(1, frames)), None)
        for part in (joints, state, shown, body_id):
            part[swapped, :2] = part[swapped, 1::-1].copy()
    return SensedBodies(joints, state, shown, body_id)


def _project(points: np.ndarray, lens: tuple[float, np.ndarray, float]) -> np.ndarray:
    """Project points (..., 3) in camera space, metres, to pixels (..., 2); rows count downwards."""
    focal, centre, shift = lens
    return centre + focal * (points[..., :2] + (shift, 0)) * (1, -1) / points[..., 2:]


def _orientations(joints: np.ndarray) -> np.ndarray:
    """Make quaternions w x y z (..., 25, 4) of joints (..., 25, 3): y along the bone; zero at leaves, as Kinect's."""
    bone = joints - joints[..., sim.PARENT, :]
    bone[..., sim.BASE, :] = joints[..., sim.MID, :] - joints[..., sim.BASE, :]
    x, y, z = np.moveaxis(bone / np.linalg.norm(bone, axis=-1, keepdims=True), -1, 0)
    turn = np.stack([1 + y, z, np.zeros_like(y), -x], axis=-1)
    turn /= np.linalg.norm(turn, axis=-1, keepdims=True) + 1e-9
    turn[..., LEAVES, :] = 0
    return turn


def to_text(recording: SensedBodies) -> str:
    """Format a recording as NTU text: counts, a line of 10 values per body, of 12 values per joint."""
    joints = recording.joints
    pixels = [_project(joints, lens) for lens in (DEPTH_LENS, COLOUR_LENS)]
    columns = np.concatenate([joints, *pixels, _orientations(joints), recording.state[..., None]], axis=-1)
    lean = (joints[..., sim.CHEST, ::2] - joints[..., sim.BASE, ::2]) / 0.5
    parts = [f"{len(joints)}\n"]
    for frame, shown in enumerate(recording.shown):
        slots = np.flatnonzero(shown)
        parts.append(f"{len(slots)}\n")
        for slot in slots:
            head = (recording.body_id[frame, slot], *lean[frame, slot])
            parts.append(_BODY % (*head, *columns[frame, slot].ravel().tolist()))
    return "".join(parts)


def recording_name(subject: int, replication: int, action: int, camera: int) -> str:
    """Return a recording's NTU file name."""
    return f"S{setup_of(subject):03}C{camera:03}P{subject:03}R{replication:03}A{action:03}.skeleton"


def setup_of(subject: int) -> int:
    """Return the one setup in which a subject was recorded."""
    return 1 + (subject - 1) % len(sim.SETUPS)


def write_performance(out: Path, seed: int, performance: tuple[int, int, int]) -> None:
    """Write a file for each camera of a performance (subject, replication, action)."""
    people = sim.perform(seed, *performance).people
    for camera in sim.CAMERA_ANGLES:
        view = make_camera(setup_of(performance[0]), camera)
        rng = np.random.default_rng([seed, *performance, camera])
        recording = sense([to_camera(body, view) for body in people], rng)
        write_text(out / recording_name(*performance, camera), to_text(recording))


def write_text(path: Path, text: str) -> None:
    """Write a recording. Raises UserError if another one is at `path`."""
    content = text.encode()
    if path.exists() and path.read_bytes() != content:
        raise UserError(f"{path}: holds another recording; name another folder by --out")
    with atomic_write(path) as partial:
        partial.write_bytes(content)
