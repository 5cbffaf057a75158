"""The model for fine-tuning: the encoder and a linear classifier of its features (docs/method.md, 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from feeder.modalities import Tokens
from models.encoder import Backbone


def new_linear(size: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """Make a Linear with weights from N(0, 0.01) and zero bias."""
    linear = nn.Linear(size, classes)
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(linear.weight.shape, generator=generator))
        linear.bias.zero_()
    return linear


class FinetuneModel(nn.Module):
    """Classify features by a Linear that is trained together with the encoder.

    One modality is encoded without fusion, several are fused; parts of the encoder that they do not use are not
    trained.
    """

    def __init__(self, backbone: Backbone, modalities: Sequence[str], num_classes: int, generator: torch.Generator):
        super().__init__()
        self.backbone = backbone
        self.modalities = tuple(modalities)
        backbone.freeze_unused(modalities)
        self.linear = new_linear(2 * backbone.hidden_size, num_classes, generator)

    def forward(self, stream: dict[str, Tokens]) -> Tensor:
        """Score clips, given the tokens of `modalities`: (B, classes)."""
        return self.linear(self.backbone(stream))
