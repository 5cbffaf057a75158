"""Print parameters and operations of the unified model beside three separate streams, counted in the modules.

    python -m tools.efficiency
    python -m tools.efficiency --encoder stgcn --hidden-size 256

Operations are those of matrix products and convolutions for one clip of 64 frames and two people, forward, as this
implementation runs; a multiply-add counts as two. Three separate streams are the usual alternative, built from this
model's parts: an encoder and a projector for each modality, trained on two views each.
"""

from __future__ import annotations

from typing import Any

from models import ENCODERS, METHODS, LossWeights
from utils.files import write_json
from utils.options import make_parser, output_file, positive_int
from utils.processes import run
from utils.text import table


def efficiency(encoder: str, hidden_size: int) -> list[dict]:
    """Return the rows of the table: `what`, the number of `parameters`, and the `flop` of a clip."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from data_gen.skeletons import NTU_LAYOUT
    from feeder.modalities import PUBLISHED

    with FakeTensorMode():  # shapes without values, so that nothing is computed
        one, fused = (ENCODERS[encoder](hidden_size, m, NTU_LAYOUT) for m in (PUBLISHED[:1], PUBLISHED))
        stream, unified = (METHODS["umurl"](part, LossWeights()) for part in (one, fused))
        rows = (
            ("encoder, one modality", 1, one),
            ("encoder, all modalities fused", 1, fused),
            ("three separate encoders", 3, one),
            ("pre-training", 1, unified),
            ("pre-training of three separate streams", 3, stream),
        )
        return [
            {"what": what, "parameters": n * sum(p.numel() for p in part.parameters()), "flop": n * _flop_of_clip(part)}
            for what, n, part in rows
        ]


def _flop_of_clip(module: Any) -> int:
    """Count the operations of one more clip in a batch, of an encoder or of a method. Products of weights alone, once
    a batch, are not among them."""
    import torch

    from data_gen.skeletons import NTU_LAYOUT
    from feeder.clips import NUM_FRAMES
    from tools.benchmark.measure import count_flops

    def count(size: int) -> int:
        clips = torch.zeros(size, NUM_FRAMES, *NTU_LAYOUT.shape)
        inputs = [dict.fromkeys(stream, clips) for stream in getattr(module, "streams", [module.modalities])]
        return count_flops(lambda: module(inputs[0] if len(inputs) == 1 else inputs))

    return count(3) - count(2)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--encoder", choices=list(ENCODERS), default="transformer", help="architecture of the encoder")
    parser.add_argument("--hidden-size", type=positive_int, default=1024, help="width of the encoder")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="also write all rows to FILE")
    args = parser.parse_args(argv)

    rows = efficiency(args.encoder, args.hidden_size)
    header = (f"{args.encoder}, hidden size {args.hidden_size}", "parameters, M", "GFLOP")
    print(table(header, [(r["what"], f"{r['parameters'] / 1e6:.2f}", f"{r['flop'] / 1e9:.2f}") for r in rows]))
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
