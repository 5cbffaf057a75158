import logging
import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import GOLDEN, tiny_dataset
from tests.programs import call

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory):
    """A data root with a tiny packed `demo`: 12 recordings to train on, 12 to validate with, in x-sub."""
    root = tmp_path_factory.mktemp("data")
    tiny_dataset(root)
    return root


@pytest.fixture(autouse=True)
def leave_no_trace():
    """Programs run inside a test direct the log and uncaught errors to their folder, and handle signals; undo that."""
    hook, handlers = sys.excepthook, {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    sys.excepthook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logger = logging.getLogger("umurl")
    logger.propagate = True  # pytest adds a handler of its own to loggers that do not propagate
    for handler in logger.handlers[:]:
        handler.close()
        logger.removeHandler(handler)


@pytest.fixture
def published(tmp_path):
    """A run's folder that holds a checkpoint in the published layout and nothing else."""
    folder = tmp_path / "demo_published"
    folder.mkdir()
    shutil.copy(GOLDEN / "official_h8.pth.tar", folder / "checkpoint_0450.pth.tar")
    return folder


@pytest.fixture
def pretrain(demo_root, tmp_path):
    """Run pretrain.py in this process on the tiny data set; `.folder` is the run's."""
    import pretrain as program

    folder = tmp_path / "demo_run"

    def call(*flags, folder=folder):
        small = ["--hidden-size", "8", "--batch-size", "5", "--epochs", "2", "--save-freq", "1", "--device", "cpu"]
        program.main(["--checkpoint-path", str(folder), "--data-root", str(demo_root), *small, *map(str, flags)])
        return folder

    return SimpleNamespace(run=call, folder=folder)


@pytest.fixture(scope="session")
def run(demo_root, tmp_path_factory):
    """A run's folder: checkpoint, classifier, scores, and features beside it, which tests leave alone."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    data = ("--data-root", demo_root, "--device", "cpu")
    small = ("--hidden-size", 8, "--batch-size", 12, "--epochs", 1)
    for program, *flags in (
        ("pretrain", "--checkpoint-path", folder, *small),
        ("action_recognition", "--pretrained", folder, "--epochs", 2, "--schedule"),
        ("action_retrieval", "--pretrained", folder),
    ):
        ended = call(program, *flags, *data)
        assert ended.status == 0, ended
    features = ("--data", demo_root / "demo", "--out", folder.parent / "f.npz")
    assert call("tools.extract", "--pretrained", folder, "--device", "cpu", *features).status == 0
    return folder
