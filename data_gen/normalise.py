"""From the bodies a sensor listed to two normalised people (docs/method.md, 2)."""

from __future__ import annotations

import numpy as np

NUM_PEOPLE = 2
CENTRE_JOINT = 1  # spine middle
SHOULDERS = (8, 4)  # right, left
_EPSILON = 1e-6


def normalise(bodies: np.ndarray) -> np.ndarray:
    """Bodies float64 (T, S, 25, 3) in camera space → people float32 (T, 2, 25, 3), centred and aligned."""
    people = select_people(bodies)
    for person in range(NUM_PEOPLE):
        fill_null_frames(people[:, person])
    return align(centre(people))


def select_people(bodies: np.ndarray) -> np.ndarray:
    """The two slots of highest energy, in descending order: float32 (T, 2, 25, 3), zero where there is none."""
    energy = np.array([_energy(bodies[:, slot]) for slot in range(bodies.shape[1])])
    order = energy.argsort()[::-1][:NUM_PEOPLE]
    people = np.zeros((len(bodies), NUM_PEOPLE, *bodies.shape[2:]), np.float32)
    people[:, : len(order)] = bodies[:, order]
    return people


def _energy(body: np.ndarray) -> float:
    """Spread of a body (T, V, 3): the standard deviations of x, y and z over its non-zero frames, summed."""
    present = body[~_null_frames(body)]
    return float(present.reshape(-1, 3).std(axis=0).sum()) if len(present) else 0.0


def _null_frames(person: np.ndarray) -> np.ndarray:
    """Which frames of a person (T, V, 3) sum to zero: bool (T,)."""
    return person.sum(-1).sum(-1) == 0


def fill_null_frames(person: np.ndarray) -> None:
    """Close the gaps of a person (T, V, 3) who is absent at first, then repeat what there is to the end.

    In place. A gap in the middle of a person who is there in frame 0 stays zero.
    """
    null = _null_frames(person)
    if null.all():
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
    """Subtract person 0's spine middle, frame by frame; joints that sum to zero stay zero. (T, 2, V, 3)."""
    origin = people[:, :1, CENTRE_JOINT : CENTRE_JOINT + 1]
    present = people.sum(-1, keepdims=True) != 0
    return (people - origin) * present


def align(people: np.ndarray) -> np.ndarray:
    """Turn (T, 2, V, 3) so that person 0's shoulder line, left to right in frame 0, points along +x."""
    right, left = people[0, 0, SHOULDERS[0]], people[0, 0, SHOULDERS[1]]
    rotation = rotation_to_x((right - left).astype(np.float64))
    return (people @ rotation.T).astype(np.float32)


def rotation_to_x(vector: np.ndarray) -> np.ndarray:
    """The shortest rotation, float64 (3, 3), that takes `vector` onto +x; the identity where it is zero or
    already on the axis, in either direction."""
    axis = np.cross(vector, [1.0, 0.0, 0.0])
    sine, cosine = np.linalg.norm(axis), vector[0]
    angle = np.arctan2(sine, cosine)
    if np.abs(axis).sum() < _EPSILON or angle < _EPSILON:
        return np.eye(3)
    x, y, z = axis / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)
