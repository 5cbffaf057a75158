"""Measure nearest-neighbour accuracy of an encoder during its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from data_gen.packed.reader import SIDES, PackedDataset
from feeder.clips import ClipDataset
from models.encoder import Backbone
from tools.evaluation.features import extract_features
from tools.evaluation.knn import nearest
from tools.utils.metrics import accuracy


def neighbour_accuracy(
    source: ClipDataset, packed: PackedDataset, protocol: str
) -> Callable[[Backbone, Sequence[str]], float]:
    """Return a function that measures the share (%) of val recordings whose nearest train recording, by cosine, has the
    same class. It shares the frames of `source`, which was made from `packed`, and leaves the encoder unchanged."""
    train, val = (source.others(packed, packed.split(protocol, side)) for side in SIDES)

    def measure(backbone: Backbone, modalities: Sequence[str]) -> float:
        device, was_training = next(backbone.parameters()).device, backbone.training
        backbone.eval()
        gallery, queries = (extract_features(backbone, side, [modalities], device, "1-NN")[0] for side in (train, val))
        backbone.train(was_training)
        found = nearest(queries, gallery, 1)[:, 0].to(train.device)
        return accuracy(train.label[found], val.label)

    return measure
