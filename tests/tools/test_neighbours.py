import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from tools import neighbours
from tools.neighbours import nearest, vote


@pytest.mark.parametrize("k", [1, 2, 5, 37])
def test_they_are_the_nearest_by_cosine(k, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 10)
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(33, 8)), rng.normal(size=(37, 8)) * rng.uniform(0.1, 10, (37, 1))
    expected = NearestNeighbors(n_neighbors=k, metric="cosine").fit(gallery).kneighbors(queries)[1]
    np.testing.assert_array_equal(nearest(torch.tensor(queries), torch.tensor(gallery), k), expected)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_equals_come_in_the_gallerys_order(k):
    gallery = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    found = nearest(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), gallery, k)
    assert found[0].tolist() == [1, 3, 4, 0, 2, 5][:k]
    assert found[1].tolist() == [0, 2, 1, 3, 4, 5][:k]


def test_many_equals():
    found = nearest(torch.ones(3, 4), torch.ones(50, 4), 20)
    assert found.tolist() == [list(range(20))] * 3


@pytest.mark.parametrize("k", [0, 6])
def test_k_must_fit_the_gallery(k):
    with pytest.raises(ValueError, match="from 1 to the gallery's size, 5"):
        nearest(torch.ones(2, 3), torch.ones(5, 3), k)


@pytest.mark.parametrize(
    "labels, winner",
    [([4], 4), ([2, 1, 1], 1), ([2, 1, 1, 2], 2), ([0, 1, 2, 2, 1], 1), ([3, 2, 1, 0], 3)],
)
def test_majority_wins_and_the_nearest_breaks_ties(labels, winner):
    assert vote(torch.tensor([labels]), 5).tolist() == [winner]
