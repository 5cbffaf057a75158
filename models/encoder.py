"""The contract of an encoder (docs/encoders.md)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from data_gen.skeletons import FrameLayout
from feeder.modalities import Stream
from utils.errors import UserError


class Encoder(nn.Module):
    """Map modalities of clips to features. `ENCODERS[name](hidden_size, modalities, layout)` makes one.

    An encoder sets the three attributes and defines `forward`; the other methods are optional.

    modalities: those it has parts for, in the order of the table
    layout: people, joints and coordinates of a frame, and the skeleton
    feature_size: number of values in a feature
    """

    modalities: Stream
    layout: FrameLayout
    feature_size: int

    def forward(self, clips: dict[str, Tensor]) -> Tensor:
        """Encode one modality alone or several, fused: name → float32 (B, T, M, V, C), to (B, feature_size)."""
        raise NotImplementedError

    def encode(self, streams: Sequence[dict[str, Tensor]]) -> list[Tensor]:
        """Encode several streams of B clips: (B, feature_size) each. Faster if one call can serve them all."""
        return [self(clips) for clips in streams]

    def frame_features(self, clips: dict[str, Tensor]) -> Tensor:
        """Encode frames, for detection: (B, T', feature_size), T' of any length."""
        raise UserError(f"{type(self).__name__} has no frame_features, which detection needs")
