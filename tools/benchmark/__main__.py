"""Measure how fast every stage is, beside the machine's own limits, on simulated data of NTU's shape.

    python -m tools.benchmark                       all stages
    python -m tools.benchmark step epoch --baseline --json step.json

Each stage runs in a process of its own, so that neither its memory nor its time depends on the others. A row is printed
as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file, too

from data_gen.packed.atomic import atomic_write
from data_gen.packed.words import counted
from data_gen.raw.workers import end_at_ctrl_c, submit

from tools.utils.encoder_options import add_compile_option
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, add_device_option, output_file, positive_int
from tools.utils.tables import table

# PyTorch is imported late: the worker processes of conversion import this module too, and have no use for it.
if TYPE_CHECKING:
    import torch

    from tools.benchmark.rows import Sizes

NAMES = ("convert", "feed", "objective", "step", "epoch", "features", "probe", "retrieve")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark", description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(NAMES)}; default: all")
    add_device_option(parser)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="also write all rows there, after each stage")
    parser.add_argument(
        "--baseline", action="store_true", help="time a plain textbook version of each stage too, and check its result"
    )
    hidden = "in step, epoch and features; default: 256 on a CPU, 1024 on a GPU"
    parser.add_argument("--hidden-size", type=positive_int, help=hidden)
    batch = "in objective, step and epoch; default: 128 on a CPU, 512 on a GPU"
    parser.add_argument("--batch-size", type=positive_int, help=batch)
    parser.add_argument("--amp", choices=("bf16", "fp16", "off"), help="in step and epoch; default: as pretrain.py")
    add_compile_option(parser)
    kernels = "also print, at the end, the kernels that take most of a step's time"
    parser.add_argument("--profile", action="store_true", help=kernels)
    whole = "on a CPU too, run epoch, features, probe and retrieve whole instead of extrapolating"
    parser.add_argument("--whole", action="store_true", help=whole)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    args = parser.parse_args(argv)
    unknown = [name for name in args.stages if name not in NAMES]
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if args.hidden_size and args.hidden_size % 2 or args.batch_size == 1:
        parser.error("--hidden-size must be even, as the position code needs, and --batch-size at least 2")
    return args


def choose_sizes(args: argparse.Namespace, device_type: str) -> Sizes:
    """Choose sizes by device and flags."""
    from tools.benchmark.rows import Sizes

    if args.quick:
        sizes = Sizes(
            8, 6, 2, 40, 2, 60, recordings=5, files=10, num_frame=12, clips=20, feed_batch=8, train=400, val=100,
            feature_size=16, probe_epochs=10, copy_bytes=2**20, plain_clips=6, seconds=0.01,
        )  # fmt: skip
    elif device_type == "cuda":
        sizes = Sizes(1024, 512, None, 56578, 150, 16487, queued_steps=20, seconds=2)
    else:
        sizes = Sizes(256, 128, 2, 1024, 5, 2048)
    if args.whole:
        every = {"features_measured": sizes.train + sizes.val, "retrieve_measured": sizes.val}
        sizes = replace(sizes, epoch_steps=None, probe_measured=sizes.probe_epochs, **every)
    given = {k: getattr(args, k) for k in ("hidden_size", "batch_size") if getattr(args, k)}
    return replace(sizes, **given)


def machine(device: torch.device) -> dict[str, Any]:
    """Return device, cores, threads and versions."""
    import torch
    from data_gen.raw.workers import num_cores

    from tools.utils.checkpoints import versions

    try:
        cpu = re.findall(r"^model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0]
    except (OSError, IndexError):
        cpu = platform.processor() or platform.machine()
    found = {"device": device.type, "cpu": cpu, "cores": num_cores(), "threads": torch.get_num_threads()}
    if hasattr(os, "getloadavg"):
        found["load_before"] = os.getloadavg()[0]
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found | versions()


def describe_machine(m: dict[str, Any]) -> str:
    """Describe the machine in a line."""
    where = m.get("gpu", f"{m['cpu']}, {counted(m['cores'], 'core')}, {counted(m['threads'], 'thread')}")
    where += f", load {m['load_before']:.1f} before" if "load_before" in m else ""
    return f"{where}; " + ", ".join(f"{k} {m[k]}" for k in ("python", "torch", "numpy", "cuda") if k in m)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    from tools.benchmark.rows import Setup, table_header
    from tools.benchmark.stages import run_stage
    from tools.utils.distributed import choose_device

    device = choose_device(args.device)
    sizes = choose_sizes(args, device.type)
    options = {k: v for k, v in vars(args).items() if k not in ("json", "stages")}
    rows: list[dict[str, Any]] = []
    about = machine(device)
    result = {"machine": about, "options": options, "sizes": vars(sizes), "rows": rows}
    print(f"{describe_machine(about)}\n\n{table_header(args.baseline)}", flush=True)
    setup = Setup(device, sizes, args.amp, args.compile, args.baseline, args.profile)
    for name in dict.fromkeys(args.stages or NAMES):
        if sys.stderr.isatty():
            print(f"{name} ...", end="\r", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=end_at_ctrl_c) as pool:
            try:
                rows += submit(pool, run_stage, name, setup).result()
            except BrokenProcessPool as error:
                raise UserError(f"{name}: its process was killed, perhaps because memory ran out") from error
        if args.json:
            with atomic_write(args.json) as partial:
                partial.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        if "profile" in row:
            kernels = [(f"{ms:.3f}", f"{calls:g}", kernel[:100]) for ms, calls, kernel in row["profile"]]
            print(f"\n{table(('ms a step', 'calls', 'kernel'), kernels)}")


if __name__ == "__main__":
    run(main)
