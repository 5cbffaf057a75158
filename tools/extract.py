"""Write the features of recordings into a NumPy archive.

python -m tools.extract --pretrained checkpoints/ntu60_xsub --data data/ntu60 --out features.npz
python -m tools.extract --pretrained CKPT --data FOLDER recordings.zip A.skeleton --out features.npz
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from data_gen.raw.conversion import BadRecordings
from models.loading import fingerprint
from tools.evaluation.features import ENSEMBLE, FrozenEncoder, add_encoder_options, representation_name
from tools.inference.recordings import PLACES, Features, RecordingsInput, add_skeleton_option
from tools.utils.atomic import atomic_write
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter


def write_features(out: Path, batches: Iterable[Features], size: int, more: dict[str, Any]) -> int:
    """Write an .npz of `feature` float32 (N, size), `name`, `label` and what `more` holds; returns N.

    Features pass through a file, so that memory does not grow with N. Raises UserError where there are none.
    """
    names, labels = [], []
    with TemporaryFile(dir=out.parent) as values:
        for batch in batches:
            values.write(batch.feature.cpu().numpy().data)
            names += batch.names
            labels += batch.labels.tolist()
        if not names:
            raise UserError(f"no recording could be read, so there is nothing to write to {out}")
        values.seek(0)
        arrays = {"name": np.array(names), "label": np.array(labels), **{k: np.array(v) for k, v in more.items()}}
        with atomic_write(out) as partial, zipfile.ZipFile(partial, "w") as archive:
            with archive.open("feature.npy", "w", force_zip64=True) as entry:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), size)}
                np.lib.format.write_array_header_1_0(entry, header)
                shutil.copyfileobj(values, entry)
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    return len(names)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_encoder_options(parser)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help=PLACES)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.npz",
        help="archive to write",
    )
    parser.add_argument(
        "--modality",
        type=representation_name,
        default="all",
        help="all (fused), one modality, a fusion such as joint+bone, or ensemble: the fused feature and each "
        "modality's own, side by side",
    )
    add_skeleton_option(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave out recordings that cannot be read")
    args = parser.parse_args(argv)
    if not args.out.parent.is_dir():
        raise UserError(f"--out {args.out}: there is no folder {args.out.parent}")
    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.extract"))
    streams = encoder.streams(args.modality)
    recordings = RecordingsInput(args.data, encoder, args.skeleton)

    def batches() -> Iterable[Features]:
        yield from recordings.features(streams, only_whole=not args.skip_bad)
        if recordings.bad and not args.skip_bad:
            raise BadRecordings(recordings.bad)

    size = 2 * encoder.backbone.hidden_size * len(streams)
    modality = ENSEMBLE if args.modality == ENSEMBLE else "+".join(streams[0])
    more = {"modality": modality, "encoder": fingerprint(encoder.backbone)}
    count = write_features(args.out, batches(), size, more | {"classes": np.array(recordings.classes, np.str_)})
    print(f"{count} features of {size} values: {args.out}")
    for place, reason in recordings.bad.items():
        print(f"warning: left out: {place}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
