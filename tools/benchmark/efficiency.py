"""Count parameters and operations of the unified model and of three separate streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT
from feeder.modalities import ModalityTokens
from feeder.modality_names import MODALITIES
from models.flops import pretraining_flops, stream_flops
from models.umurl import UmURL

SEPARATE = len(MODALITIES)


@dataclass(frozen=True)
class Row:
    """Parameters, and operations for one clip."""

    what: str
    parameters: int
    textbook: int
    here: int


def efficiency(hidden_size: int) -> list[Row]:
    """Return the rows of the table for a hidden size."""
    h, unified, separate = hidden_size, UmURL(hidden_size), UmURL(hidden_size, MODALITIES[:1])

    def encode(modalities: Sequence[str]) -> Callable[[Tensor], object]:
        return lambda clips: unified.backbone(ModalityTokens()(clips, modalities))

    one = Row("encoder, one modality", _encoder_size(separate), stream_flops(h, 1), _count(encode(MODALITIES[:1])))
    size = sum(p.numel() for p in unified.backbone.parameters())
    fused = Row("encoder, all modalities fused", size, stream_flops(h, SEPARATE), _count(encode(MODALITIES)))
    whole = sum(p.numel() for p in unified.parameters())
    together = Row("pre-training", whole, pretraining_flops(h, SEPARATE), _count(_pretrain(unified)))
    alone = _encoder_size(separate) + sum(p.numel() for p in separate.get_submodule("j_projector").parameters())
    stream = Row("", alone, pretraining_flops(h, 1), _count(_pretrain(separate)))
    return [
        one,
        fused,
        _times_three("three separate encoders", one),
        together,
        _times_three("pre-training of three separate streams", stream),
    ]


def _encoder_size(model: UmURL) -> int:
    """Parameters that encode one modality."""
    parts: list[nn.Module] = [model.backbone.j_emb, model.backbone.ma_encoder]
    return sum(p.numel() for part in parts for p in part.parameters())


def _times_three(what: str, row: Row) -> Row:
    return Row(what, SEPARATE * row.parameters, SEPARATE * row.textbook, SEPARATE * row.here)


def _pretrain(model: UmURL) -> Callable[[Tensor], object]:
    return lambda clips: model([ModalityTokens()(clips, modalities) for modalities in model.streams])


def _count(forward: Callable[[Tensor], object]) -> int:
    """Count the operations of one more clip. Products of weights alone, done once a batch, are not among them."""
    totals = []
    for clips in (2, 3):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            forward(torch.zeros(clips, NUM_FRAMES, *NTU_LAYOUT.shape))
        totals.append(counter.get_total_flops())
    return totals[1] - totals[0]
