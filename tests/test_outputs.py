"""Where something else than a file has the name of one that a program writes: refused before anything is replaced."""

import os
import shutil

import pytest

from tests.lab import CHECKPOINT, ONE, SHORT, SMALL, TRAINED
from tests.programs import assert_refused, call

PROBE = ("action_recognition", "--pretrained", "runs/demo", *SHORT)
RETRIEVAL = ("action_retrieval", "--pretrained", "runs/demo", *TRAINED)
PRETRAINING = ("pretrain", "--checkpoint-path", "runs/demo", *SMALL, *TRAINED, "--epochs", "9")
CONVERSION = ("data_gen.ntu_gendata", "--dataset", "demo", "--raw", "raw", "--workers", "1", "--out", "data/demo")
EXPORT = ("tools.export", "--pretrained", "runs/demo", "--out", "new", "--format", "torch")
COMMANDS = {
    "runs/demo/action_recognition_predictions.csv": PROBE,
    "runs/demo/earliness.json": (*PROBE, "--observed", "0.5"),
    "runs/demo/finetune_best.pth.tar": (*PROBE, "--finetune", "--batch-size", "12"),
    "runs/demo/action_retrieval.json": RETRIEVAL,
    "runs/demo/action_retrieval.log": RETRIEVAL,
    "runs/demo/pretrain.log": (*PRETRAINING, "--resume", "none"),
    "runs/demo/log.jsonl": (*PRETRAINING, "--resume", "none"),
    "runs/demo/config.json": (*PRETRAINING, "--resume", "none"),
    "runs/demo/checkpoint_0001.pth.tar": (*PRETRAINING, "--resume", "none"),
    "runs/demo/detection.json": ("tools.detect", *CHECKPOINT, "--data-root", "data", "--finetune-dataset", "mine"),
    f"new/{ONE[4:-9]}.png": ("tools.timeline", *CHECKPOINT, "--window", "1s", ONE, "--out", "new"),
    "new/export.json": EXPORT,
    "new.gif": ("tools.figures", "skeleton", ONE, "--out", "new.gif"),
    "runs/demo/figures/curves.png": ("tools.figures", "curves", "runs/demo"),
    "data/demo/camera.npy": CONVERSION,
    "data/demo/xsub_val.npy": CONVERSION,
    "data/demo/more1_train.npy": ("data_gen.add_protocol", "data/demo", "--split", "more=kfold:2"),
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_no_file_may_replace_is_refused_before_anything_is_replaced(
    lab, tmp_path, monkeypatch, request, name, kind
):
    folder = shutil.copytree(lab, tmp_path / "lab")
    monkeypatch.chdir(folder)
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
        handle = os.open(place, os.O_RDWR)  # or a program that opens it would wait
        request.addfinalizer(lambda: os.close(handle))
    before = contents(folder)
    assert_refused(call(*COMMANDS[name]), f"{name}: it is there already, and is no regular file")
    assert contents(folder) == before and (place.is_dir() or place.is_fifo())
