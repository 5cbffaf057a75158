"""Parameters and operations of the unified model beside three separate streams: `python -m tools.efficiency`.

They are counted in the modules or computed by formula, in seconds and without data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT
from feeder.modalities import MODALITIES, ModalityTokens
from models.flops import pretraining_flops, stream_flops
from models.umurl import UmURL
from tools.utils.atomic import atomic_write
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, output_file, positive_int
from tools.utils.tables import table

SEPARATE = len(MODALITIES)
EXPLANATION = """
Operations are those of matrix products for one clip of {frames} frames and two people, forward; a multiply-add counts
as two. `textbook`: by formula, the layers as the paper describes them. `here`: counted as this implementation runs.
Three separate streams: an encoder and a projector for each modality, trained on two views each; their scores are added.
This is the usual alternative, built from this model's parts."""


@dataclass(frozen=True)
class Row:
    """Number of parameters, and operations for one clip."""

    what: str
    parameters: int
    textbook: int
    here: int


def efficiency(hidden_size: int) -> list[Row]:
    """Compute the rows of the table for a hidden size."""
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
    """Count the parameters that encode one modality."""
    parts: list[nn.Module] = [model.backbone.j_emb, model.backbone.ma_encoder]
    return sum(p.numel() for part in parts for p in part.parameters())


def _times_three(what: str, row: Row) -> Row:
    return Row(what, SEPARATE * row.parameters, SEPARATE * row.textbook, SEPARATE * row.here)


def _pretrain(model: UmURL) -> Callable[[Tensor], object]:
    return lambda clips: model([ModalityTokens()(clips, modalities) for modalities in model.streams])


def _count(forward: Callable[[Tensor], object]) -> int:
    """Count the operations of one more clip, without products of weights alone, which are done once per batch."""
    totals = []
    for clips in (2, 3):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            forward(torch.zeros(clips, NUM_FRAMES, *NTU_LAYOUT.shape))
        totals.append(counter.get_total_flops())
    return totals[1] - totals[0]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument("--hidden-size", type=positive_int, default=1024, help="width of the encoder")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="also write all rows there")
    args = parser.parse_args(argv)
    if args.hidden_size % 2:
        raise UserError(f"--hidden-size {args.hidden_size}: the position code needs an even number")
    rows = efficiency(args.hidden_size)
    header = (f"hidden size {args.hidden_size}", "parameters, M", "GFLOP, textbook", "GFLOP, here")
    numbers = [(f"{r.parameters / 1e6:.2f}", f"{r.textbook / 1e9:.2f}", f"{r.here / 1e9:.2f}") for r in rows]
    print(table(header, [(row.what, *rest) for row, rest in zip(rows, numbers)]))
    print(EXPLANATION.format(frames=NUM_FRAMES))
    if args.json:
        with atomic_write(args.json) as partial:
            partial.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    run(main)
