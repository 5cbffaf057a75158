"""Export what inference needs of a checkpoint: the encoder's weights as safetensors, and a card in JSON.

python -m tools.slim --pretrained checkpoints/ntu60_xsub --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from models.checkpoint_files import WEIGHTS_FILE, WEIGHTS_SUFFIX

from tools.utils.encoder_options import add_pretrained_option
from tools.utils.errors import run
from tools.utils.options import HelpFormatter


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_pretrained_option(parser)
    where = f"FILE{WEIGHTS_SUFFIX}, or a folder for {WEIGHTS_FILE}"
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help=where)
    args = parser.parse_args(argv)

    from tools.evaluation.features import FrozenEncoder
    from tools.inference.model_card import export_weights
    from tools.utils.distributed import single_process

    encoder = FrozenEncoder.open(args.pretrained, single_process("cpu", "tools.slim"))
    out = args.out if args.out.suffix == WEIGHTS_SUFFIX else args.out / WEIGHTS_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    card = export_weights(encoder, out)
    print(f"{encoder.path} as {out} ({out.stat().st_size / 2**20:.1f} MiB) and {card}")


if __name__ == "__main__":
    run(main)
