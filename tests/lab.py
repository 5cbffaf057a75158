"""A folder with something for every program to work on, and commands that do."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.helpers import write_recordings
from tests.long_helpers import pack_long_folder, write_long
from tests.programs import call

TRAINED = ("--data-root", "data", "--device", "cpu")
SHORT = (*TRAINED, "--epochs", "1", "--schedule")
CHECKPOINT = ("--pretrained", "runs/demo", "--device", "cpu")
SMALL = ("--hidden-size", "8", "--batch-size", "12")
ONE = "raw/S001C001P001R001A001.skeleton"
# Of each program that can be called inside a test within a second, arguments that are right.
CALLS = [
    ("pretrain", "--checkpoint-path", "runs/demo_new", *SMALL, *SHORT),
    ("pretrain", "--checkpoint-path", "runs/demo", *SMALL, *TRAINED, "--epochs", "2"),
    ("action_recognition", "--pretrained", "runs/demo", *SHORT),
    ("action_recognition", "--pretrained", "runs/demo", "--finetune", "--batch-size", "12", *SHORT),
    ("action_retrieval", "--pretrained", "runs/demo", *TRAINED),
    ("tools.predict", *CHECKPOINT, "--classifier", "runs/demo/action_recognition.pth.tar", ONE),
    ("tools.predict", *CHECKPOINT, "data/demo"),
    ("tools.search", *CHECKPOINT, "--gallery", "runs/f.npz", ONE),
    ("tools.search", *CHECKPOINT, "--gallery", "data/demo", "-k", "2", ONE),
    ("tools.extract", *CHECKPOINT, "--data", "data/demo", "--out", "new.npz"),
    ("tools.slim", "--pretrained", "runs/demo", "--out", "slim"),
    ("tools.timeline", *CHECKPOINT, "--window", "1s", ONE),
    ("tools.detect", *CHECKPOINT, "--data-root", "data", "--finetune-dataset", "mine", "--epochs", "1"),
    ("tools.results", "runs/demo", "--csv", "new.csv"),
    ("tools.figures", "curves", "runs/demo", "--out", "new.png"),
    ("tools.figures", "confusion", "runs/demo", "--out", "new.png", *TRAINED),
    ("tools.figures", "retrieval", "runs/demo", "--query", "S001C001P003R001A001", "--out", "new.png", *TRAINED),
    ("tools.figures", "earliness", "runs/demo", "--out", "new.png"),
    ("tools.efficiency", "--hidden-size", "8", "--json", "new.json"),
    ("data_gen.ntu_gendata", "--dataset", "demo", "--raw", "raw", "--workers", "1", "--out", "new"),
    ("data_gen.import_dataset", "folder", "csv", "--name", "mine", "--out", "new"),
    ("data_gen.import_dataset", "npz", "a.npz", "--dataset", "demo", "--protocol", "xsub", "--out", "new"),
    ("data_gen.import_dataset", "pyskl", "a.pkl", "--dataset", "demo", "--out", "new"),
    ("data_gen.import_dataset", "padded", "padded", "--dataset", "demo", "--protocol", "xsub", "--out", "new"),
    ("data_gen.import_dataset", "long", "long", "--name", "mine", "--out", "new"),
    ("data_gen.export_dataset", "npz", "--data", "data/demo", "--protocol", "xsub", "--out", "new.npz"),
    ("data_gen.export_dataset", "folder", "--data", "data/demo", "--as", "npy", "--out", "new"),
    ("data_gen.add_protocol", "data/demo", "--split", "more=kfold:2"),
    ("data_gen.folds", "demo_fold", "--data-root", "data"),
]
FORMATS = (("folder", "csv", "--as", "csv"), ("npz", "a.npz"), ("pyskl", "a.pkl"), ("padded", "padded"))


def make_lab(folder: Path, run: Path, data: Path) -> None:
    """Put a run, its features, a data set in several formats, its recordings and long ones into `folder`."""
    shutil.copytree(run.parent, folder / "runs", ignore=shutil.ignore_patterns("events*"))
    shutil.copytree(data, folder / "data" / "demo")
    write_recordings(folder / "raw", subjects=(1, 3), actions=(1,))
    pack_long_folder(write_long(folder / "long", count=4, actions=2), folder / "data" / "mine_untrimmed")
    commands = [
        ("data_gen.export_dataset", kind, "--data", data, "--out", folder / out, *more) for kind, out, *more in FORMATS
    ]
    commands.append(("data_gen.add_protocol", folder / "data" / "demo", "--split", "fold=kfold:2"))
    probe = ("action_recognition", "--pretrained", folder / "runs" / "demo", "--observed", 0.5, "--device", "cpu")
    for command in (*commands, (*probe, "--data-root", data.parent)):
        ended = call(*command)
        assert ended.status == 0, ended
