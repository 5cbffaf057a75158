import pytest
import torch

from tools.utils.metrics import class_accuracies, mean_of_classes, top_k_accuracy


def test_accuracies():
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    labels = torch.tensor([2, 1, 0])
    assert top_k_accuracy(scores, labels, 1) == pytest.approx(100 / 3)
    assert top_k_accuracy(scores, labels, 2) == pytest.approx(200 / 3)
    assert top_k_accuracy(scores, labels, 5) == 100
    rows = [class_accuracies(torch.tensor(p), torch.tensor([0, 0, 2]), 3) for p in ([0, 1, 2], [0, 0, 1])]
    assert rows == [[50, None, 100], [100, None, 0]] and mean_of_classes(rows) == [75, None, 50]
