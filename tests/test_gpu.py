"""What only a GPU can show; elsewhere these are skipped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import action_recognition
from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import NTU_LAYOUT
from feeder.augment import RandomTemporalCrop, make_view
from feeder.clips import ClipDataset
from models.checkpoints import load, newest
from tests.helpers import GOLDEN, make_method, streams_of
from tools.training.trainer import Config, Trainer
from utils.files import read_results
from utils.processes import Processes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]


def test_views_are_those_of_a_cpu(demo_root):
    packed = PackedDataset(demo_root / "demo")
    views, windows = [], []
    for device in ("cpu", "cuda"):
        dataset = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device(device))
        indices = torch.arange(len(packed), device=device)
        cropped = RandomTemporalCrop()(*dataset.views(indices, 4, seed=0, epoch=3))
        windows.append((cropped.first.cpu(), cropped.length.cpu()))
        views.append(make_view("published", NTU_LAYOUT)(*dataset.views(indices, 4, seed=0, epoch=3)))
    assert views[1].is_cuda
    assert all(torch.equal(a, b) for a, b in zip(*windows))
    torch.testing.assert_close(views[1].cpu(), views[0], atol=1e-5, rtol=1e-5)


def test_golden_loss():
    golden = np.load(GOLDEN / "pretrain_h8.npz")
    method = make_method(8).train()
    method.load_state_dict(load(GOLDEN / "official_h8.pth.tar")["state_dict"])
    views = [torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1) for i in (1, 2, 3, 4)]
    streams = [{m: clip.cuda() for m, clip in stream.items()} for stream in streams_of(method, views)]
    loss = method.loss(method.cuda()(streams))
    values = [loss.total, loss.terms["intra"], loss.terms["inter"], 5 * loss.terms["std"] + loss.terms["cov"]]
    np.testing.assert_allclose([x.item() for x in values], golden["loss"], rtol=1e-4)


def trainer_of(demo_root, amp, compiling="off", batch_size=64) -> Trainer:
    device = torch.device("cuda", 0)
    packed = PackedDataset(demo_root / "demo")
    dataset = ClipDataset.of_dataset(packed, np.arange(len(packed)), device)
    config = Config(demo_root / "run", demo_root, "demo", "xsub", 60, (46,), 1e-3, batch_size, 64, 10)
    config = replace(config, amp=amp, compile=compiling)
    torch.manual_seed(0)
    trainer = Trainer(config, make_method(64), dataset, Processes(0, 1, device))
    trainer.start()
    return trainer


def test_a_step_never_waits_for_the_gpu(demo_root):
    trainer = trainer_of(demo_root, "bf16")
    indices = torch.arange(16, device="cuda")
    trainer.train_step(indices)  # what is done once
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train_step(indices)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("amp, tolerance", [("off", 1e-4), ("bf16", 1e-2)])
def test_compiled_and_eager_steps_agree(demo_root, amp, tolerance):
    losses = {}
    for choice in ("off", "on"):
        trainer = trainer_of(demo_root, amp, choice, 12)
        losses[choice] = []
        for indices in torch.arange(24, device="cuda").split(12):
            trainer.train_step(indices)
            losses[choice].append(trainer.meter.read(0)["loss/total"])
    assert losses["on"] == pytest.approx(losses["off"], rel=tolerance)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_every_precision_trains_and_resumes(pretrain, amp):
    flags = ["--device", "cuda", "--amp", amp, "--hidden-size", "64"]
    pretrain.run(*flags, "--epochs", "2")
    folder = pretrain.run(*flags, "--epochs", "4")
    losses = [json.loads(line)["loss/total"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 4 and losses[-1] < losses[0]
    scaler = load(newest(folder))["scaler"]
    assert bool(scaler) == (amp == "fp16")


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_every_precision_fine_tunes(published, demo_root, amp):
    flags = ["--finetune", "--device", "cuda", "--amp", amp, "--epochs", "20", "--schedule", "15"]
    action_recognition.main(["--pretrained", str(published), "--data-root", str(demo_root), *flags])
    (result,) = read_results(published)
    assert result["settings"]["amp"] == amp and 0 <= result["metrics"]["last_top1"] <= 100
