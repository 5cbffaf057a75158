"""Somebody who does one thing after another: the world that the demo's long recordings show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from data_gen.raw import simulation as sim

ACTIONS = 8  # of a recording
PAUSE_FRAMES = (20, 91)  # between two actions, besides the rest that belongs to a performance
AWAY = 0.15  # chance that nobody is seen during a pause
REPLICATIONS = 100  # above those of the demo's clips, so that no performance is in both


@dataclass(frozen=True)
class Piece:
    """A part of a recording. Either an action from 1 (frames `start` to `end` of it), or a pause without one (0), in
    which people move on to the next; without people, nobody is seen for `pause` frames."""

    people: list[np.ndarray] = field(default_factory=list)
    action: int = 0
    start: int = 0
    end: int = 0
    pause: int = 0


def act_out(seed: int, number: int, subject: int, rng: np.random.Generator) -> Iterator[Piece]:
    """The pieces of a recording, one after the other: a pause before each action, and one after the last."""
    last = None
    for action in rng.choice(list(sim.ACTIONS), ACTIONS).tolist():
        replication = REPLICATIONS * (1 + number) + int(rng.integers(REPLICATIONS))
        towards = int(rng.choice(sim.REPLICATIONS))
        done = sim.perform_timed(seed, subject, replication, action, towards)
        yield _pause(last, done.people[0][0], rng)
        yield Piece(done.people, action, done.start, done.end)
        last = done.people[0][-1]
    yield _pause(last, last, rng)


def _pause(before: np.ndarray | None, after: np.ndarray | None, rng: np.random.Generator) -> Piece:
    """Somebody goes over from one pose (25, 3) to another, joint by joint, or is out of sight."""
    frames = int(rng.integers(*PAUSE_FRAMES))
    before, after = (after, after) if before is None else (before, after)
    if before is None or after is None or rng.random() < AWAY:
        return Piece(pause=frames)
    step = np.linspace(0, 1, frames)[:, None, None]
    smooth = step * step * (3 - 2 * step)
    return Piece([before + smooth * (after - before)])
