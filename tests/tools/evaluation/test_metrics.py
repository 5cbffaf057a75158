import pytest
import torch

from tools.evaluation.metrics import accuracy, top_k_accuracy


def test_accuracies():
    logits = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    labels = torch.tensor([2, 1, 0])
    assert top_k_accuracy(logits, labels, 1) == pytest.approx(100 / 3)
    assert top_k_accuracy(logits, labels, 2) == pytest.approx(200 / 3)
    assert top_k_accuracy(logits, labels, 5) == 100
    assert accuracy(logits.argmax(1), labels) == pytest.approx(100 / 3)
