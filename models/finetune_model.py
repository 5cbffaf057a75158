"""The fine-tuning model: the encoder and a linear classifier of its features (docs/method.md, 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from feeder.modalities import Tokens
from models.encoder import Backbone


class FinetuneModel(nn.Module):
    """The encoder and a Linear of its features, trained together.

    One modality is encoded without fusion, several are fused; parts that they do not use are not trained. The Linear
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

    def forward(self, stream: dict[str, Tokens]) -> Tensor:
        """Scores (B, classes) of clips, given by the tokens of `modalities`."""
        return self.linear(self.backbone(stream))
