"""Choose, centre and align people among the bodies that a sensor listed (docs/method.md, 2)."""

from __future__ import annotations

import numpy as np

from data_gen.raw.skeleton_file import FARTHEST
from data_gen.skeletons import KINECT_V2, NUM_PEOPLE, FrameLayout, Skeleton, map_joints
from utils.errors import UserError
from utils.text import counted

OFF_CENTRE = 1e-3  # metres; the centre of normalised people is at zero
TALLEST = 3.5  # metres over which the joints of a body spread
UNITS = {"feet": 0.3048, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}  # in metres
MAPPED, NORMALISED, DROPPED, ADDED = "mapped", "normalised", "dropped", "added"  # adaptations by fit_people
EMPTY = "empty"  # no person in any frame
_EPSILON = 1e-6


def normalise(bodies: np.ndarray, skeleton: Skeleton = KINECT_V2, num_people: int = NUM_PEOPLE) -> np.ndarray:
    """Normalise bodies float64 (T, S, V, C), C = 2 or 3, to people float32 (T, num_people, V, C).

    People are centred and aligned as the skeleton says; absent ones are zero.
    """
    result = np.zeros((len(bodies), num_people, *bodies.shape[2:]), np.float32)
    people = select_people(bodies, num_people)
    present = people.shape[1]  # the others stay zero
    if present:
        for person in range(present):
            fill_null_frames(people[:, person])
        result[:, :present] = align(centre(people, skeleton.centre), skeleton.align)
    return result


def fit_people(
    bodies: np.ndarray, source: Skeleton, target: FrameLayout, centred: bool = True
) -> tuple[np.ndarray, set[str]]:
    """Convert bodies (T, S, V, C) to the people, joints and coordinates an encoder expects: float32 (T, M', V', C).
    Returns the array and the set of adaptations made, or of doubts about the recording (`EMPTY`, a unit).

    Joints are mapped; if the encoder was trained on `centred` people, others are normalised; people beyond the layout's
    are left out by the conversion's rule, absent ones are zero.
    """
    skeleton, people = target.skeleton, target.people
    if bodies.shape[3] != target.coordinates:
        raise UserError(f"holds {source.name} with {bodies.shape[3]} coordinates, the encoder takes {target}")
    adaptations = {MAPPED} if source != skeleton else set()
    bodies = map_joints(bodies, source, skeleton)
    present = int(bodies.any(axis=(0, 2, 3)).sum())
    adaptations |= {DROPPED} if present > people else {ADDED} if bodies.shape[1] < people else set()
    adaptations |= {EMPTY} if not present else {unit} if (unit := other_unit(bodies)) else set()
    if centred and not is_centred(bodies, skeleton):
        return normalise(bodies.astype(np.float64), skeleton, people), adaptations | {NORMALISED}
    # Centred people are in the order of their energy before that.
    chosen = bodies if centred or bodies.shape[1] <= people else select_people(bodies, people)
    fitted = np.zeros((len(bodies), people, *bodies.shape[2:]), np.float32)
    fitted[:, : chosen.shape[1]] = chosen[:, :people]
    return fitted, adaptations


def is_centred(people: np.ndarray, skeleton: Skeleton, every_frame: bool = True) -> bool:
    """Return whether the skeleton's centre of person 0, of people (T, M, V, C), is at the origin: in every frame, or in
    the first, that shows the person. False where nobody is there or the skeleton has no centre."""
    if skeleton.centre is None:
        return False
    present = people[people[:, 0].any(axis=(1, 2)), 0, skeleton.centre] if people.shape[1] else people[:0]
    return len(present) > 0 and bool(np.abs(present if every_frame else present[0]).max() <= OFF_CENTRE)


def other_unit(people: np.ndarray) -> str:
    """Return the unit of UNITS in which bodies (T, M, V, 3) seem to be measured, if their joints typically spread over
    more than TALLEST; else an empty text. So it is for two coordinates, which may be pixels."""
    shown = people[people.any(axis=(2, 3))]
    height = float(np.median(np.ptp(shown, axis=1).max(axis=1))) if len(shown) and people.shape[3] == 3 else 0.0
    return min(UNITS, key=lambda unit: abs(np.log(height * UNITS[unit] / 1.7))) if height > TALLEST else ""


def in_unit(unit: str) -> str:
    """Say that people are too tall, and the unit that would fit."""
    return f"people are more than {TALLEST:g} metres tall, as if measured in {unit} (× {UNITS[unit]:g} are metres)"


def check_values(people: np.ndarray) -> np.ndarray:
    """Return the bodies (T, S, V, C) unchanged. Raises UserError for no frames and non-finite or too large values."""
    if not len(people):
        raise UserError("holds no frames")
    broken = np.flatnonzero(~np.isfinite(people).all(axis=(1, 2, 3)))
    if len(broken):
        raise UserError(
            f"non-finite values in {len(broken)} of {counted(len(people), 'frame')}, first in frame {broken[0]} "
            "(counted from 0); import_dataset --repair N fills gaps of up to N frames"
        )
    if people.size and float(np.abs(people).max()) > FARTHEST:
        raise UserError(f"values beyond {FARTHEST:.0e}")
    return people


def select_people(bodies: np.ndarray, num_people: int = NUM_PEOPLE) -> np.ndarray:
    """Keep the `num_people` slots of highest energy, in descending order: float32 (T, ≤ num_people, V, C)."""
    if bodies.shape[1] < 2:
        return bodies.astype(np.float32)
    energy = np.array([_energy(bodies[:, slot]) for slot in range(bodies.shape[1])])
    return bodies[:, energy.argsort()[::-1][:num_people]].astype(np.float32, order="C")


def _energy(body: np.ndarray) -> float:
    """Sum the standard deviations of x, y and z of a body (T, V, C) over its non-zero frames."""
    present = body[~_null_frames(body)]
    return float(present.reshape(-1, body.shape[-1]).std(axis=0).sum()) if len(present) else 0.0


def _null_frames(person: np.ndarray) -> np.ndarray:
    """Mark the frames of a person (T, V, C) that sum to zero: bool (T,)."""
    return _sum(person).sum(-1) == 0


def _sum(joints: np.ndarray) -> np.ndarray:
    """Add x + y (+ z), in that order; `sum` is several times slower over so short an axis."""
    flat = joints[..., 0] + joints[..., 1]
    return flat + joints[..., 2] if joints.shape[-1] == 3 else flat


def fill_null_frames(person: np.ndarray) -> None:
    """Fill absent frames of a person (T, V, C), in place.

    If the person is absent in frame 0, present frames move to the front. Then the frames before the final absence are
    repeated to the end. If the person is present in frame 0, gaps in the middle stay zero.
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


def centre(people: np.ndarray, joint: int | None) -> np.ndarray:
    """Subtract person 0's `joint` from people (T, M, V, C), frame by frame; joints that sum to zero stay zero."""
    if joint is None:
        return people
    origin = people[:, :1, joint : joint + 1]
    present = _sum(people) != 0
    centred = people - origin
    if not present.all():
        centred *= present[..., None]
    return centred


def align(people: np.ndarray, joints: tuple[int, int] | None) -> np.ndarray:
    """Rotate people (T, M, V, C) so that in frame 0 person 0's vector from the second of two joints to the first points
    along +x (in two dimensions: along the x axis, in either direction). Returns float64."""
    if joints is None:
        return people
    first, second = people[0, 0, joints[0]], people[0, 0, joints[1]]
    vector = (first - second).astype(np.float64)
    rotation = rotation_to_x(vector) if len(vector) == 3 else rotation_in_plane(vector)
    return (people.reshape(-1, len(vector)) @ rotation.T).reshape(people.shape)  # one product for all frames


def rotation_to_x(vector: np.ndarray) -> np.ndarray:
    """Return the shortest rotation, float64 (3, 3), of `vector` onto +x; the identity if it is zero or on the axis, in
    either direction."""
    axis = np.array([0.0, vector[2], -vector[1]])  # the cross product with +x
    sine, cosine = np.sqrt(axis @ axis), vector[0]
    angle = np.arctan2(sine, cosine)
    if np.abs(axis).sum() < _EPSILON or angle < _EPSILON:
        return np.eye(3)
    x, y, z = axis / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)


def rotation_in_plane(vector: np.ndarray) -> np.ndarray:
    """Return the shortest rotation, float64 (2, 2), of `vector` onto the x axis, in the nearer direction; the identity
    if it is on the axis.

    Always turning to +x would put somebody seen from behind upside down.
    """
    x, y = vector if vector[0] >= 0 else -vector
    if abs(y) < _EPSILON:
        return np.eye(2)
    length = np.hypot(x, y)
    return np.array([[x, y], [-y, x]]) / length
