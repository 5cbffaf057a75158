"""The detector: the encoder and a linear classifier of the frames of a window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from feeder.modalities import Tokens
from models.encoder import Backbone
from models.finetune_model import new_linear


class Detector(nn.Module):
    """Classify each temporal token (before the maximum), joined with the spatial feature, by a Linear.

    Classes come first, background last. With `finetune` the encoder is trained too, except parts that the modalities
    do not use; otherwise the Linear alone is.
    """

    def __init__(self, backbone: Backbone, modalities: Sequence[str], num_classes: int, finetune: bool, seed: int = 0):
        super().__init__()
        self.backbone, self.modalities, self.finetune = backbone, tuple(modalities), finetune
        backbone.requires_grad_(finetune)
        backbone.freeze_unused(modalities)
        self.linear = new_linear(2 * backbone.hidden_size, num_classes + 1, torch.Generator().manual_seed(seed))

    def forward(self, stream: dict[str, Tokens]) -> Tensor:
        """Score the frames of windows, given the tokens of `modalities`: (B, 64, classes + 1)."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            temporal, spatial = self.backbone.encode_tokens(stream)
        feature = spatial.max(1, keepdim=True).values.expand_as(temporal)
        return self.linear(torch.cat((temporal, feature), dim=-1))
