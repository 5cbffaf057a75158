"""Joint, bone and motion, and their tokens (docs/method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modality_names import MODALITIES


class Tokens(NamedTuple):
    """temporal: (B, T, M·V·C), one token per frame. spatial: (B, M·V, T·C), one token per person and joint."""

    temporal: Tensor
    spatial: Tensor


class ModalityTokens(nn.Module):
    """Derive modalities from clips and arrange each one as tokens."""

    parents: Tensor

    def __init__(self, layout: FrameLayout = NTU_LAYOUT):
        super().__init__()
        self.register_buffer("parents", layout.parent_values(), persistent=False)

    def forward(self, clip: Tensor, modalities: Sequence[str]) -> dict[str, Tokens]:
        """Return tokens of `modalities` of clips, float32 (B, T, M, V, C). Raises ValueError for an unknown one."""
        return {modality: to_tokens(self.derive(clip, modality)) for modality in modalities}

    def derive(self, clip: Tensor, modality: str) -> Tensor:
        """Derive `joint` (the clip itself), `bone` (joint minus its parent) or `motion` (next frame minus this one, the
        last is zero) from a clip (B, T, M, V, C). Raises ValueError for another name."""
        if modality == "joint":
            return clip
        if modality == "bone":
            # On a CPU, gathering single values along rows is several times faster than gathering joints of three.
            frames = clip.flatten(2)
            return (frames - frames.gather(2, self.parents.expand_as(frames))).view_as(clip)
        if modality == "motion":
            return clip.diff(dim=1, append=clip[:, -1:])
        raise ValueError(f"unknown modality {modality!r}; known: {', '.join(MODALITIES)}")


def to_tokens(clip: Tensor) -> Tokens:
    """Arrange a modality (B, T, M, V, C) as temporal and spatial tokens."""
    return Tokens(clip.flatten(2), clip.permute(0, 2, 3, 1, 4).flatten(1, 2).flatten(2))
