"""Options of the programs that use an encoder, and of those that train one. No PyTorch is needed for them."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.raw.long_files import SUFFIXES
from data_gen.raw.recordings import SUFFIX
from feeder.modality_names import MODALITIES, modalities_of
from tools.utils.options import add_data_options, run_path

PLACES = f"a packed data set, or folders, zip archives and {SUFFIX} files"
LONG_PLACES = f"{', '.join(SUFFIXES)} files, folders of them, or packed data sets with segments"
MIN_STEPS = 2000  # to compile for a batch size: where a step saves 30 ms, they repay a minute of compiling


def modality_name(text: str) -> str:
    """Check a value of --modality: `all`, a modality, or several joined by `+`, which are put into one order. Raises
    argparse.ArgumentTypeError."""
    try:
        return "all" if modalities_of(text) == MODALITIES else "+".join(modalities_of(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_pretrained_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pretrained",
        type=run_path,
        required=True,
        metavar="CKPT",
        help="a checkpoint, weights from tools.slim, or a run (its folder, or its name under checkpoints/), whose last "
        "checkpoint is taken",
    )


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    add_pretrained_option(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    add_pretrained_option(parser)
    add_data_options(parser, "--finetune-dataset")
    parser.add_argument(
        "--modality",
        type=modality_name,
        nargs="+",
        default=["all"],
        metavar="M",
        help="all (fused), one of joint, bone and motion, or a fusion of some (joint+bone); several are evaluated in "
        "one pass; default: all",
    )


def add_query_options(parser: argparse.ArgumentParser) -> None:
    """What predict and search have in common."""
    add_encoder_options(parser)
    parser.add_argument("recordings", type=Path, nargs="*", metavar="RECORDING", help=PLACES)
    parser.add_argument(
        "--watch",
        type=Path,
        metavar="FOLDER",
        help="then answer for each .skeleton file that appears in this folder, until Ctrl-C; those that are there "
        "already are passed over",
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON a recording instead of a table")


def add_amp_option(parser: argparse.ArgumentParser, what: str) -> None:
    """The precision that a model is trained in, as tools/utils/precision.py has them."""
    parser.add_argument(
        "--amp",
        choices=("bf16", "fp16", "off"),
        help=f"precision of {what}; default: bf16 on a GPU that has it, fp16 on others, off on a CPU",
    )


def add_compile_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compile",
        choices=("auto", "on", "off"),
        nargs="?",
        const="on",
        default="auto",
        help="compile the model with torch.compile, which takes about a minute at the start; auto: on a GPU, for batch "
        f"sizes that at least {MIN_STEPS:,} steps of the run have",
    )
