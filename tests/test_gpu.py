"""What only a GPU can show; elsewhere these are skipped."""

import json

import numpy as np
import pytest
import torch

import action_recognition
from data_gen.packed.reader import PackedDataset
from feeder.augment import training_view
from feeder.clips import ClipDataset
from feeder.sampling import StepRandom
from models import loading
from models.objective import umurl_loss
from models.umurl import UmURL
from tests.helpers import GOLDEN

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]


def test_views_are_those_of_a_cpu(demo_root):
    packed = PackedDataset(demo_root / "demo")
    views = []
    for device in ("cpu", "cuda"):
        source = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device(device))
        clips = source.clips(slice(None), StepRandom.for_step(0, 0, 0, len(source), slice(None)))
        views.append(training_view()(clips))
    assert views[1].is_cuda
    torch.testing.assert_close(views[1].cpu(), views[0], atol=1e-5, rtol=1e-5)


def test_golden_loss():
    golden = np.load(GOLDEN / "pretrain_h8.npz")
    model = UmURL(8).cuda().train()
    model.load_state_dict(loading.weights(loading.load(GOLDEN / "official_h8.pth.tar")))
    views = tuple(torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1).cuda() for i in (1, 2, 3, 4))
    loss = umurl_loss(model(views))
    np.testing.assert_allclose([x.item() for x in (loss.total, *loss.terms.values())], golden["loss"], rtol=1e-4)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_every_precision_trains_and_resumes(pretrain, amp):
    flags = ["--device", "cuda", "--amp", amp, "--hidden-size", "64"]
    pretrain.run(*flags, "--epochs", "2")
    folder = pretrain.run(*flags, "--epochs", "4")
    losses = [json.loads(line)["loss/total"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 4 and losses[-1] < losses[0]
    scaler = loading.load(loading.newest(folder))["scaler"]
    assert bool(scaler) == (amp == "fp16")


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_every_precision_fine_tunes(published, demo_root, amp):
    flags = ["--finetune", "--device", "cuda", "--amp", amp, "--epochs", "20", "--schedule", "15"]
    action_recognition.main(["--pretrained", str(published), "--data-root", str(demo_root), *flags])
    losses = [h["loss"][0] for h in json.loads((published / "finetune.json").read_text())["history"]]
    assert len(losses) == 4 and losses[-1] < losses[0]
