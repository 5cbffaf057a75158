import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from tools.evaluation import knn
from tools.evaluation.knn import nearest, retrieve, vote


@pytest.mark.parametrize("k", [1, 2, 5, 37])
def test_they_are_the_nearest_by_cosine(k, monkeypatch):
    monkeypatch.setattr(knn, "CHUNK", 10)
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


def test_average_precision_is_sklearns(monkeypatch):
    """With equal similarities among the gallery, classes of different size, and one that it lacks."""
    monkeypatch.setattr(knn, "CHUNK", 10)
    rng = np.random.default_rng(0)
    # Directions whose products are exact, so that equal ones are equal however they are computed.
    directions = np.concatenate((np.eye(4), -np.eye(4), rng.choice([-0.5, 0.5], (8, 4)))).astype(np.float32)
    queries, gallery = (directions[rng.integers(16, size=n)] for n in (33, 57))
    query_labels, gallery_labels = rng.integers(0, 6, 33), rng.choice(5, 57, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    query_labels[:3] = 5
    found, precision = retrieve(*map(torch.tensor, (queries, query_labels, gallery, gallery_labels)), 4)
    np.testing.assert_array_equal(found, nearest(torch.tensor(queries), torch.tensor(gallery), 4))
    unit = [torch.nn.functional.normalize(torch.tensor(x), dim=1) for x in (queries, gallery)]
    for label, similarity, value in zip(query_labels, (unit[0] @ unit[1].T).numpy(), precision.tolist()):
        if label == 5:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(average_precision_score(gallery_labels == label, similarity), abs=1e-12)
