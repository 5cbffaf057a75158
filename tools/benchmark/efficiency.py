"""Count parameters and operations of the unified model and of three separate streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from feeder.layout import NTU_LAYOUT
from feeder.modality_names import MODALITIES
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from feeder.clips import NUM_FRAMES
from feeder.modalities import ModalityTokens
from models.umurl import UmURL

SEPARATE = len(MODALITIES)


@dataclass(frozen=True)
class Cost:
    """The number of parameters, and the operations of a forward pass (multiply-adds count as two) for one clip."""

    what: str
    parameters: int
    flop: int


def efficiency(hidden_size: int) -> list[Cost]:
    """Return the rows of the table for a hidden size."""
    unified, joint = UmURL(hidden_size), UmURL(hidden_size, MODALITIES[:1])
    encoder = _size(joint.backbone.j_emb) + _size(joint.backbone.ma_encoder)
    stream = encoder + _size(joint.get_submodule("j_projector"))
    one = _count(lambda clips: unified.backbone(ModalityTokens()(clips, MODALITIES[:1])))
    fused = _count(lambda clips: unified.backbone(ModalityTokens()(clips, MODALITIES)))
    return [
        Cost("encoder, one modality", encoder, one),
        Cost("encoder, all modalities fused", _size(unified.backbone), fused),
        Cost("three separate encoders", SEPARATE * encoder, SEPARATE * one),
        Cost("pre-training", _size(unified), _count_training(unified)),
        Cost("pre-training of three separate streams", SEPARATE * stream, SEPARATE * _count_training(joint)),
    ]


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _count_training(model: UmURL) -> int:
    return _count(lambda clips: model([ModalityTokens()(clips, stream) for stream in model.streams]))


def _count(forward: Callable[[Tensor], object]) -> int:
    """Count the operations of one more clip. Products of weights alone, done once a batch, are not among them."""
    totals = []
    for clips in (2, 3):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            forward(torch.zeros(clips, NUM_FRAMES, *NTU_LAYOUT.shape))
        totals.append(counter.get_total_flops())
    return totals[1] - totals[0]
