"""Training curves of several runs: values of their logs, and the probe's accuracy over its epochs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from data_gen.packed.words import counted
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tools.figures import style
from tools.figures.encoded import plot_path, with_others
from tools.figures.style import Curve
from tools.utils.errors import UserError
from tools.utils.logs import read_lines
from tools.utils.options import find_run
from tools.utils.result_files import reading, results_in

COLUMNS = 3
LABELS = {"lr": "learning rate", "samples_per_second": "samples a second"}  # titles of these keys' panels
SPREAD = "std of the projections"  # one panel for all keys std/...
TASK = "action_recognition"


def read_run(folder: Path) -> dict[str, Curve]:
    """Read a run's curves from its log.jsonl and its probes, by title of the panel. Raises UserError."""
    logged = {line["epoch"]: line for line in read_lines(folder / "log.jsonl")}
    lines = [logged[epoch] for epoch in sorted(logged)]
    keys = dict.fromkeys(key for line in lines for key in line)
    curves = {key: _curve(lines, [key]) for key in keys if key.startswith("loss/")}
    if spread := [key for key in keys if key.startswith("std/")]:
        curves[SPREAD] = _curve(lines, spread)
    curves |= {title: _curve(lines, [key]) for key, title in LABELS.items() if key in keys}
    for path, result in results_in(folder, TASK):
        curves |= _probe(path, result)
    if not curves:
        raise UserError(f"{folder} has no log.jsonl and no {TASK}.json: pre-train or evaluate that run first")
    return curves


def _curve(lines: list[dict], keys: list[str]) -> Curve:
    """Make a curve with a line per key, at the epochs that have all keys."""
    points = [(line["epoch"] + 1, *(line[key] for key in keys)) for line in lines if set(keys) <= set(line)]
    x, *y = np.array(points, float).reshape(-1, 1 + len(keys)).T
    return Curve(x, np.array(y))


def _rank(title: str) -> int:
    """Rank a panel: terms of the loss come first, probes last."""
    return 0 if title.startswith("loss/") else 2 if title.startswith("linear probe") else 1


def _probe(path: Path, result: dict[str, Any]) -> dict[str, Curve]:
    with reading(path):
        history, seeds = result["history"], len(result["last"]["top1"]["per_seed"])
        # With several rates, the seeds of the reported one come first.
        top1 = np.array([validation["top1"][:seeds] for validation in history], float)
        top1 = top1.reshape(len(history), seeds)
        if result.get("task", path.stem) != path.stem:
            return {}  # one that a later one replaced
        where = result.get("where", "").replace("_", " ")
        title = f"linear probe{where},\n{result['modality']}: top-1 (%)"
        return {title: Curve(np.array([validation["epoch"] for validation in history], float), top1.T)}


def draw(runs: dict[str, dict[str, Curve]]) -> Figure:
    """Draw a panel for each kind of curve, with a line for each run."""
    titles = list(dict.fromkeys(title for curves in runs.values() for title in curves))
    titles.sort(key=_rank)
    rows = math.ceil(len(titles) / COLUMNS)
    figure = style.new_figure(1.4 * rows + 0.2 * math.ceil(len(runs) / 4) + 0.1)
    grid = figure.subplots(rows, min(COLUMNS, len(titles)), squeeze=False)
    for axes in grid.flat[len(titles) :]:
        axes.axis("off")
    handles: dict[str, Line2D] = {}
    for axes, title in zip(grid.flat, titles):
        handles |= style.draw_lines(axes, {run: curves.get(title) for run, curves in runs.items()})
        axes.set(title=title, xlabel="epoch of the probe" if _rank(title) == 2 else "epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if title in (SPREAD, LABELS["samples_per_second"]):
            axes.set_ylim(bottom=0)
        if title == LABELS["lr"]:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))  # matplotlib's own are formulas
            axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    order = [run for run in runs if run in handles]
    figure.legend([handles[run] for run in order], order, loc="outside upper center", ncols=4)
    return figure


def main(args: argparse.Namespace) -> None:
    """Draw. Raises UserError."""
    folders = [find_run(text) for text in args.runs]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is a file: give the folder of the run")
    titles = args.labels or [folder.resolve().name for folder in folders]
    if len(titles) != len(folders):
        raise UserError(f"--labels: {counted(len(titles), 'title')} for {counted(len(folders), 'run')}: give one each")
    if len(set(titles)) < len(titles):
        raise UserError(f"two runs are called the same ({', '.join(titles)}): tell them apart by --labels")
    stem = with_others("curves", [folder.resolve().name for folder in folders[1:]])
    out = plot_path(args.out, folders[0], f"{stem}.png")
    runs = {title: read_run(folder) for title, folder in zip(titles, folders)}
    style.publish(draw(runs), out, folders[0], stem)
    panels = {title for curves in runs.values() for title in curves}
    print(f"{counted(len(runs), 'run')}, {counted(len(panels), 'panel')}: {out}")
