"""The fine-tuning model: the encoder and a linear classifier of its features (docs/method.md, 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.encoder import Backbone


class FinetuneModel(nn.Module):
    """Clips (B, T, M, V, C), of which the first `lone` show one person, in; scores (B, classes) out.

    One modality is encoded without fusion, several are fused; what the others pass through is not trained. The Linear
    begins with weights from N(0, 0.01), drawn from `generator`, and zero bias.
    """

    def __init__(self, backbone: Backbone, modalities: Sequence[str], num_classes: int, generator: torch.Generator):
        super().__init__()
        self.backbone = backbone
        self.modalities = tuple(modalities)
        for part in backbone.unused(modalities):
            part.requires_grad_(False)
        self.linear = nn.Linear(2 * backbone.hidden_size, num_classes)
        with torch.no_grad():
            self.linear.weight.copy_(0.01 * torch.randn(self.linear.weight.shape, generator=generator))
            self.linear.bias.zero_()

    def forward(self, clip: Tensor, lone: int = 0) -> Tensor:
        return self.linear(self.backbone({m: self.backbone.tokens(clip, m, lone) for m in self.modalities}))
