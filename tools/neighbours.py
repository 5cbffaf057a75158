"""Nearest neighbours by cosine similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.logs import progress

CHUNK = 1024  # queries compared with the whole gallery at a time


@torch.inference_mode()
def nearest(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """Positions in the gallery (G, D) of each query's k nearest by cosine, nearest first: int64 (Q, k).

    Equally similar ones come in the gallery's order. Raises ValueError where k is not in 1..G.
    """
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must be from 1 to the gallery's size, {len(gallery)}; it is {k}")
    queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    found = [
        _first_k(queries[start : start + CHUNK] @ gallery.T, k)
        for start in progress(range(0, len(queries), CHUNK), desc="retrieve", unit="chunk")
    ]
    return torch.cat(found)


def _first_k(similarity: Tensor, k: int) -> Tensor:
    """Columns of each row's k largest values, in descending order; among equals the lower column comes first."""
    if k == 1:
        return similarity.argmax(1, keepdim=True)  # the first of several maxima
    # topk alone takes equals in any order. Of all that reach the k-th value, order by (value, column) exactly.
    threshold = similarity.topk(k, dim=1).values[:, -1:]
    width = int((similarity >= threshold).sum(1).max())
    columns = torch.arange(similarity.shape[1], device=similarity.device)
    candidate = torch.where(similarity >= threshold, columns, columns.numel())
    candidate = candidate.topk(width, dim=1, largest=False, sorted=True).values
    padded = F.pad(similarity, (0, 1), value=-torch.inf)
    order = padded.gather(1, candidate).argsort(dim=1, descending=True, stable=True)[:, :k]
    return candidate.gather(1, order)


def vote(neighbour_labels: Tensor, num_classes: int) -> Tensor:
    """The most frequent label among each query's neighbours (Q, k), nearest first: int64 (Q,).

    Of several labels equally frequent, that of the nearest neighbour among them wins.
    """
    counts = torch.zeros(len(neighbour_labels), num_classes, dtype=torch.int64, device=neighbour_labels.device)
    counts.scatter_add_(1, neighbour_labels, torch.ones_like(neighbour_labels))
    frequency = counts.gather(1, neighbour_labels)
    return neighbour_labels.gather(1, frequency.argmax(1, keepdim=True)).squeeze(1)
