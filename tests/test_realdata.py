"""Real Kinect v2 recordings, where they are to hand: they may not be part of the project."""

import json

import numpy as np
import pytest
import torch

import pretrain
from data_gen.datasets import DATASETS, ROOT
from data_gen.ntu_gendata import convert
from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset, ResampleClip
from tools.evaluation.knn import nearest
from tools.evaluation.metrics import accuracy

ARCHIVE = ROOT.parent / "shared" / "realdata" / "irds_ntu_layout.zip"
pytestmark = pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"no real recordings at {ARCHIVE}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    convert(DATASETS["ntu60"], [ARCHIVE], folder / "ntu60", workers=2)
    return folder


def test_all_recordings_convert(root):
    packed = PackedDataset(root / "ntu60")
    assert len(packed) == 2554 and not packed.info["skipped"] and not packed.info["without_a_body"]
    assert (packed.num_frame > 300).sum() == 12 and np.isfinite(packed.joints).all()
    short = packed.num_frame <= 300
    assert [short[packed.split("xsub", split)].sum() for split in ("train", "val")] == [1303, 1239]


def test_neighbours_of_raw_joints_score_what_is_known_of_them(root):
    """87.1 %, measured elsewhere: files of at most 300 frames, whole clips resized to 64 frames, 1-NN, cosine."""
    packed, splits = PackedDataset(root / "ntu60"), []
    for split in ("train", "val"):
        indices = packed.split("xsub", split)
        source = ClipDataset.of_dataset(packed, indices[packed.num_frame[indices] <= 300], torch.device("cpu"))
        splits.append((ResampleClip()(source.windows(slice(None))).flatten(1), source.label))
    (gallery, labels), (queries, truth) = splits
    assert accuracy(labels[nearest(queries, gallery, 1)[:, 0]], truth) == pytest.approx(87.1, abs=0.1)


def test_pretraining_learns_from_them(root, tmp_path):
    folder = tmp_path / "ntu60_xsub"
    flags = "--hidden-size 16 --batch-size 128 --epochs 4 --lr 2e-3 --device cpu".split()
    pretrain.main(["--checkpoint-path", str(folder), "--data-root", str(root), *flags])
    losses = [json.loads(line)["loss/total"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
