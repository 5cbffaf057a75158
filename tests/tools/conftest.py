import json
import shutil

import numpy as np
import pytest

from tests.helpers import GOLDEN
from tests.programs import call


@pytest.fixture(scope="session")
def evaluated(demo_root, tmp_path_factory):
    """The published checkpoint with classifiers and their predictions beside it, which tests leave alone."""
    folder = tmp_path_factory.mktemp("evaluated") / "demo_published"
    folder.mkdir()
    shutil.copy(GOLDEN / "official_h8.pth.tar", folder / "checkpoint_0450.pth.tar")
    data = ("--data-root", demo_root, "--device", "cpu")
    probe = ("--epochs", 7, "--schedule", "--modality", "all", "joint+bone", "ensemble", "--standardise")
    assert call("action_recognition", "--pretrained", folder, *data, *probe).status == 0
    return folder


@pytest.fixture
def answers():
    """Return each recording's rows, as predict or search prints them in JSON."""

    def ask(program, *args):
        ended = call(f"tools.{program}", "--device", "cpu", "--json", *args)
        assert ended.status == 0, ended
        lines = [json.loads(line) for line in ended.out.splitlines()]
        key = {"predict": "actions", "search": "neighbours"}[program]
        assert all(line.keys() == {"recording", key} for line in lines)
        return {line["recording"]: line[key] for line in lines}

    return ask


@pytest.fixture
def extract(tmp_path):
    """Write features, by default into features.npz, and return the archive's arrays."""

    def write(pretrained, *data, modality="all", out=tmp_path / "features.npz", more=()):
        flags = ("--pretrained", pretrained, "--device", "cpu", "--modality", modality, "--out", out, *more)
        ended = call("tools.extract", *flags, "--data", *data)
        assert ended.status == 0, ended
        with np.load(out) as file:
            return dict(file)

    return write
