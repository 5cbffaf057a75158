"""Find nearest neighbours by cosine similarity, and measure what they retrieve."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_gen.packed.reader import SPLITS, PackedDataset
from feeder.clips import ClipDataset
from models.encoder import Encoder
from models.frozen import FrozenEncoder
from tools.evaluation.metrics import accuracy
from utils.logs import progress

CHUNK = 1024  # queries compared with the whole gallery at a time


@torch.inference_mode()
def nearest(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """Find each query's k nearest in the gallery (G, D), nearest first: positions, int64 (Q, k).

    Equally similar ones are in the gallery's order. Raises ValueError if k is not in 1..G.
    """
    return torch.cat([_first_k(similarity, k) for _, similarity in _similarities(queries, gallery, k)])


@torch.inference_mode()
def retrieve(
    queries: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Find each query's k nearest, as `nearest` does, and its average precision, float64 (Q,).

    The gallery's recordings of the query's class are the relevant ones; a query without any has NaN. Equally similar
    recordings share one rank, so that the order of the gallery does not matter.
    """
    neighbours, precision = [], []
    for rows, similarity in _similarities(queries, gallery, k):
        neighbours.append(_first_k(similarity, k))
        precision.append(_average_precision(similarity, query_labels[rows], gallery_labels))
    return torch.cat(neighbours), torch.cat(precision)


def _similarities(queries: Tensor, gallery: Tensor, k: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield chunks of queries: their slice, and their cosines (q, G) with the whole gallery."""
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must be from 1 to the gallery's size, {len(gallery)}; it is {k}")
    queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    starts = range(0, len(queries), CHUNK)
    for start in progress(starts, desc="retrieve", unit="chunk", disable=len(starts) <= 1):
        rows = slice(start, start + CHUNK)
        yield rows, queries[rows] @ gallery.T


def _first_k(similarity: Tensor, k: int) -> Tensor:
    """Return the columns of each row's k largest values, in descending order; of equals, the lower column first."""
    if k == 1:
        return similarity.argmax(1, keepdim=True)  # the first of several maxima
    # topk takes equals in any order. So of all columns that reach the k-th value, in ascending order, sort the values.
    reaches = similarity >= similarity.topk(k, dim=1).values[:, -1:]
    width = int(reaches.sum(1).max())
    column = torch.where(reaches, torch.arange(similarity.shape[1], device=similarity.device), similarity.shape[1])
    column = column.topk(width, dim=1, largest=False, sorted=True).values
    value = F.pad(similarity, (0, 1), value=-torch.inf).gather(1, column)
    return column.gather(1, value.argsort(dim=1, descending=True, stable=True)[:, :k])


def _average_precision(similarity: Tensor, labels: Tensor, gallery_labels: Tensor) -> Tensor:
    """Average, over a query's relevant recordings, the share of relevant ones among those at least as similar: (q,)."""
    ranked = _ascending(similarity)
    result = torch.empty(len(labels), dtype=torch.float64, device=labels.device)
    for label in labels.unique():
        rows = labels == label
        own = similarity[rows][:, gallery_labels == label].sort(1).values
        at_least_as_similar = ranked.shape[1] - torch.searchsorted(ranked[rows], own)
        relevant_of_them = own.shape[1] - torch.searchsorted(own, own)
        result[rows] = (relevant_of_them / at_least_as_similar.double()).mean(1)
    return result


def _ascending(similarity: Tensor) -> Tensor:
    """Sort each row. On a CPU numpy does it: torch also sorts positions, and takes several times as long."""
    if similarity.device.type == "cpu":
        return torch.from_numpy(np.sort(similarity.numpy(), axis=1))
    return similarity.sort(1).values


def neighbour_accuracy(encoder: Encoder, source: ClipDataset, packed: PackedDataset, protocol: str) -> float:
    """Measure the share (%) of val recordings whose nearest train recording has the same class, during training: the
    encoder returns to its mode. It shares the frames of `source`, which was made from `packed`."""
    train, val = (source.others(packed, packed.split(protocol, split)) for split in SPLITS)
    was_training, frozen = encoder.training, FrozenEncoder(encoder.eval(), {})
    gallery, queries = (frozen.features(part, title="1-NN")[0] for part in (train, val))
    encoder.train(was_training)
    nearest_label = train.label[nearest(queries, gallery, 1)[:, 0].to(train.device)]
    return accuracy(nearest_label, val.label)


def vote(neighbour_labels: Tensor, num_classes: int) -> Tensor:
    """Choose the most frequent label among each query's neighbours (Q, k), nearest first: int64 (Q,).

    Of equally frequent labels, the nearest neighbour's wins.
    """
    counts = F.one_hot(neighbour_labels, num_classes).sum(1)
    frequency = counts.gather(1, neighbour_labels)
    return neighbour_labels.gather(1, frequency.argmax(1, keepdim=True)).squeeze(1)
