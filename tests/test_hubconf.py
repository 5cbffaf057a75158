"""The encoder through torch.hub, from a folder that is not the project's."""

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from data_gen.datasets import ROOT
from models import load_encoder
from tests.helpers import GOLDEN

CHECKPOINT = GOLDEN / "official_h8.pth.tar"


def test_the_encoder_of_torch_hub_is_that_of_the_library(tmp_path):
    code = f"""
import numpy, torch
encoder = torch.hub.load({str(ROOT)!r}, "umurl", source="local",
                         checkpoint={str(CHECKPOINT)!r}, modality="bone", device="cpu")
numpy.save("feature.npy", encoder(torch.ones(2, 9, 2, 25, 3).cumsum(1).sin()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted = load_encoder(CHECKPOINT, "bone", "cpu")(torch.ones(2, 9, 2, 25, 3).cumsum(1).sin())
    np.testing.assert_allclose(np.load(tmp_path / "feature.npy"), wanted, rtol=1e-5, atol=1e-6)


def test_another_package_of_the_same_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    with pytest.raises(ImportError, match="another package is imported as 'models'"):
        torch.hub.load(str(ROOT), "umurl", source="local", checkpoint=str(CHECKPOINT))
