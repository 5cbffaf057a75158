"""Measure how fast every stage is, beside the machine's own limits, on simulated data of NTU's shape.

    python -m tools.benchmark                       all stages
    python -m tools.benchmark step epoch --baseline --json step.json

Each stage runs in a process of its own, so that neither its memory nor its time depends on the others.
"""

from __future__ import annotations

import argparse
import importlib.util
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
from typing import TYPE_CHECKING

from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, positive_int
from tools.utils.tables import table

# PyTorch is imported late: the worker processes of conversion import this module too, and have no use for it.
if TYPE_CHECKING:
    import torch

    from tools.benchmark.figures import Sizes

NAMES = ("convert", "feed", "objective", "step", "epoch", "probe", "retrieve")
COLUMNS = ("stage", "what", "time (min–max)", "a second", "of limit", "peak memory")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark", description=__doc__.splitlines()[0], formatter_class=HelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument(
        "--baseline", action="store_true", help="time a plain textbook version of each stage too, and check its result"
    )
    parser.add_argument(
        "--hidden-size", type=positive_int, help="of step and epoch; default: 256 on a CPU, 1024 on a GPU"
    )
    parser.add_argument("--batch-size", type=positive_int, help="likewise; default: 128 on a CPU, 512 on a GPU")
    parser.add_argument("--amp", choices=("bf16", "fp16", "off"), help="likewise; default: as pretrain.py")
    parser.add_argument("--compile", action="store_true", help="likewise: compile the model with torch.compile")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="on a CPU too, run epoch, probe and retrieve whole instead of extrapolating",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    args = parser.parse_args(argv)
    unknown = [name for name in args.stages if name not in NAMES]
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return args


def choose_sizes(args: argparse.Namespace, device_type: str) -> Sizes:
    """By device and flags."""
    from tools.benchmark.figures import QUICK, Sizes

    if args.quick:
        sizes = QUICK
    elif device_type == "cuda":
        sizes = Sizes(1024, 512, epoch_steps=None, probe_measured=150, retrieve_measured=16487)
    else:
        sizes = Sizes(256, 128, epoch_steps=2, probe_measured=5, retrieve_measured=2048)
    if args.whole:
        sizes = replace(sizes, epoch_steps=None, probe_measured=sizes.probe_epochs, retrieve_measured=sizes.val)
    given = {k: getattr(args, k) for k in ("hidden_size", "batch_size") if getattr(args, k)}
    return replace(sizes, **given)


def measure_stages(args: argparse.Namespace) -> dict[str, object]:
    """Everything the JSON holds. Raises UserError."""
    from tools.benchmark.stages import run_stage
    from tools.utils.distributed import choose_device

    if args.baseline and not _has_baselines():
        raise UserError("--baseline needs tests/baselines.py, which is not here: run it from a complete checkout")
    device = choose_device(args.device)
    sizes = choose_sizes(args, device.type)
    about = machine(device)
    rows: list[dict] = []
    for name in dict.fromkeys(args.stages or NAMES):
        print(f"{name} ...", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            job = pool.submit(run_stage, name, device, sizes, args.amp, args.compile, args.baseline)
            try:
                rows += job.result()
            except BrokenProcessPool as error:
                raise UserError(f"{name}: its process was killed, perhaps for want of memory") from error
    options = {k: v for k, v in vars(args).items() if k not in ("json", "stages")}
    return {"machine": about, "options": options, "sizes": vars(sizes), "rows": rows}


def _has_baselines() -> bool:
    try:
        return importlib.util.find_spec("tests.baselines") is not None
    except ModuleNotFoundError:
        return False


def machine(device: torch.device) -> dict[str, object]:
    """Device, cores, threads and versions."""
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


def report(result: dict) -> str:
    """The table, as Markdown that also reads well in a terminal, and the lines that explain it."""
    m, rows = result["machine"], result["rows"]
    versions = ", ".join(f"{k} {m[k]}" for k in ("python", "torch", "numpy", "cuda") if k in m)
    where = m.get("gpu", f"{m['cpu']}, {m['cores']} core(s), {m['threads']} thread(s)")
    where += f", load {m['load_before']:.1f} before" if "load_before" in m else ""
    compared = result["options"]["baseline"]
    columns = COLUMNS + ("plain version", "ratio") * compared
    lines = table(columns, [_cells(row, compared) for row in rows]).splitlines()
    limits = {row["stage"]: row["limit"] for row in rows}
    lines += ["", "Limits, measured in the same run (for step and epoch, their share is the model FLOP utilisation):"]
    lines += [f"  {stage}: {limit['name']}, {_rate(limit)}" for stage, limit in limits.items()]
    notes = {f"  {row['stage']}: {row['note']}" for row in rows if row["note"]}
    notes |= {f"  {row['stage']}, plain version: {row['baseline']['note']}" for row in rows if _plain_note(row)}
    return "\n".join([f"{where}; {versions}", "", *lines, *(["Notes:"] if notes else []), *sorted(notes)])


def _plain_note(row: dict) -> str:
    return row.get("baseline", {}).get("note", "")


def _cells(row: dict, compared: bool) -> tuple[str, ...]:
    s, memory, plain = row["seconds"], row["memory"], row.get("baseline")
    spread = f"{_times(s['median'], s['min'], s['max'])} / {row['unit']}"
    rate = f"{row['samples_per_second']:,.0f} samples" if "samples_per_second" in row else f"{row['per_second']:,.3g}"
    held = f"{memory['before'] / 2**20:,.0f} → {memory['peak'] / 2**20:,.0f} MiB"
    cells = (row["stage"], row["what"], spread, rate, f"{100 * row['share_of_limit']:.0f} %", held)
    if not compared:
        return cells
    return cells + ((_times(plain["seconds"]["median"]), f"{plain['ratio']:,.1f}×") if plain else ("", ""))


def _times(*seconds: float) -> str:
    """The first, then the others in brackets, in one unit."""
    unit, size = next((u, n) for u, n in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 0)) if seconds[0] >= n)
    first, *others = (f"{x / (size or 1e-9):,.3g}" if x < 1000 * size else f"{x / size:,.0f}" for x in seconds)
    return f"{first} ({'–'.join(others)}) {unit}" if others else f"{first} {unit}"


def _rate(limit: dict) -> str:
    low, middle, high = (limit[k] / 1e9 for k in ("min", "median", "max"))
    return f"{middle:,.3g} ({low:,.3g}–{high:,.3g}) G{limit['unit']}"


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    result = measure_stages(args)
    print(report(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
