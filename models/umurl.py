"""The models of pre-training: the backbone, and projectors of its features (docs/method.md, 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modalities import Tokens
from feeder.modality_names import MODALITIES
from models.batch_norm import GlobalBatchNorm
from models.encoder import Backbone

PROJECTION_SIZE = 4096
Projections = dict[str, Tensor]  # by name, (B, 4096) each


class UmURL(nn.Module):
    """Three uni-modal streams and a multi-modal one, a shared encoder, a projector per modality.

    `streams` lists the modalities of each stream. Each stream has a view of its own.
    """

    def __init__(self, hidden_size: int, modalities: Sequence[str] = MODALITIES, layout: FrameLayout = NTU_LAYOUT):
        super().__init__()
        self.modalities = tuple(modalities)
        self.streams = (*((m,) for m in self.modalities), self.modalities)
        self.backbone = Backbone(hidden_size, modalities, layout)
        for modality in self.modalities:  # j_projector, b_projector, m_projector, as published
            self.add_module(f"{modality[0]}_projector", _projector(hidden_size))

    def forward(self, streams: Sequence[dict[str, Tokens]]) -> Projections:
        """Project the streams' features to (B, 4096), twice by each modality's projector: `joint` is its uni-modal
        stream, `multi_joint` the multi-modal one. Batch statistics are those of the global batch."""
        *uni, multi = self.backbone.encode(streams)
        z = {m: self._projector(m)(y) for m, y in zip(self.modalities, uni)}
        z |= {f"multi_{m}": self._projector(m)(multi) for m in self.modalities}
        return z

    def _projector(self, modality: str) -> nn.Module:
        return self.get_submodule(f"{modality[0]}_projector")


class SimpleBaseline(nn.Module):
    """The ablation's baseline, early fusion alone: two multi-modal streams, each of its own view, and one projector."""

    def __init__(self, hidden_size: int, modalities: Sequence[str] = MODALITIES, layout: FrameLayout = NTU_LAYOUT):
        super().__init__()
        self.modalities = tuple(modalities)
        self.streams = (self.modalities, self.modalities)
        self.backbone = Backbone(hidden_size, modalities, layout)
        self.projector = _projector(hidden_size)

    def forward(self, streams: Sequence[dict[str, Tokens]]) -> Projections:
        """Project both streams' features to (B, 4096): `view_1` and `view_2`."""
        return {f"view_{i}": self.projector(y) for i, y in enumerate(self.backbone.encode(streams), 1)}


def _projector(hidden_size: int) -> nn.Sequential:
    width = 2 * hidden_size
    return nn.Sequential(
        nn.Linear(width, width),
        GlobalBatchNorm(width),
        nn.ReLU(),
        nn.Linear(width, width),
        GlobalBatchNorm(width),
        nn.ReLU(),
        nn.Linear(width, PROJECTION_SIZE),
    )
