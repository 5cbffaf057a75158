"""Measure how fast each stage is, beside the machine's own limits, on simulated data of NTU's shape.

python -m tools.benchmark                              all stages
python -m tools.benchmark step epoch --json step.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from models import ENCODERS
from utils.errors import UserError
from utils.files import write_json
from utils.logs import progress
from utils.options import add_device_option, add_training_options, make_parser, output_file, positive_int
from utils.processes import choose_device, run
from utils.text import table

STAGES = ("convert", "feed", "step", "epoch", "features", "probe", "retrieve")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    names = f"{', '.join(STAGES)}; default: all"
    add("stages", nargs="*", choices=(*STAGES, "all"), default="all", metavar="STAGE", help=names)
    add_device_option(parser)
    add("--json", type=output_file, metavar="FILE", help="also write all values there, after each stage")
    add("--encoder", choices=list(ENCODERS), default="transformer", help="architecture of the encoder")
    add("--hidden-size", type=positive_int, help="width of the encoder; default: 256 on a CPU, 1024 on a GPU")
    add("--batch-size", type=positive_int, help="in feed, step and epoch; default: 128 on a CPU, 512 on a GPU")
    add_training_options(parser, "step and epoch")
    add("--profile", action="store_true", help="also print the kernels that take most of a step's time")
    add("--quick", action="store_true", help="tiny sizes: show that it works, not how fast")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.batch_size == 1:
        raise UserError("--batch-size 1: the loss needs at least 2 clips a batch")

    from models.checkpoints import versions
    from tools.benchmark import stages
    from tools.benchmark.measure import HEADER, cells
    from tools.training.acceleration import choose_amp
    from tools.training.report import device_name

    device = choose_device(args.device)
    sizes = stages.QUICK if args.quick else stages.CPU if device.type == "cpu" else stages.GPU
    sizes = replace(sizes, **{k: v for k in ("hidden_size", "batch_size") if (v := getattr(args, k))})
    bench = stages.Bench(device, sizes, args.encoder, choose_amp(args.amp, device), args.compile, args.profile)
    machine, rows = {"device": device_name(device), **versions()}, list[dict]()
    try:
        chosen = STAGES if "all" in args.stages else list(dict.fromkeys(args.stages))
        for name in progress(chosen, desc="benchmark", unit="stage"):
            rows += getattr(stages, name)(bench)
            if args.json:
                write_json(args.json, {"machine": machine, "sizes": vars(sizes), "rows": rows})
    finally:  # the rows of earlier stages, if one fails
        print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
        print(table(HEADER, [cells(row) for row in rows]))
    for row in rows:
        if row["profile"]:
            print(f"\n{row['stage']}, {row['what']}\n{row['profile']}")


if __name__ == "__main__":
    run(main)
