"""Simulate somebody who does one action after another, for the demo's long recordings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from data_gen.raw import simulation as sim

ACTIONS = 8  # of a recording
PAUSE_FRAMES = (20, 91)  # between two actions; a performance has more standing still
AWAY = 0.15  # chance that nobody is seen during a pause
REPLICATIONS = 100  # above those of the demo's clips: no performance is in both


@dataclass(frozen=True)
class Piece:
    """Hold a part of a recording: an action, from 1, in its frames `start` to `end`; or a pause (0) in which somebody
    moves to the next pose. Without people, nobody is seen for `pause` frames."""

    people: list[np.ndarray] = field(default_factory=list)
    action: int = 0
    start: int = 0
    end: int = 0
    pause: int = 0


def act_out(seed: int, number: int, subject: int, rng: np.random.Generator) -> Iterator[Piece]:
    """Yield the pieces of a recording: a pause before each action, and one after the last."""
    last = None
    for action in rng.choice(list(sim.ACTIONS), ACTIONS).tolist():
        replication = REPLICATIONS * (1 + number) + int(rng.integers(REPLICATIONS))
        towards = int(rng.choice(sim.REPLICATIONS))
        done = sim.perform(seed, subject, replication, action, towards)
        yield _pause(last, done.people[0][0], rng)
        yield Piece(done.people, action, done.start, done.end)
        last = done.people[0][-1]
    yield _pause(last, last, rng)


def _pause(before: np.ndarray | None, after: np.ndarray | None, rng: np.random.Generator) -> Piece:
    """Make a pause: somebody moves from one pose (25, 3) to another, joint by joint, or is out of sight."""
    frames = int(rng.integers(*PAUSE_FRAMES))
    before, after = (after, after) if before is None else (before, after)
    if before is None or after is None or rng.random() < AWAY:
        return Piece(pause=frames)
    step = np.linspace(0, 1, frames)[:, None, None]
    smooth = step * step * (3 - 2 * step)
    return Piece([before + smooth * (after - before)])
