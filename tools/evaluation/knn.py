"""Nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.utils.logs import progress

CHUNK = 1024  # queries compared with the whole gallery at a time


@torch.inference_mode()
def nearest(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """Positions in the gallery (G, D) of each query's k nearest by cosine, nearest first: int64 (Q, k).

    Equally similar ones come in the gallery's order. Raises ValueError where k is not in 1..G.
    """
    _check(k, gallery)
    return torch.cat([_first_k(similarity, k) for _, similarity in _similarities(queries, gallery)])


@torch.inference_mode()
def retrieve(
    queries: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """What `nearest` returns, and each query's average precision, float64 (Q,), in one pass over the similarities.

    The gallery's recordings of the query's class are the relevant ones; a query without any has NaN. Equally similar
    recordings share one rank, so that the order of the gallery does not matter.
    """
    _check(k, gallery)
    relevant = _members(gallery_labels, int(query_labels.max()) + 1)
    found, precision = [], []
    for rows, similarity in _similarities(queries, gallery):
        found.append(_first_k(similarity, k))
        precision.append(_average_precision(similarity, relevant[query_labels[rows]]))
    return torch.cat(found), torch.cat(precision)


def _check(k: int, gallery: Tensor) -> None:
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must be from 1 to the gallery's size, {len(gallery)}; it is {k}")


def _similarities(queries: Tensor, gallery: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some queries at a time: which, and their cosines (q, G) with the whole gallery."""
    queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    starts = range(0, len(queries), CHUNK)
    for start in progress(starts, desc="retrieve", unit="chunk", disable=len(starts) <= 1):
        rows = slice(start, start + CHUNK)
        yield rows, queries[rows] @ gallery.T


def _members(labels: Tensor, num_classes: int) -> Tensor:
    """Positions of each class's recordings: int64 (classes, size of the largest), the rest filled with len(labels)."""
    num_classes = max(num_classes, int(labels.max()) + 1)
    counts = torch.bincount(labels, minlength=num_classes)
    order = labels.argsort(stable=True)
    place = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels[order]]
    members = labels.new_full((num_classes, int(counts.max())), len(labels))
    members[labels[order], place] = order
    return members


def _average_precision(similarity: Tensor, relevant: Tensor) -> Tensor:
    """Of each query: the mean over its relevant recordings of the share of relevant ones among all that are at least
    as similar."""
    own = F.pad(similarity, (0, 1), value=-torch.inf).gather(1, relevant).sort(1).values
    size, width = similarity.shape[1], own.shape[1]
    at_least = size - torch.searchsorted(_sorted(similarity), own)
    share = (width - torch.searchsorted(own, own)) / at_least.double()
    valid = own > -torch.inf
    return torch.where(valid, share, 0).sum(1) / valid.sum(1)


def _sorted(similarity: Tensor) -> Tensor:
    """Each row in ascending order. On a CPU by numpy: torch sorts positions too, and takes several times as long."""
    if similarity.device.type == "cpu":
        return torch.from_numpy(np.sort(similarity.numpy(), axis=1))
    return similarity.sort(1).values


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
