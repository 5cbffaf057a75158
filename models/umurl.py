"""The pre-training models: the backbone and what projects its features (docs/method.md, 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modalities import MODALITIES
from models.batch_norm import GlobalBatchNorm
from models.encoder import Backbone

PROJECTION_SIZE = 4096
# What a model returns for a batch, by name: (B, 4096) each.
Projections = dict[str, Tensor]


class UmURL(nn.Module):
    """A view of each modality and one of all of them, each (B, T, M, V, C), in; two projections a modality out: its
    uni-modal stream's, called as the modality, and the multi-modal stream's by the same projector, `multi_…`.

    Batch statistics are those of the global batch. The first `lone` clips of each view show one person: the others
    are zero.
    """

    def __init__(
        self, hidden_size: int = 1024, modalities: Sequence[str] = MODALITIES, layout: FrameLayout = NTU_LAYOUT
    ):
        super().__init__()
        self.modalities = tuple(modalities)
        self.num_views = len(self.modalities) + 1
        self.backbone = Backbone(hidden_size, modalities, layout)
        for modality in self.modalities:  # j_projector, b_projector, m_projector, as published
            self.add_module(f"{modality[0]}_projector", _projector(hidden_size))

    def forward(self, views: tuple[Tensor, ...], lone: int = 0) -> Projections:
        single = {m: self.backbone.tokens(view, m, lone) for m, view in zip(self.modalities, views)}
        joined = {m: self.backbone.tokens(views[-1], m, lone) for m in self.modalities}
        *uni, multi = self.backbone.streams(single, [joined])
        projectors = [self.get_submodule(f"{m[0]}_projector") for m in self.modalities]
        projected = [p(y) for p, y in zip(projectors, uni)] + [p(multi) for p in projectors]
        return name_projections(projected, self.modalities)


def name_projections(projected: Iterable[Tensor], modalities: Sequence[str] = MODALITIES) -> Projections:
    """What `UmURL` returns, from the uni-modal streams' projections and then the multi-modal stream's."""
    return dict(zip([*modalities, *(f"multi_{m}" for m in modalities)], projected))


class SimpleBaseline(nn.Module):
    """Early fusion alone, the ablation's baseline: two views, each (B, T, M, V, C), in; their multi-modal projections,
    `view_1` and `view_2`, by one projector, out. Otherwise as `UmURL`."""

    num_views = 2

    def __init__(
        self, hidden_size: int = 1024, modalities: Sequence[str] = MODALITIES, layout: FrameLayout = NTU_LAYOUT
    ):
        super().__init__()
        self.modalities = tuple(modalities)
        self.backbone = Backbone(hidden_size, modalities, layout)
        self.projector = _projector(hidden_size)

    def forward(self, views: tuple[Tensor, ...], lone: int = 0) -> Projections:
        joined = [{m: self.backbone.tokens(view, m, lone) for m in self.modalities} for view in views]
        streams = self.backbone.streams({}, joined)
        return {f"view_{i}": self.projector(y) for i, y in enumerate(streams, 1)}


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
