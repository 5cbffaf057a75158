"""Training curves of several runs: whatever their logs hold, and the probe's accuracy over its epochs."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tools.figures import style
from tools.figures.encoded import figure_path
from tools.utils.errors import UserError
from tools.utils.logs import read_lines
from tools.utils.options import find_run

COLUMNS = 3
# What a key of the log is called in a figure; others go by their own name.
LABELS = {"lr": "learning rate", "samples_per_second": "samples a second"}
DRAWN = ("loss/", "std/", *LABELS)  # keys, or how they begin, in the order of the panels
TASK = "action_recognition"


@dataclass(frozen=True)
class Curve:
    """x, the epochs (N,), and y, of one seed or several (seeds, N)."""

    x: np.ndarray
    y: np.ndarray


def read_run(folder: Path) -> dict[str, Curve]:
    """A run's curves by the title of their panel: of its log.jsonl, and of its probes. Raises UserError."""
    lines = {line["epoch"]: line for line in read_lines(folder / "log.jsonl")}
    keys = [
        key for start in DRAWN for key in dict.fromkeys(k for line in lines.values() for k in line) if _is(key, start)
    ]
    curves = {}
    for key in keys:
        points = sorted((epoch, line[key]) for epoch, line in lines.items() if key in line)
        x, y = np.array(points, float).T
        curves[LABELS.get(key, key)] = Curve(x + 1, y[None])
    for path in sorted(folder.glob(f"{TASK}*.json")):
        curves |= _probe(path)
    if not curves:
        raise UserError(f"{folder} has no log.jsonl and no {TASK}.json: pre-train or evaluate that run first")
    return curves


def _group(title: str) -> int:
    """Terms of the loss first, whatever run they are of, then deviations, then the rest, probes last."""
    starts = ("loss/", "std/", "linear probe")
    return next((place for start, place in zip(starts, (0, 1, 3)) if title.startswith(start)), 2)


def _is(key: str, start: str) -> bool:
    return key.startswith(start) if start.endswith("/") else key == start


def _probe(path: Path) -> dict[str, Curve]:
    try:
        result = json.loads(path.read_text())
        history, seeds = result["history"], len(result["last"]["top1"]["per_seed"])
        # With several rates, the seeds of the first one, whose scores are the result, come first.
        top1 = np.array([validation["top1"][:seeds] for validation in history], float)
        title = f"linear probe, {result['modality']}:\ntop-1 (%)"
        return {title: Curve(np.array([validation["epoch"] for validation in history]), top1.T)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); evaluate that run again") from error


def draw(runs: dict[str, dict[str, Curve]]) -> Figure:
    """A panel for each kind of curve, a line for each run; of several seeds their mean, with all of them in a band."""
    titles = list(dict.fromkeys(title for curves in runs.values() for title in curves))
    titles.sort(key=_group)
    rows = math.ceil(len(titles) / COLUMNS)
    figure = style.new_figure(1.75 * rows + 0.2 * math.ceil(len(runs) / 4) + 0.2)
    grid = figure.subplots(rows, min(COLUMNS, len(titles)), squeeze=False)
    for axes in grid.flat[len(titles) :]:
        axes.axis("off")
    handles = {}
    for axes, title in zip(grid.flat, titles):
        for i, (run, curves) in enumerate(runs.items()):
            if title not in curves:
                continue
            curve = curves[title]
            mean = curve.y.mean(0)
            step = max(1, len(mean) // 6)  # markers of several runs that agree stand beside each other
            (handles[run],) = axes.plot(
                curve.x,
                mean,
                style.line(i),
                color=style.colour(i),
                linewidth=1.3,
                marker=style.marker(i),
                markersize=3.5,
                markevery=(i % step, step),
                clip_on=False,
            )
            if len(curve.y) > 1:
                axes.fill_between(
                    curve.x, curve.y.min(0), curve.y.max(0), color=style.colour(i), alpha=0.2, linewidth=0
                )
        axes.set_title(title)
        axes.set_xlabel("epoch of the probe" if title.startswith("linear probe") else "epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3, linewidth=0.5)
        if title.startswith("std/") or title == LABELS["samples_per_second"]:
            axes.set_ylim(bottom=0)
        if title == LABELS["lr"]:
            axes.set_yscale("log")
    order = [run for run in runs if run in handles]
    figure.legend([handles[run] for run in order], order, loc="outside upper center", ncols=4)
    return figure


def main(args: argparse.Namespace) -> None:
    """StepRandom. Raises UserError."""
    folders = [find_run(text) for text in args.runs]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is a file: give the folder of the run")
    titles = args.labels or [folder.resolve().name for folder in folders]
    if len(titles) != len(folders):
        raise UserError(f"--labels: {len(titles)} titles for {len(folders)} run(s); give one for each")
    if len(set(titles)) < len(titles):
        raise UserError(f"two runs are called the same ({', '.join(titles)}): tell them apart by --labels")
    out = figure_path(args.out, folders[0], "curves.png")
    runs = {title: read_run(folder) for title, folder in zip(titles, folders)}
    style.save(draw(runs), out)
    style.to_board(folders[0], "curves", out, 0)
    print(f"{len(runs)} run(s), {len({t for c in runs.values() for t in c})} panels: {out}")
