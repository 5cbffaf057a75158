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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file, too

from tools.utils.encoder_options import evaluated_name, representation_name
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, add_data_options, positive_int, seed_number

PACKAGES = ("matplotlib", "sklearn", "PIL")  # that only plots need
CHECKPOINT = "checkpoint, a run's folder, or its name under checkpoints/"
EVALUATED = "what was evaluated, as its score file is called: all, joint, ensemble_centred"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.figures", description=__doc__.splitlines()[0], formatter_class=HelpFormatter
    )
    plots = parser.add_subparsers(dest="plot", required=True, metavar="PLOT")
    for add in (_tsne, _confusion, _curves, _earliness, _skeleton, _retrieval):
        add(plots)
    return parser.parse_args(argv)


def _add(plots: argparse._SubParsersAction, name: str, help: str, out: str) -> argparse.ArgumentParser:
    parser = plots.add_parser(name, help=help, description=help, formatter_class=HelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"where the plot goes; default: {out}")
    return parser


def _tsne(plots: argparse._SubParsersAction) -> None:
    parser = _add(
        plots,
        "tsne",
        "t-SNE of the features of some classes of the val side; several checkpoints are drawn side by side",
        "figures/tsne.png in the first run's folder",
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CKPT", help=CHECKPOINT)
    parser.add_argument("--labels", nargs="+", metavar="TITLE", help="a title for each; default: the runs' names")
    parser.add_argument(
        "--classes", type=positive_int, metavar="N", help="classes, chosen at random; default: 10, or all of fewer"
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the choice and of t-SNE")
    _add_encoder_options(parser)


def _confusion(plots: argparse._SubParsersAction) -> None:
    parser = _add(
        plots,
        "confusion",
        "confusion matrix of the linear probe on the val side",
        "figures/confusion.png in the run's folder",
    )
    parser.add_argument("checkpoint", metavar="CKPT", help=CHECKPOINT)
    parser.add_argument("--modality", type=evaluated_name, default="all", metavar="M", help=EVALUATED)
    _add_data_options(parser)


def _curves(plots: argparse._SubParsersAction) -> None:
    parser = _add(
        plots,
        "curves",
        "training curves of several runs, and their probes' accuracy",
        "figures/curves.png in the first run's folder",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or its name under checkpoints/")
    parser.add_argument("--labels", nargs="+", metavar="TITLE", help="a title for each; default: the runs' names")


def _earliness(plots: argparse._SubParsersAction) -> None:
    parser = _add(
        plots,
        "earliness",
        "accuracy over the observed part of each clip, of several runs",
        "figures/earliness.png in the first run's folder",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or its name under checkpoints/")
    parser.add_argument("--modality", type=evaluated_name, default="all", metavar="M", help=EVALUATED)


def _skeleton(plots: argparse._SubParsersAction) -> None:
    parser = _add(
        plots,
        "skeleton",
        "a recording with its modalities and four training views, as an animation and a sheet of frames",
        "checkpoints/figures/NAME.gif, with NAME.png beside it",
    )
    parser.add_argument(
        "source", type=Path, metavar="PATH", help="a recording, a folder or archive of some, or a packed data set"
    )
    parser.add_argument("--name", help="name of the recording, if there are several")
    parser.add_argument(
        "--skeleton",
        metavar="NAME|FILE",
        help="joints of a .csv or .npy recording; default: the skeleton.json of its folder, else kinect_v2",
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the views")
    _add_class_names(parser)


def _retrieval(plots: argparse._SubParsersAction) -> None:
    parser = _add(
        plots,
        "retrieval",
        "a recording of the val side with its nearest neighbours on the training side",
        "figures/retrieval_NAME.png in the run's folder",
    )
    parser.add_argument("checkpoint", metavar="CKPT", help=CHECKPOINT)
    parser.add_argument("--query", required=True, metavar="NAME", help="name of a recording of the val side")
    parser.add_argument("-k", type=positive_int, default=5, help="number of neighbours")
    _add_encoder_options(parser)


def _add_encoder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modality",
        type=representation_name,
        default="all",
        metavar="M",
        help="what is encoded: all modalities fused, one without fusion, as joint+bone, or the ensemble",
    )
    _add_data_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    add_data_options(parser, "--finetune-dataset")
    _add_class_names(parser)


def _add_class_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="names of the classes, one per line, from A001 on; default: the data set's own",
    )


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        plot = importlib.import_module(f"tools.figures.{args.plot}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        raise UserError(f"plots need {package}, which is not installed: pip install -r requirements.txt") from error
    plot.main(args)


if __name__ == "__main__":
    run(main)
