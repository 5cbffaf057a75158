"""What only a GPU can show; elsewhere these are skipped."""

import json

import numpy as np
import pytest
import torch
from models.objective import umurl_loss
from tools.utils.distributed import Processes

import action_recognition
import pretrain as program
from data_gen.packed.reader import PackedDataset
from feeder.augment import RandomTemporalCrop, training_view
from feeder.clips import ClipDataset
from feeder.modalities import Tokens
from models import checkpoint_files, loading
from models.umurl import UmURL
from tests.helpers import GOLDEN, streams_of
from tools.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]


def test_views_are_those_of_a_cpu(demo_root):
    packed = PackedDataset(demo_root / "demo")
    views, windows = [], []
    for device in ("cpu", "cuda"):
        dataset = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device(device))
        clips = dataset.views(torch.arange(len(packed), device=device), 4, seed=0, epoch=3)
        cropped = RandomTemporalCrop()(clips)
        windows.append((cropped.first.cpu(), cropped.length.cpu()))
        views.append(training_view()(dataset.views(torch.arange(len(packed), device=device), 4, seed=0, epoch=3)))
    assert views[1].is_cuda
    assert all(torch.equal(a, b) for a, b in zip(*windows))
    torch.testing.assert_close(views[1].cpu(), views[0], atol=1e-5, rtol=1e-5)


def test_golden_loss():
    golden = np.load(GOLDEN / "pretrain_h8.npz")
    model = UmURL(8).train()
    model.load_state_dict(loading.weights(loading.load(GOLDEN / "official_h8.pth.tar")))
    views = [torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1) for i in (1, 2, 3, 4)]
    streams = [{m: Tokens(*(t.cuda() for t in tokens)) for m, tokens in s.items()} for s in streams_of(model, views)]
    loss = umurl_loss(model.cuda()(streams))
    found = [loss.total, loss.terms["intra"], loss.terms["inter"], 5 * loss.terms["std"] + loss.terms["cov"]]
    np.testing.assert_allclose([x.item() for x in found], golden["loss"], rtol=1e-4)


def trainer_of(demo_root, *flags) -> Trainer:
    args = program.parse_args(["--checkpoint-path", "demo", "--data-root", str(demo_root), "--device", "cuda", *flags])
    device = torch.device("cuda", 0)
    program.complete_args(args)
    packed = PackedDataset(demo_root / "demo")
    trainer = Trainer(args, Processes(0, 1, device), ClipDataset.of_dataset(packed, np.arange(len(packed)), device))
    trainer.compile_and_distribute()
    return trainer


def test_a_step_never_waits_for_the_gpu(demo_root):
    trainer = trainer_of(demo_root, "--hidden-size", "64", "--amp", "bf16")
    rows = torch.arange(16, device="cuda")
    trainer.train_step(rows)  # what is done once
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train_step(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("amp, tolerance", [("off", 1e-4), ("bf16", 1e-2)])
def test_compiled_and_eager_steps_agree(demo_root, amp, tolerance):
    losses = {}
    for choice in ("off", "on"):
        trainer = trainer_of(demo_root, "--hidden-size", "64", "--amp", amp, "--compile", choice, "--batch-size", "12")
        assert trainer.compiler.sizes == ({12} if choice == "on" else set())
        losses[choice] = []
        for rows in torch.arange(24, device="cuda").split(12):
            trainer.train_step(rows)
            losses[choice].append(trainer.meter.read(0)["loss/total"])
    assert losses["on"] == pytest.approx(losses["off"], rel=tolerance)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_every_precision_trains_and_resumes(pretrain, amp):
    flags = ["--device", "cuda", "--amp", amp, "--hidden-size", "64"]
    pretrain.run(*flags, "--epochs", "2")
    folder = pretrain.run(*flags, "--epochs", "4")
    losses = [json.loads(line)["loss/total"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 4 and losses[-1] < losses[0]
    scaler = loading.load(checkpoint_files.newest(folder))["scaler"]
    assert bool(scaler) == (amp == "fp16")


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_every_precision_fine_tunes(published, demo_root, amp):
    flags = ["--finetune", "--device", "cuda", "--amp", amp, "--epochs", "20", "--schedule", "15"]
    action_recognition.main(["--pretrained", str(published), "--data-root", str(demo_root), *flags])
    losses = [h["loss"][0] for h in json.loads((published / "finetune.json").read_text())["history"]]
    assert len(losses) == 4 and losses[-1] < losses[0]
