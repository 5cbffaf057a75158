"""The detector: the encoder and a linear classifier of each frame of a window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from feeder.modalities import Tokens
from models.encoder import Backbone


class Detector(nn.Module):
    """The encoder's temporal tokens before the maximum, the spatial feature beside each, and a Linear to the classes
    and background, which comes last.

    With `finetune` the encoder is trained too, but for parts that the modalities do not use; else the Linear alone.
    """

    def __init__(self, backbone: Backbone, modalities: Sequence[str], num_classes: int, finetune: bool, seed: int = 0):
        super().__init__()
        self.backbone, self.modalities, self.finetune = backbone, tuple(modalities), finetune
        backbone.requires_grad_(finetune)
        for part in backbone.unused(modalities):
            part.requires_grad_(False)
        self.linear = nn.Linear(2 * backbone.hidden_size, num_classes + 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.linear.weight.copy_(0.01 * torch.randn(self.linear.weight.shape, generator=generator))
            self.linear.bias.zero_()

    def forward(self, stream: dict[str, Tokens]) -> Tensor:
        """Scores (B, 64, classes + 1) of the frames of windows, given by the tokens of `modalities`."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            temporal, spatial = self.backbone.encode_tokens(stream)
        feature = spatial.amax(1, keepdim=True).expand_as(temporal)
        return self.linear(torch.cat((temporal, feature), dim=-1))
