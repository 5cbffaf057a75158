"""Parameters and operations of the unified model beside three separate streams: `python -m tools.efficiency`.

Everything is computed from the modules and their products, nothing is quoted; it takes seconds and no data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data_gen.packed.reader import FRAME_SHAPE
from feeder.clips import NUM_FRAMES
from feeder.modalities import MODALITIES, to_tokens
from models.flops import pretraining_flops, stream_flops
from models.umurl import UmURL
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, positive_int
from tools.utils.tables import table

SEPARATE = len(MODALITIES)
EXPLANATION = """
Operations are those of matrix products for one clip of {frames} frames, forward, a multiply-add counted as two.
`textbook`: the layers as the paper describes them; `here`: what this implementation computes, without the products
that one attention head makes redundant, for a clip of two people and of one.
Three separate streams: an encoder and a projector for each modality, trained on two views each, their scores added
up: the usual alternative, of this model's parts."""


@dataclass(frozen=True)
class Row:
    """Parameters, and operations a clip: by formula, and as counted for two people and for one (None: not run)."""

    what: str
    parameters: int
    textbook: int
    two_people: int | None = None
    one_person: int | None = None


def efficiency(hidden_size: int) -> list[Row]:
    """The rows of the table, at a hidden size."""
    h = hidden_size
    model = UmURL(h).eval()
    backbone = model.backbone
    single = _size(backbone.j_emb, backbone.ma_encoder)
    projector = _size(model.get_submodule("j_projector"))
    one_stream, fused = stream_flops(h, 1), stream_flops(h, SEPARATE)

    def encode(*modalities: str) -> Callable[[Tensor, int], object]:
        return lambda clips, lone: backbone({m: to_tokens(clips, m, lone) for m in modalities})

    def pretrain(clips: Tensor, lone: int) -> object:
        return model((clips,) * model.num_views, lone)

    separate = SEPARATE * pretraining_flops(h, 1)
    return [
        Row("encoder, one modality", single, one_stream, *_counted(encode("joint"))),
        Row("encoder, all modalities fused", _size(backbone), fused, *_counted(encode(*MODALITIES))),
        Row("three separate encoders", SEPARATE * single, SEPARATE * one_stream),
        Row("pre-training", _size(model), pretraining_flops(h), *_counted(pretrain)),
        Row("pre-training of three separate streams", SEPARATE * (single + projector), separate),
    ]


def _size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def _counted(forward: Callable[[Tensor, int], object]) -> tuple[int, int]:
    """Operations of one more clip, of two people and of one, as PyTorch counts them. Products of weights alone, which
    a batch computes once, are not among them."""
    two_people = [_total(forward, clips, 0) for clips in (1, 2)]
    one_person = [_total(forward, clips, clips) for clips in (1, 2)]
    return two_people[1] - two_people[0], one_person[1] - one_person[0]


def _total(forward: Callable[[Tensor, int], object], clips: int, lone: int) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward(torch.zeros(clips, NUM_FRAMES, *FRAME_SHAPE), lone)
    return counter.get_total_flops()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument("--hidden-size", type=positive_int, default=1024, help="width of the encoder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there too")
    args = parser.parse_args(argv)
    if args.hidden_size % 2:
        raise UserError(f"--hidden-size {args.hidden_size}: the position code needs an even number")
    rows = efficiency(args.hidden_size)
    header = (
        f"hidden size {args.hidden_size}",
        "parameters, M",
        "GFLOP, textbook",
        "here, two people",
        "here, one person",
    )
    cells = [(f"{r.parameters / 1e6:.2f}", *map(_giga, (r.textbook, r.two_people, r.one_person))) for r in rows]
    print(table(header, [(row.what, *rest) for row, rest in zip(rows, cells)]))
    print(EXPLANATION.format(frames=NUM_FRAMES))
    if args.json:
        args.json.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")


def _giga(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:.2f}"


if __name__ == "__main__":
    run(main)
