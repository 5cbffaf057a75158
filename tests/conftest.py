import logging
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import GOLDEN, tiny_dataset

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory):
    """A data root with a tiny packed `demo`: 12 recordings to train on, 12 to validate with, in x-sub."""
    root = tmp_path_factory.mktemp("data")
    tiny_dataset(root)
    return root


@pytest.fixture(autouse=True)
def leave_no_log():
    """Programs run inside a test direct the log and uncaught errors to their folder; undo that."""
    hook = sys.excepthook
    yield
    sys.excepthook = hook
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
