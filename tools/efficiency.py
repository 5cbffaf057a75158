"""Print parameters and operations of the unified model beside three separate streams: `python -m tools.efficiency`.

They are counted in the modules, in seconds and without data.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.packed.atomic import atomic_write

from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, output_file, positive_int
from tools.utils.tables import table

EXPLANATION = """
Operations are those of matrix products for one clip of {frames} frames and two people, forward, counted as this
implementation runs; a multiply-add counts as two.
Three separate streams: an encoder and a projector for each modality, trained on two views each; their scores are added.
This is the usual alternative, built from this model's parts."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument("--hidden-size", type=positive_int, default=1024, help="width of the encoder")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="also write all rows to FILE")
    args = parser.parse_args(argv)
    if args.hidden_size % 2:
        raise UserError(f"--hidden-size {args.hidden_size}: the position code needs an even number")

    from feeder.clips import NUM_FRAMES
    from tools.benchmark.efficiency import efficiency

    rows = efficiency(args.hidden_size)
    header = (f"hidden size {args.hidden_size}", "parameters, M", "GFLOP")
    print(table(header, [(r.what, f"{r.parameters / 1e6:.2f}", f"{r.flop / 1e9:.2f}") for r in rows]))
    print(EXPLANATION.format(frames=NUM_FRAMES))
    if args.json:
        with atomic_write(args.json) as partial:
            partial.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    run(main)
