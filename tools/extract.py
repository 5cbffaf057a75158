"""Features of recordings, for use elsewhere.

python -m tools.extract --pretrained checkpoints/ntu60_xsub --data data/ntu60 --out features.npz
python -m tools.extract --pretrained CKPT --data A.skeleton B.skeleton --out features.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from data_gen.normalise import normalise
from data_gen.packed import INFO, PackedDataset
from data_gen.recordings import SUFFIX, Recording
from data_gen.skeleton_file import SkeletonError, parse_name, parse_skeleton
from feeder.clips import ClipSource
from tools import checkpoints
from tools.errors import UserError, run
from tools.features import extract_features, modalities_of, modality_name
from tools.options import HelpFormatter
from tools.processes import single_process


def read_data(paths: list[Path], device: torch.device) -> tuple[ClipSource, np.ndarray]:
    """Clips and names of a packed data set, or of `.skeleton` files (label −1 where the name tells none).

    Raises UserError, DataSetError.
    """
    if len(paths) == 1 and (paths[0] / INFO).is_file():
        packed = PackedDataset(paths[0])
        return ClipSource.of_dataset(packed, np.arange(len(packed)), device), packed.names
    people, labels = [], []
    for path in paths:
        if path.suffix != SUFFIX:
            raise UserError(f"{path} is neither a packed data set nor a {SUFFIX} file")
        try:
            people.append(normalise(parse_skeleton(Recording(path.stem, str(path)).read())))
        except SkeletonError as error:
            raise UserError(f"{path}: {error}") from error
        try:
            labels.append(parse_name(path.stem).label)
        except SkeletonError:
            labels.append(-1)
    num_frame = np.array([len(p) for p in people])
    source = ClipSource(torch.from_numpy(np.concatenate(people)), num_frame, np.array(labels))
    return source, np.array([path.stem for path in paths])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument("--pretrained", type=Path, required=True, metavar="CKPT", help="checkpoint, or a run's folder")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="PATH", help="a packed data set, or .skeleton files"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where feature, name and label go")
    parser.add_argument(
        "--modality", type=modality_name, default="all", help="all of them fused, one without fusion, or as joint+bone"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    args = parser.parse_args(argv)
    if not args.out.parent.is_dir():
        raise UserError(f"--out {args.out}: there is no folder {args.out.parent}")
    device = single_process(args.device, "tools.extract")
    path = checkpoints.newest(args.pretrained)
    state = checkpoints.load(path)
    backbone = checkpoints.load_backbone(state, path).to(device)
    chosen = modalities_of(args.modality, checkpoints.modalities(state))
    source, names = read_data(args.data, device)
    (feature,) = extract_features(backbone, source, [chosen], device)
    partial = args.out.with_name(args.out.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, feature=feature.cpu().numpy(), name=names, label=source.label.numpy())
    partial.replace(args.out)
    print(f"{len(names)} features of {feature.shape[1]} values: {args.out}")


if __name__ == "__main__":
    run(main)
