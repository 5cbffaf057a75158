"""Plots of a run, of its features and of its recordings, as PNG files and in TensorBoard.

python -m tools.figures tsne ntu60_xsub_baseline ntu60_xsub
python -m tools.figures confusion ntu60_xsub
python -m tools.figures curves ntu60_xsub ntu60_xsub_lr1e-3
python -m tools.figures earliness ntu60_xsub
python -m tools.figures skeleton data/ntu60 --name S001C001P001R001A001
python -m tools.figures retrieval ntu60_xsub --query S001C001P003R001A001 -k 5
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file, too

from tools.utils.encoder_options import evaluated_name, representation_name
from tools.utils.errors import check_packages, run
from tools.utils.options import HelpFormatter, add_data_options, positive_int, seed_number


def _option(*names: str, **details: Any) -> argparse.ArgumentParser:
    """Make one option, to be a parent of the parsers of the plots that take it."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(*names, **details)
    return parent


def _data_options() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    add_data_options(parent, "--finetune-dataset")
    return parent


_CKPT = {"metavar": "CKPT", "help": "checkpoint, a run's folder, or its name under checkpoints/"}
CHECKPOINT, CHECKPOINTS = _option("checkpoint", **_CKPT), _option("checkpoints", nargs="+", **_CKPT)
RUNS = _option("runs", nargs="+", metavar="RUN", help="a run's folder, or its name under checkpoints/")
SOURCE = _option("source", type=Path, metavar="PATH", help="recordings: a file, folder, archive or packed data set")
NAME = _option("--name", help="name of the recording, if there are several")
QUERY = _option("--query", required=True, metavar="NAME", help="name of a recording of the val side")
NEIGHBOURS = _option("-k", type=positive_int, default=5, help="number of neighbours")
LABELS = _option("--labels", nargs="+", metavar="TITLE", help="a title for each; default: the runs' names")
CLASSES = _option(
    "--classes", type=positive_int, metavar="N", help="classes, chosen at random; default: 10, or all of fewer"
)
SEED = _option("--seed", type=seed_number, default=0, help="seed of what is chosen at random")
SKELETON = _option(
    "--skeleton",
    metavar="NAME|FILE",
    help="joints of a .csv or .npy recording; default: the skeleton.json of its folder, else kinect_v2",
)
ENCODED = _option(
    "--modality",
    type=representation_name,
    default="all",
    metavar="M",
    help="what is encoded: all modalities fused, one without fusion, as joint+bone, or the ensemble",
)
EVALUATED = _option(
    "--modality",
    type=evaluated_name,
    default="all",
    metavar="M",
    help="what was evaluated, as its score file is called: all, joint, ensemble_centred",
)
DATA = _data_options()
CLASS_NAMES = _option(
    "--class-names",
    type=Path,
    metavar="FILE",
    help="names of the classes, one per line, from A001 on; default: the data set's own",
)
# Each plot: what it shows, where it goes, and its options.
PLOTS = {
    "tsne": (
        "t-SNE of the features of some classes of the val side; several checkpoints are drawn side by side",
        "figures/tsne.png in the first run's folder, or named by the other options, too",
        [CHECKPOINTS, LABELS, CLASSES, SEED, ENCODED, DATA, CLASS_NAMES],
    ),
    "confusion": (
        "confusion matrix of the linear probe on the val side",
        "figures/confusion.png in the run's folder",
        [CHECKPOINT, EVALUATED, DATA, CLASS_NAMES],
    ),
    "curves": (
        "training curves of several runs, and their probes' accuracy",
        "figures/curves.png in the first run's folder; of several runs, named by them, too",
        [RUNS, LABELS],
    ),
    "earliness": (
        "accuracy over the observed part of each clip, of several runs",
        "figures/earliness.png in the first run's folder; of several runs, named by them, too",
        [RUNS, EVALUATED],
    ),
    "skeleton": (
        "a recording with its modalities and four training views, as an animation and a sheet of frames",
        "checkpoints/figures/NAME.gif, with NAME.png beside it",
        [SOURCE, NAME, SKELETON, SEED, CLASS_NAMES],
    ),
    "retrieval": (
        "a recording of the val side with its nearest neighbours on the train side",
        "figures/retrieval_NAME.png in the run's folder",
        [CHECKPOINT, QUERY, NEIGHBOURS, ENCODED, DATA, CLASS_NAMES],
    ),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.figures", description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter
    )
    plots = parser.add_subparsers(dest="plot", required=True, metavar="PLOT")
    for name, (what, where, options) in PLOTS.items():
        plot = plots.add_parser(name, help=what, description=what, parents=options, formatter_class=HelpFormatter)
        plot.add_argument("--out", type=Path, metavar="FILE", help=f"where the plot goes; default: {where}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    check_packages("plots need", ("matplotlib", "PIL", *["sklearn"] * (args.plot == "tsne")))
    importlib.import_module(f"tools.figures.{args.plot}").main(args)


if __name__ == "__main__":
    run(main)
