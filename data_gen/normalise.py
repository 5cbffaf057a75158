"""From the bodies a sensor listed to two normalised people (docs/method.md, 2)."""

from __future__ import annotations

import numpy as np

NUM_PEOPLE = 2
CENTRE_JOINT = 1  # spine middle
SHOULDERS = (8, 4)  # right, left
_EPSILON = 1e-6


def normalise(bodies: np.ndarray) -> np.ndarray:
    """Bodies float64 (T, S, 25, 3) in camera space → people float32 (T, 2, 25, 3), centred and aligned."""
    result = np.zeros((len(bodies), NUM_PEOPLE, *bodies.shape[2:]), np.float32)
    people = select_people(bodies)
    num_people = people.shape[1]  # the others stay zero
    if num_people:
        for person in range(num_people):
            fill_null_frames(people[:, person])
        result[:, :num_people] = align(centre(people))
    return result


def select_people(bodies: np.ndarray) -> np.ndarray:
    """The two slots of highest energy, or as many as there are, in descending order: float32 (T, 2, 25, 3)."""
    if bodies.shape[1] < 2:
        return bodies.astype(np.float32)
    energy = np.array([_energy(bodies[:, slot]) for slot in range(bodies.shape[1])])
    return bodies[:, energy.argsort()[::-1][:NUM_PEOPLE]].astype(np.float32, order="C")


def _energy(body: np.ndarray) -> float:
    """Spread of a body (T, V, 3): the standard deviations of x, y and z over its non-zero frames, summed."""
    present = body[~_null_frames(body)]
    return float(present.reshape(-1, 3).std(axis=0).sum()) if len(present) else 0.0


def _null_frames(person: np.ndarray) -> np.ndarray:
    """Which frames of a person (T, V, 3) sum to zero: bool (T,)."""
    return _sum(person).sum(-1) == 0


def _sum(joints: np.ndarray) -> np.ndarray:
    """x + y + z, in that order: `sum` takes a multiple of the time over an axis of three."""
    return joints[..., 0] + joints[..., 1] + joints[..., 2]


def fill_null_frames(person: np.ndarray) -> None:
    """Close the gaps of a person (T, V, 3) who is absent at first, then repeat what there is to the end.

    In place. A gap in the middle of a person who is there in frame 0 stays zero.
    """
    null = _null_frames(person)
    if null.all() or not null.any():
        return
    if null[0]:
        present = person[~null]
        person[: len(present)] = present
        person[len(present) :] = 0
        end = len(present)
    else:
        end = int(np.flatnonzero(~null)[-1]) + 1
    person[end:] = person[np.arange(len(person) - end) % end]


def centre(people: np.ndarray) -> np.ndarray:
    """Subtract person 0's spine middle, frame by frame; joints that sum to zero stay zero. (T, 1 or 2, V, 3)."""
    origin = people[:, :1, CENTRE_JOINT : CENTRE_JOINT + 1]
    present = _sum(people) != 0
    centred = people - origin
    if not present.all():
        centred *= present[..., None]
    return centred


def align(people: np.ndarray) -> np.ndarray:
    """Turn (T, 1 or 2, V, 3) so that person 0's shoulder line, left to right in frame 0, points along +x; float64."""
    right, left = people[0, 0, SHOULDERS[0]], people[0, 0, SHOULDERS[1]]
    rotation = rotation_to_x((right - left).astype(np.float64))
    return (people.reshape(-1, 3) @ rotation.T).reshape(people.shape)  # one product instead of one a frame


def rotation_to_x(vector: np.ndarray) -> np.ndarray:
    """The shortest rotation, float64 (3, 3), that takes `vector` onto +x; the identity where it is zero or
    already on the axis, in either direction."""
    axis = np.array([0.0, vector[2], -vector[1]])  # the cross product with +x
    sine, cosine = np.sqrt(axis @ axis), vector[0]
    angle = np.arctan2(sine, cosine)
    if np.abs(axis).sum() < _EPSILON or angle < _EPSILON:
        return np.eye(3)
    x, y, z = axis / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)
