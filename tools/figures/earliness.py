"""Earliness: accuracy over the observed part of each clip, a line per run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tools.evaluation.earliness import TASK
from tools.evaluation.features import suffix_of
from tools.figures import style
from tools.figures.encoded import plot_path
from tools.utils.errors import UserError
from tools.utils.options import find_run
from tools.utils.result_files import read_result, reading


def read_scores(folder: Path, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the scores that --observed wrote: shares (N,) and top-1 (N, seeds), in %. Raises UserError."""
    path = folder / f"{TASK}{suffix_of(modality)}.json"
    if not path.is_file():
        raise UserError(f"no {path}: run action_recognition.py --pretrained {folder} --observed 0.1 0.2 0.5 1 first")
    with reading(path):
        scores = read_result(path)["scores"]
        observed, top1 = ([score["observed"] for score in scores], [score["top1"]["per_seed"] for score in scores])
        return 100 * np.array(observed, float), np.array(top1, float).reshape(len(observed), -1)


def draw(runs: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw a line per run, the mean of its seeds."""
    figure = style.new_figure(2.4, 4.5)
    axes = figure.subplots()
    for i, (run, (observed, top1)) in enumerate(runs.items()):
        (line,) = axes.plot(observed, top1.mean(1), style.line(i), label=run, linewidth=1.3, clip_on=False)
        line.set(color=style.colour(i), marker=style.marker(i), markersize=3.5)
    axes.set_xlabel("observed part of each clip (%)")
    axes.set_ylabel("top-1 (%)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend()
    return figure


def main(args: argparse.Namespace) -> None:
    """Draw. Raises UserError."""
    folders = [find_run(text) for text in args.runs]
    out = plot_path(args.out, folders[0], "earliness.png")
    style.save(draw({folder.resolve().name: read_scores(folder, args.modality) for folder in folders}), out)
    style.to_board(folders[0], "earliness", out, 0)
    print(f"{len(folders)} run(s): {out}")
