"""The encoder through torch.hub, from a folder that is not the project's."""

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from data_gen.datasets import ROOT
from data_gen.raw.normalise import normalise
from models import load_encoder
from tests.helpers import GOLDEN

CHECKPOINT = GOLDEN / "official_h8.pth.tar"
CLIPS = "torch.arange(2 * 9 * 2 * 25 * 3.0).sin().view(2, 9, 2, 25, 3)"


def test_the_encoder_of_torch_hub_is_that_of_the_library(tmp_path):
    code = f"""
import numpy, torch
encoder = torch.hub.load({str(ROOT)!r}, "umurl", source="local",
                         checkpoint={str(CHECKPOINT)!r}, modality="bone", device="cpu")
numpy.save("feature.npy", encoder([encoder.prepare(clip) for clip in {CLIPS}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    clips = torch.arange(2 * 9 * 2 * 25 * 3.0).sin().view(2, 9, 2, 25, 3).numpy()
    wanted = load_encoder(CHECKPOINT, "bone", "cpu")([normalise(clip.astype(np.float64)) for clip in clips])
    np.testing.assert_allclose(np.load(tmp_path / "feature.npy"), wanted, rtol=1e-5, atol=1e-6)


def test_another_package_of_the_same_name_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    with pytest.raises(ImportError, match="models or utils"):
        torch.hub.load(str(ROOT), "umurl", source="local", checkpoint=str(CHECKPOINT))
