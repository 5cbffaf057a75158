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
from pathlib import Path

from tools.utils.encoder_options import evaluated_name, representation_name
from tools.utils.errors import check_packages, run
from tools.utils.options import HelpFormatter, add_data_options, positive_int, seed_number

CHECKPOINT = "checkpoint, a run's folder, or its name under checkpoints/"
RUN = "a run's folder, or its name under checkpoints/"
# Each plot: what it shows, and where it goes.
PLOTS = {
    "tsne": (
        "t-SNE of the features of some classes of the val side; several checkpoints are drawn side by side",
        "figures/tsne.png in the first run's folder",
    ),
    "confusion": ("confusion matrix of the linear probe on the val side", "figures/confusion.png in the run's folder"),
    "curves": (
        "training curves of several runs, and their probes' accuracy",
        "figures/curves.png in the first run's folder",
    ),
    "earliness": (
        "accuracy over the observed part of each clip, of several runs",
        "figures/earliness.png in the first run's folder",
    ),
    "skeleton": (
        "a recording with its modalities and four training views, as an animation and a sheet of frames",
        "checkpoints/figures/NAME.gif, with NAME.png beside it",
    ),
    "retrieval": (
        "a recording of the val side with its nearest neighbours on the train side",
        "figures/retrieval_NAME.png in the run's folder",
    ),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.figures", description=__doc__.splitlines()[0], formatter_class=HelpFormatter
    )
    parsers = parser.add_subparsers(dest="plot", required=True, metavar="PLOT")
    for name, (what, where) in PLOTS.items():
        plot = parsers.add_parser(name, help=what, description=what, formatter_class=HelpFormatter)
        _add_source(plot, name)
        plot.add_argument("--out", type=Path, metavar="FILE", help=f"where the plot goes; default: {where}")
        _add_options(plot, name)
    return parser.parse_args(argv)


def _add_source(plot: argparse.ArgumentParser, name: str) -> None:
    if name == "tsne":
        plot.add_argument("checkpoints", nargs="+", metavar="CKPT", help=CHECKPOINT)
    elif name in ("curves", "earliness"):
        plot.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
    elif name == "skeleton":
        plot.add_argument("source", type=Path, metavar="PATH", help="recordings: a file, folder, archive or data set")
    else:
        plot.add_argument("checkpoint", metavar="CKPT", help=CHECKPOINT)


def _add_options(plot: argparse.ArgumentParser, name: str) -> None:
    if name == "retrieval":
        plot.add_argument("--query", required=True, metavar="NAME", help="name of a recording of the val side")
        plot.add_argument("-k", type=positive_int, default=5, help="number of neighbours")
    if name == "skeleton":
        plot.add_argument("--name", help="name of the recording, if there are several")
        plot.add_argument(
            "--skeleton",
            metavar="NAME|FILE",
            help="joints of a .csv or .npy recording; default: the skeleton.json of its folder, else kinect_v2",
        )
    if name in ("tsne", "curves"):
        plot.add_argument("--labels", nargs="+", metavar="TITLE", help="a title for each; default: the runs' names")
    if name == "tsne":
        plot.add_argument(
            "--classes", type=positive_int, metavar="N", help="classes, chosen at random; default: 10, or all of fewer"
        )
    if name in ("tsne", "skeleton"):
        plot.add_argument("--seed", type=seed_number, default=0, help="seed of what is chosen at random")
    if name in ("tsne", "retrieval"):
        encoded = "what is encoded: all modalities fused, one without fusion, as joint+bone, or the ensemble"
        plot.add_argument("--modality", type=representation_name, default="all", metavar="M", help=encoded)
    if name in ("confusion", "earliness"):
        evaluated = "what was evaluated, as its score file is called: all, joint, ensemble_centred"
        plot.add_argument("--modality", type=evaluated_name, default="all", metavar="M", help=evaluated)
    if name in ("tsne", "confusion", "retrieval"):
        add_data_options(plot, "--finetune-dataset")
    if name in ("tsne", "confusion", "retrieval", "skeleton"):
        names = "names of the classes, one per line, from A001 on; default: the data set's own"
        plot.add_argument("--class-names", type=Path, metavar="FILE", help=names)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    check_packages("plots need", ("matplotlib", "sklearn", "PIL"))
    importlib.import_module(f"tools.figures.{args.plot}").main(args)


if __name__ == "__main__":
    run(main)
