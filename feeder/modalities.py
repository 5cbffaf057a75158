"""Joint, bone and motion, and the tokens made of them (docs/method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modality_names import MODALITIES


class Tokens(NamedTuple):
    """temporal: (B, T, M·V·C), one token a frame. spatial: (B, M·V, T·C), one token a joint of each person."""

    temporal: Tensor
    spatial: Tensor


class ModalityTokens(nn.Module):
    """Derives modalities of clips and arranges each one as tokens."""

    parents: Tensor

    def __init__(self, layout: FrameLayout = NTU_LAYOUT):
        super().__init__()
        self.register_buffer("parents", layout.parent_values(), persistent=False)

    def forward(self, clip: Tensor, modalities: Sequence[str]) -> dict[str, Tokens]:
        """Tokens of `modalities` of clips, float32 (B, T, M, V, C). Raises ValueError for an unknown modality."""
        return {modality: to_tokens(self.derive(clip, modality)) for modality in modalities}

    def derive(self, clip: Tensor, modality: str) -> Tensor:
        """A clip (B, T, M, V, C) as `joint` (itself), `bone` (joint minus its parent) or `motion` (next frame minus
        this one, the last one zero). Raises ValueError for another name."""
        if modality == "joint":
            return clip
        if modality == "bone":
            # Gathering single values along rows is several times faster on a CPU than gathering joints of three.
            frames = clip.flatten(2)
            return (frames - frames.gather(2, self.parents.expand_as(frames))).view_as(clip)
        if modality == "motion":
            return clip.diff(dim=1, append=clip[:, -1:])
        raise ValueError(f"unknown modality {modality!r}; known: {', '.join(MODALITIES)}")


def to_tokens(clip: Tensor) -> Tokens:
    """A modality (B, T, M, V, C) as temporal and spatial tokens."""
    return Tokens(clip.flatten(2), clip.permute(0, 2, 3, 1, 4).flatten(1, 2).flatten(2))
