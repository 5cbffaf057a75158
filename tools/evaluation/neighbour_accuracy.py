"""Measure nearest-neighbour accuracy of an encoder during its training."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.packed.reader import SIDES, PackedDataset
from feeder.clips import ClipDataset
from models.encoder import Backbone
from tools.evaluation.features import extract_features
from tools.evaluation.knn import nearest
from tools.utils.metrics import accuracy


class NeighbourAccuracy:
    """Measure the share of val recordings whose nearest train recording, by cosine, has the same class."""

    def __init__(self, source: ClipDataset, packed: PackedDataset, protocol: str):
        """Share the frames of `source`, which was made from `packed`."""
        self.train, self.val = (source.others(packed, packed.split(protocol, side)) for side in SIDES)

    def measure(self, backbone: Backbone, modalities: Sequence[str]) -> float:
        """Return the accuracy in % with frozen features. The encoder stays unchanged."""
        device, was_training = next(backbone.parameters()).device, backbone.training
        backbone.eval()
        gallery, queries = (
            extract_features(backbone, side, [modalities], device, "1-NN")[0] for side in (self.train, self.val)
        )
        backbone.train(was_training)
        found = nearest(queries, gallery, 1)[:, 0].to(self.train.device)
        return accuracy(self.train.label[found], self.val.label)
