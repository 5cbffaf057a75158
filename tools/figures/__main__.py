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
from importlib import import_module
from pathlib import Path

from data_gen.datasets import DATA_ROOT
from utils.errors import UserError
from utils.options import (
    HelpFormatter,
    add_data_options,
    add_modality_option,
    make_parser,
    non_negative_int,
    output_file,
    positive_int,
)
from utils.processes import run, single_process

PLOTS = {
    "tsne": "t-SNE of the features of some classes of the val split; several checkpoints are drawn side by side",
    "confusion": "confusion matrix on the val split, of a run's newest linear probe or of a fine-tuned model",
    "curves": "training curves of several runs, and the accuracy of their newest linear probes",
    "earliness": "accuracy over the observed part of each clip, of several runs",
    "skeleton": "a recording with its modalities and four training views, as an animation and a sheet of frames",
    "retrieval": "a val recording with its nearest neighbours in the train split, as tools.search finds them",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.prog = "python -m tools.figures"
    subparsers, plots = parser.add_subparsers(dest="plot", required=True, metavar="PLOT"), {}
    for name, what in PLOTS.items():
        plots[name] = subparsers.add_parser(name, help=what, description=what, formatter_class=HelpFormatter)
    runs = "a run's folder, or its name under checkpoints/"
    for name in ("curves", "earliness"):
        plots[name].add_argument("runs", nargs="+", metavar="RUN", help=runs)
    for name in ("confusion", "retrieval"):
        plots[name].add_argument("checkpoint", metavar="CKPT", help=f"checkpoint, {runs}")
    plots["tsne"].add_argument("checkpoints", nargs="+", metavar="CKPT", help=f"checkpoint, {runs}")
    classes = "number of classes, chosen at random; default: 10, or all if there are fewer"
    plots["tsne"].add_argument("--classes", type=positive_int, metavar="N", help=classes)
    plots["retrieval"].add_argument("--query", required=True, metavar="NAME", help="name of a val recording")
    plots["retrieval"].add_argument("-k", type=positive_int, default=5, help="number of neighbours")
    plots["skeleton"].add_argument("source", type=Path, metavar="PATH", help="file, folder, archive or packed data set")
    plots["skeleton"].add_argument("--name", help="name of the recording, if there are several")
    joints = "joints of a .csv or .npy recording; default: the skeleton.json of its folder, else kinect_v2"
    plots["skeleton"].add_argument("--skeleton", metavar="NAME|FILE", help=joints)
    for name in ("tsne", "skeleton"):
        plots[name].add_argument("--seed", type=non_negative_int, default=0, help="seed of random choices")
    for name in ("tsne", "curves"):
        plots[name].add_argument("--labels", nargs="+", metavar="TITLE", help="a title for each; default: runs' names")
    add_modality_option(plots["tsne"], "all")
    add_modality_option(plots["retrieval"], "ensemble")
    for name in ("confusion", "earliness"):
        evaluated = "modality in results.jsonl: all, joint, ensemble_centred"
        plots[name].add_argument("--modality", default="all", metavar="M", help=evaluated)
    for name in ("tsne", "confusion", "retrieval"):
        add_data_options(plots[name], "--finetune-dataset", DATA_ROOT)
    for name in ("tsne", "confusion", "retrieval", "skeleton"):
        names = "names of the classes, one per line, from A001 on; default: the data set's own"
        plots[name].add_argument("--class-names", type=Path, metavar="FILE", help=names)
    for name, plot in plots.items():
        place = "a PNG, default: in figures/ of the (first) run's folder, named by what it shows"
        place = "a GIF, with a PNG beside it; default: checkpoints/figures/NAME.gif" if name == "skeleton" else place
        plot.add_argument("--out", type=output_file, metavar="FILE", help=place)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = vars(parse_args(argv))
    name = options.pop("plot")
    try:
        module = import_module(f"tools.figures.{'curves' if name == 'earliness' else name}")
    except ModuleNotFoundError as error:
        raise UserError(f"plots need {error.name}: pip install -r requirements.txt") from error
    if "device" in options:
        from tools.figures.inputs import Data

        device = single_process(options.pop("device"), "tools.figures")
        options["data"] = Data(options.pop("dataset"), options.pop("protocol"), options.pop("data_root"), device)
    getattr(module, f"plot_{name}")(**options)  # typed values, by the names of the options


if __name__ == "__main__":
    run(main)
