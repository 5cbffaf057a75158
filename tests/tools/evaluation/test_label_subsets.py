from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.evaluation.label_subsets import class_count, stratified


def side_of(counts: dict[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Names and labels of so many recordings of each class, in any order."""
    labels = np.repeat(list(counts), list(counts.values()))
    names = np.array([f"S001C001P001R{i:03d}A{label + 1:03d}" for i, label in enumerate(labels)])
    order = rng.permutation(len(labels))
    return names[order], labels[order]


sizes = st.dictionaries(st.integers(0, 119), st.integers(1, 60), min_size=1, max_size=8)


@given(sizes, st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]), st.integers(0, 4), st.integers(0, 99))
def test_every_class_gives_its_share_whatever_the_order(counts, fraction, seed, shuffle):
    names, labels = side_of(counts, np.random.default_rng(shuffle))
    chosen = stratified(names, labels, fraction, seed)
    assert (np.diff(chosen) > 0).all()
    given = Counter(labels[chosen].tolist())
    assert given == {label: class_count(size, fraction) for label, size in counts.items()}
    order = np.random.default_rng(shuffle + 1).permutation(len(names))
    again = stratified(names[order], labels[order], fraction, seed)
    assert set(names[order][again]) == set(names[chosen])


@given(st.integers(1, 1000), st.integers(1, 100))
def test_a_share_is_rounded_to_the_nearest(size, percent):
    count = class_count(size, percent / 100)
    assert 1 <= count <= size
    assert abs(100 * count - size * percent) <= 50 or (count == 1 and size * percent < 50)


@pytest.mark.parametrize(
    "size, fraction, count", [(50, 0.29, 15), (50, 0.03, 2), (10, 0.05, 1), (30, 0.05, 2), (4, 0.01, 1), (7, 1.0, 7)]
)
def test_halves_are_rounded_up_by_the_decimal_number(size, fraction, count):
    """50 · 0.29 is 14.5, and 14.499999999999998 in binary."""
    assert class_count(size, fraction) == count


def test_each_seed_chooses_otherwise_and_evenly():
    names, labels = side_of({3: 40}, np.random.default_rng(0))
    chosen = [stratified(names, labels, 0.1, seed) for seed in range(500)]
    assert all(len(c) == 4 for c in chosen) and len({tuple(c) for c in chosen}) > 490
    times = np.bincount(np.concatenate(chosen), minlength=40)
    assert times.min() > 20 and times.max() < 85  # 50 each, give or take five standard deviations


def test_the_subset_of_a_seed_is_fixed_for_good():
    """What a published table was made with must not move with versions of anything."""
    names, labels = side_of({0: 5, 1: 5}, np.random.default_rng(0))
    chosen = set(names[stratified(names, labels, 0.4, 0)])
    assert chosen == {f"S001C001P001R{i:03d}A{a:03d}" for i, a in ((2, 1), (4, 1), (6, 2), (7, 2))}  # by sha256sum
