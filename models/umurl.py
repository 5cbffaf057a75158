"""The pre-training model: the backbone and a projector for each modality (docs/method.md, 5)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from feeder.body import NTU_BODY, BodyShape
from feeder.modalities import MODALITIES, Tokens, to_tokens
from models.batch_norm import GlobalBatchNorm
from models.encoder import Backbone

PROJECTION_SIZE = 4096


class Projections(NamedTuple):
    """(B, 4096) each: the uni-modal streams, and the multi-modal stream through each modality's projector."""

    joint: Tensor
    bone: Tensor
    motion: Tensor
    multi_joint: Tensor
    multi_bone: Tensor
    multi_motion: Tensor


class UmURL(nn.Module):
    """Four views, each (B, T, M, V, C), in; six projections out. Batch statistics are those of the global batch.

    The first `lone` clips of each view show one person: the others are zero.
    """

    def __init__(self, hidden_size: int = 1024, body: BodyShape = NTU_BODY):
        super().__init__()
        self.backbone = Backbone(hidden_size, body)
        self.j_projector = _projector(hidden_size)
        self.b_projector = _projector(hidden_size)
        self.m_projector = _projector(hidden_size)

    def forward(self, views: tuple[Tensor, Tensor, Tensor, Tensor], lone: int = 0) -> Projections:
        parents = self.backbone.parent_values
        single = {m: to_tokens(view, m, lone, parents) for m, view in zip(MODALITIES, views)}
        joined: dict[str, Tokens] = {m: to_tokens(views[3], m, lone, parents) for m in MODALITIES}
        *uni, multi = self.backbone.streams(single, joined)
        projectors = (self.j_projector, self.b_projector, self.m_projector)
        return Projections(*(p(y) for p, y in zip(projectors, uni)), *(p(multi) for p in projectors))


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
