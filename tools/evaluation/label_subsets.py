"""Few-label subsets of a training side, stratified by class (docs/method.md, 7)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def stratified(names: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Positions, int64 and ascending, of the recordings whose labels are used: of each class `class_count` of them.

    A class gives those whose SHA-256 of seed and name is lowest. So what is chosen depends on seed, names and labels
    alone: not on the order of the recordings, the process, the machine or the version of a random generator.
    """
    digests = np.array([hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in names])
    ranked = digests.argsort()
    chosen = []
    for label in np.unique(labels):
        own = ranked[labels[ranked] == label]
        chosen.append(own[: class_count(len(own), fraction)])
    return np.sort(np.concatenate(chosen))


def class_count(size: int, fraction: float) -> int:
    """How many of a class's `size` recordings a fraction in (0, 1] is: rounded to the nearest, halves up, at least 1.
    The fraction counts as the decimal number that it is written as."""
    return max(1, math.floor(size * Fraction(repr(fraction)) + Fraction(1, 2)))
