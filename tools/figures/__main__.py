"""Plots of a run, of its features and of its recordings, as PNG files and in TensorBoard.

python -m tools.figures tsne ntu60_xsub_baseline ntu60_xsub
python -m tools.figures confusion ntu60_xsub
python -m tools.figures curves ntu60_xsub ntu60_xsub_lr1e-3
python -m tools.figures early_recognition ntu60_xsub
python -m tools.figures skeleton data/ntu60 --name S001C001P001R001A001
python -m tools.figures retrieval ntu60_xsub --query S001C001P003R001A001 -k 5
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from data_gen.datasets import DATA_ROOT
from utils import options
from utils.errors import UserError
from utils.processes import run, single_process

PLOTS = {
    "tsne": "t-SNE of the features of some classes of the val split; several checkpoints are drawn side by side",
    "confusion": "confusion matrix on the val split, of a run's newest linear probe or of a fine-tuned model",
    "curves": "training curves of several runs, and the accuracy of their newest linear probes",
    "early_recognition": "accuracy over the observed part of each clip, of several runs",
    "skeleton": "a recording with its modalities and four training views, as an animation and a sheet of frames",
    "retrieval": "a val recording with its nearest neighbours in the train split, as tools.search finds them",
}
ALIASES = {"early_recognition": ["earliness"]}  # what earlier versions called it


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.prog = "python -m tools.figures"
    subparsers, parsers = parser.add_subparsers(dest="plot", required=True, metavar="PLOT"), {}
    for name, text in PLOTS.items():
        parsers[name] = subparsers.add_parser(
            name, aliases=ALIASES.get(name, ()), help=text, description=text, formatter_class=options.HelpFormatter
        )
        parsers[name].set_defaults(plot=name)

    def add(plots: str, flag: str, text: str, **settings: Any) -> None:
        for name in plots.split():
            parsers[name].add_argument(flag, help=text, **settings)

    place = "a run's folder, or its name under checkpoints/"
    add("curves early_recognition", "runs", place, nargs="+", metavar="RUN")
    add("tsne", "checkpoints", f"checkpoint, {place}", nargs="+", metavar="CKPT")
    add("confusion retrieval", "checkpoint", f"checkpoint, {place}", metavar="CKPT")
    add("skeleton", "source", "file, folder, archive or packed data set", type=Path, metavar="PATH")
    add("skeleton", "--name", "name of the recording, if there are several")
    joints = "joints of a .csv or .npy recording; default: the skeleton.json of its folder, else kinect_v2"
    add("skeleton", "--skeleton", joints, metavar="NAME|FILE")
    classes = "number of classes, chosen at random; default: 10, or all if there are fewer"
    add("tsne", "--classes", classes, type=options.positive_int, metavar="N")
    add("tsne skeleton", "--seed", "seed of random choices", type=options.non_negative_int, default=0)
    add("tsne curves", "--labels", "a title for each; default: runs' names", nargs="+", metavar="TITLE")
    add("retrieval", "--query", "name of a val recording", required=True, metavar="NAME")
    add("retrieval", "-k", "number of neighbours", type=options.positive_int, default=5)
    modality = "modality in results.jsonl: all, joint, ensemble_centred"
    add("confusion early_recognition", "--modality", modality, default="all", metavar="M")
    options.add_modality_option(parsers["tsne"], "all")
    options.add_modality_option(parsers["retrieval"], "ensemble")
    for name in ("tsne", "confusion", "retrieval"):
        options.add_data_options(parsers[name], "--finetune-dataset", DATA_ROOT)
    names = "names of the classes, one per line, from A001 on; default: the data set's own"
    add("tsne confusion retrieval skeleton", "--class-names", names, type=Path, metavar="FILE")
    out = "a PNG (skeleton: a GIF, with a PNG beside it); default: in the run's figures/, named by what it shows"
    add(" ".join(PLOTS), "--out", out, type=options.output_file, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    values = vars(parse_args(argv))
    name, labels = values.pop("plot"), values.get("labels")
    if labels and len(labels) != len(values.get("runs") or values["checkpoints"]):
        raise UserError("--labels: give as many titles as runs")
    try:
        module = import_module(f"tools.figures.{'curves' if name == 'early_recognition' else name}")
    except ModuleNotFoundError as error:
        raise UserError(f"plots need {error.name}: pip install -r requirements.txt") from error
    if "device" in values:
        from tools.figures.inputs import Data

        device = single_process(values.pop("device"), "tools.figures")
        values["data"] = Data(values.pop("dataset"), values.pop("protocol"), values.pop("data_root"), device)
    getattr(module, f"plot_{name}")(**values)  # typed values, by the names of the options


if __name__ == "__main__":
    run(main)
