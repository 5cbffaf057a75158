"""Joint, bone and motion, and the tokens made of them (docs/method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from feeder.layout import NTU_LAYOUT

MODALITIES = ("joint", "bone", "motion")
PARENTS = NTU_LAYOUT.skeleton.parents  # of NTU's joints; joint 20, the spine at the shoulders, is the root
# Gathering single values along rows is several times faster on a CPU than gathering joints of three.
_PARENT_VALUES = NTU_LAYOUT.parent_values()


def modalities_of(name: str, trained: Sequence[str] = MODALITIES) -> tuple[str, ...]:
    """What the name of a modality means: `all` is the fusion of those that the encoder was `trained` on, `joint` one of
    them without fusion, `joint+bone` the fusion of several. In the order of MODALITIES. Raises ValueError."""
    parts = name.split("+")
    if name == "all":
        return tuple(trained)
    if unknown := [p for p in parts if p not in MODALITIES]:
        known = ", ".join(MODALITIES)
        raise ValueError(f"{unknown[0]!r} is no modality: give all, {known}, or several joined as in joint+bone")
    if untrained := [p for p in parts if p not in trained]:
        raise ValueError(f"this encoder was pre-trained without {', '.join(untrained)}")
    return tuple(m for m in MODALITIES if m in parts)


class Tokens(NamedTuple):
    """temporal: (B, T, M·V·C), one token a frame. spatial: (B − L, M·V, T·C), one token a joint.

    lone: (L, V + 1, T·C), the spatial tokens of the batch's first L clips, which show one person: a token a joint,
    and one zero token for the (M − 1)·V zero tokens of absent people.
    """

    temporal: Tensor
    spatial: Tensor
    lone: Tensor


def to_modality(clip: Tensor, modality: str, parent_values: Tensor = _PARENT_VALUES) -> Tensor:
    """A clip (B, T, M, V, C) as `joint` (itself), `bone` (joint minus its parent) or `motion` (next frame minus
    this one, the last one zero). `parent_values` is its `FrameLayout`'s. Raises ValueError for another name."""
    if modality == "joint":
        return clip
    if modality == "bone":
        frames = clip.flatten(2)
        parents = parent_values.to(clip.device, non_blocking=True).expand_as(frames)
        return (frames - frames.gather(2, parents)).view_as(clip)
    if modality == "motion":
        return clip.diff(dim=1, append=clip[:, -1:])
    raise ValueError(f"unknown modality {modality!r}; known: {', '.join(MODALITIES)}")


def to_tokens(clip: Tensor, modality: str, lone: int = 0, parent_values: Tensor = _PARENT_VALUES) -> Tokens:
    """Tokens of one modality of clips (B, T, M, V, C), of which the first `lone` have zeros as all people but the
    first. `parent_values` is their `FrameLayout`'s."""
    x = to_modality(clip, modality, parent_values)
    joints = x.flatten(2, 3).transpose(1, 2)  # (B, M·V, T, C)
    return Tokens(x.flatten(2), joints[lone:].flatten(2), joints[:lone, : x.shape[3] + 1].flatten(2))
