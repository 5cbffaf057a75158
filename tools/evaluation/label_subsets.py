"""Choose a few labelled recordings, the same share of each class (docs/method.md, 7)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def stratified(names: Sequence[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose `class_count` recordings of each class. Return their positions, int64, ascending.

    In each class, choose those with the lowest SHA-256 of seed and name. So the choice depends only on seed, names and
    labels, not on the order of the recordings, the process, the machine or a random generator's version.
    """
    digests = np.array([hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in names])
    ranked = digests.argsort()
    chosen = []
    for label in np.unique(labels):
        own = ranked[labels[ranked] == label]
        chosen.append(own[: class_count(len(own), fraction)])
    return np.sort(np.concatenate(chosen))


def class_count(size: int, fraction: float) -> int:
    """Return a fraction in (0, 1] of a class's `size` recordings, rounded half up, at least 1. The fraction is the
    decimal number as written (0.29, not 0.28999999999999998)."""
    return max(1, math.floor(size * Fraction(repr(fraction)) + Fraction(1, 2)))
