"""Define options of the programs that use or train an encoder, without importing PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.raw.recording_files import SUFFIXES
from feeder.modality_names import ENSEMBLE, MODALITIES, modalities_of
from tools.utils.options import add_data_options, add_device_option, run_path

PLACES = f"a packed data set, or folders, zip archives and {', '.join(SUFFIXES)} files, as recorded or normalised"
LONG_PLACES = f"{', '.join(SUFFIXES)} files, folders of them, or packed data sets with segments"
EXPORTED = {"torch": "encoder.pt2", "onnx": "encoder.onnx"}  # files of tools.export, by format
VARIANTS = CENTRED, STANDARDISED = "centred", "standardised"  # of a representation (tools/evaluation/representation.py)
MIN_STEPS = 2000  # to compile for a batch size: where a step saves 30 ms, they repay a minute of compiling


def modality_name(text: str) -> str:
    """Check a value of --modality: `all`, a modality, or several joined by `+`, which are put into one order. Raises
    argparse.ArgumentTypeError."""
    try:
        return "all" if modalities_of(text) == MODALITIES else "+".join(modalities_of(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def representation_name(text: str) -> str:
    """Check a value of --modality where `ensemble` is one, too. Raises argparse.ArgumentTypeError."""
    return text if text == ENSEMBLE else modality_name(text)


def evaluated_name(text: str) -> str:
    """Check the name of a representation that was evaluated, such as `all`, `joint` or `ensemble_centred`. Raises
    argparse.ArgumentTypeError."""
    name, _, variant = text.rpartition("_")
    return f"{representation_name(name)}_{variant}" if variant in VARIANTS else representation_name(text)


def add_pretrained_option(parser: argparse.ArgumentParser) -> None:
    what = "a checkpoint; weights of fine-tuning or of tools.slim; or a run's folder or name, for its last checkpoint"
    parser.add_argument("--pretrained", type=run_path, required=True, metavar="CKPT", help=what)


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    add_pretrained_option(parser)
    add_device_option(parser)


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    add_pretrained_option(parser)
    add_data_options(parser, "--finetune-dataset")
    parser.add_argument(
        "--modality",
        type=representation_name,
        nargs="+",
        default=["all"],
        metavar="M",
        help="all (fused), one of joint, bone and motion, a fusion of some (joint+bone), or, of the frozen encoder, "
        "ensemble: the fused feature and each modality's own, side by side; several are evaluated in one pass; "
        "default: all",
    )
    centred = "evaluate the frozen features minus their mean on the train side, too (under the name M_centred)"
    parser.add_argument("--centre", action="store_true", help=centred)
    standardised = "evaluate them with mean 0 and deviation 1 of each dimension on the train side, too (M_standardised)"
    parser.add_argument("--standardise", action="store_true", help=standardised)


def add_skeleton_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skeleton",
        metavar="NAME|FILE",
        help="joints of .csv and .npy recordings, mapped onto the encoder's where a mapping exists; default: the "
        "skeleton.json of their folder, else the encoder's own",
    )


def add_query_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that predict and search share."""
    add_encoder_options(parser)
    parser.add_argument("recordings", type=Path, nargs="*", metavar="RECORDING", help=PLACES)
    parser.add_argument(
        "--watch",
        type=Path,
        metavar="FOLDER",
        help=f"then answer for each {', '.join(SUFFIXES)} file that newly appears in this folder, until Ctrl-C",
    )
    add_skeleton_option(parser)
    parser.add_argument("--json", action="store_true", help="print a line of JSON per recording instead of a table")


def add_amp_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --amp, the precision of training (tools/utils/precision.py)."""
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
