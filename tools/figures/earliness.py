"""Earliness: accuracy over the observed part of each clip, a line per run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data_gen.packed.words import counted
from matplotlib.figure import Figure

from tools.evaluation.earliness import TASK
from tools.evaluation.features import suffix_of
from tools.figures import style
from tools.figures.encoded import plot_path, with_others
from tools.figures.style import Curve
from tools.utils.errors import UserError
from tools.utils.options import find_run
from tools.utils.result_files import read_result, reading


def read_scores(folder: Path, modality: str) -> Curve:
    """Read the scores that --observed wrote: top-1 of each seed over the observed part, both in %. Raises UserError."""
    path = folder / f"{TASK}{suffix_of(modality)}.json"
    if not path.is_file():
        raise UserError(f"no {path}: run action_recognition.py --pretrained {folder} --observed 0.1 0.2 0.5 1 first")
    with reading(path):
        scores = read_result(path)["scores"]
        observed, top1 = ([score["observed"] for score in scores], [score["top1"]["per_seed"] for score in scores])
        return Curve(100 * np.array(observed, float), np.array(top1, float).reshape(len(observed), -1).T)


def draw(runs: dict[str, Curve]) -> Figure:
    """Draw a line for each run: the mean of its seeds, in a band from the lowest to the highest."""
    figure = style.new_figure(2.4, 4.5)
    axes = figure.subplots()
    lines = style.draw_lines(axes, runs)
    axes.set(xlabel="observed part of each clip (%)", ylabel="top-1 (%)")
    axes.set_ylim(bottom=0)
    axes.legend(list(lines.values()), list(lines))
    return figure


def main(args: argparse.Namespace) -> None:
    """Draw. Raises UserError."""
    folders = [find_run(text) for text in args.runs]
    others = [folder.resolve().name for folder in folders[1:]]
    stem = with_others(TASK + suffix_of(args.modality), others)
    out = plot_path(args.out, folders[0], f"{stem}.png")
    runs = {folder.resolve().name: read_scores(folder, args.modality) for folder in folders}
    style.publish(draw(runs), out, folders[0], stem)
    print(f"{counted(len(folders), 'run')}: {out}")
