"""Fine-tuning that is stopped by a signal or killed, and goes on."""

import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from data_gen.packed.info import DataSetError
from tools.training.finetune import Finetuner
from tools.training.signals import StopSignal
from tools.utils.distributed import processes
from tools.utils.errors import UserError

import action_recognition
from models import CheckpointError, loading
from tests.processes import start, together
from tools.training import unfinished

FLAGS = "--finetune --batch-size 5 --schedule 4 --device cpu".split()
# 3 batches an epoch of all labels, 1 of few.
CASES = {
    "finetune_bone": ["--epochs", "6", "--modality", "bone", "--seed", "0", "1"],
    "semi_supervised": ["--epochs", "6", "--label-fraction", "0.1", "0.5", "--seed", "3", "1"],
    "finetune_scratch": ["--epochs", "6", "--from-scratch", "--modality", "all", "joint", "--amp", "bf16"],
}


def command(folder, root, more):
    return ["--pretrained", str(folder), "--data-root", str(root), *FLAGS, *more]


def left_by(folder):
    """What a run has left: results without their paths, and the tensors of models."""
    results, tensors = {}, {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        results[path.name] = {k: v for k, v in result.items() if k not in ("args", "checkpoint")}
    for path in sorted(folder.glob("[!c]*.pth.tar")):
        state = loading.load(path)
        results[path.name] = state["finetuned"]["epochs"], state["finetuned"]["top1"]
        tensors[path.name] = state["state_dict"], state["classifier"]["weight"], state["classifier"]["bias"]
    return results, tensors


def assert_equal(found, expected):
    assert found[0] == expected[0] and len(found[1]) >= 2
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0)


@pytest.fixture
def whole(published, demo_root, tmp_path):
    """Run a case without a stop; returns a fresh folder for another one, and what the whole one left."""

    def run(case):
        folder = tmp_path / "fresh" / published.name
        shutil.copytree(published, folder)
        action_recognition.main(command(published, demo_root, CASES[case]))
        return folder, left_by(published)

    return run


def stop_at(monkeypatch, number, at):
    """Have step `at` of those to come send a signal."""
    steps, train_step = [], Finetuner.train_step

    def stopping(self, batch):
        loss = train_step(self, batch)
        steps.append(self.epoch)
        if len(steps) == at:
            os.kill(os.getpid(), number)
        return loss

    monkeypatch.setattr(Finetuner, "train_step", stopping)


@pytest.mark.parametrize(
    "case, stops",
    [("finetune_bone", (1, 2, 3, 11, 6)), ("semi_supervised", (4, 5, 12)), ("finetune_scratch", (16, 7))],
)
def test_stopped_anywhere_it_ends_as_without_a_stop(whole, case, stops, demo_root, monkeypatch, capsys):
    folder, expected = whole(case)
    for which, at in enumerate(stops):
        number = (signal.SIGTERM, signal.SIGINT)[which % 2]
        with monkeypatch.context() as patch:
            stop_at(patch, number, at)
            with pytest.raises(SystemExit) as stopped:
                action_recognition.main(command(folder, demo_root, CASES[case]))
        assert stopped.value.code == 128 + number
        (state,) = folder.glob(f"unfinished_{case.removesuffix('_bone')}_*/state.pth.tar")
        assert f"stopped by {number.name}; the same command goes on from {state.parent}" in capsys.readouterr().out
    action_recognition.main(command(folder, demo_root, CASES[case]))
    assert "going on from" in capsys.readouterr().out
    assert_equal(left_by(folder), expected)
    assert not list(folder.glob("unfinished*")) and not list(folder.glob("*.partial"))


def test_another_command_never_goes_on_from_it(published, demo_root, monkeypatch, capsys):
    mine = command(published, demo_root, [*CASES["finetune_bone"], "--seed", "0"])
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, 2)
        with pytest.raises(SystemExit):
            action_recognition.main(mine)
    (state,) = published.glob("unfinished_*")
    for more in (["--lr", "0.02"], ["--seed", "1"], ["--epochs", "5"], ["--modality", "joint"], ["--from-scratch"]):
        action_recognition.main([*mine, *more])
        assert "going on from" not in capsys.readouterr().out
        assert list(published.glob("unfinished_*")) == [state]
    weights = loading.load_plain(published / "checkpoint_0450.pth.tar")
    weights["state_dict"]["module.backbone.b_emb.t_embedding.0.weight"].mul_(2)
    shutil.copytree(published, published.parent / "demo_other")
    torch.save(weights, published.parent / "demo_other" / "checkpoint_0450.pth.tar")
    other = command(published.parent / "demo_other", demo_root, [*CASES["finetune_bone"], "--seed", "0"])
    action_recognition.main(other)
    assert "going on from" not in capsys.readouterr().out
    action_recognition.main(mine)
    assert "going on from" in capsys.readouterr().out and not list(published.glob("unfinished_*"))


def test_a_killed_one_loses_no_more_than_since_the_last_validation(whole, demo_root, monkeypatch, capsys):
    folder, expected = whole("finetune_bone")
    monkeypatch.setattr(unfinished, "SAVE_EVERY", 0)
    with monkeypatch.context() as patch:
        train_step = Finetuner.train_step

        def killed(self, batch):
            if self.epoch == 5 and self.step == 2 and self.seed == 1:
                raise KeyboardInterrupt
            return train_step(self, batch)

        patch.setattr(Finetuner, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            action_recognition.main(command(folder, demo_root, CASES["finetune_bone"]))
    epochs = []
    monkeypatch.setattr(
        Finetuner, "train_step", lambda self, batch: epochs.append(self.epoch) or train_step(self, batch)
    )
    action_recognition.main(command(folder, demo_root, CASES["finetune_bone"]))
    assert epochs == [5] * 3  # of the second seed alone
    assert_equal(left_by(folder), expected)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda state: state["model"].pop("linear.bias"), 'Missing key\\(s\\) "linear.bias"'),
        (lambda state: state["momentum"].update({"linear.bias": torch.zeros(3)}), "size mismatch, linear.bias"),
        (lambda state: state["model"].update({"linear.bias": torch.full((12,), torch.nan)}), "that are not finite"),
        (lambda state: state.update(epoch=-1), "is not what fine-tuning left: epoch -1"),
        (lambda state: state.update(scores=[["5", 1.0, 1.0, 1.0]]), "is not what fine-tuning left: no score"),
        (lambda state: state.update(losses=torch.zeros(2)), "size mismatch, losses"),
        (lambda state: state.update(digest="0"), "is not what this command left"),
        (lambda state: state.pop("runs"), "is not what this command left"),
        (lambda state: state.clear(), "is not what this command left"),
    ],
)
def test_a_damaged_state_is_refused_by_name(published, demo_root, monkeypatch, damage, message):
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, 2)
        with pytest.raises(SystemExit):
            action_recognition.main(command(published, demo_root, CASES["finetune_bone"]))
    (path,) = published.glob("unfinished_*/state.pth.tar")
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=f"{message}.*: remove {path.parent} to start anew"):
        action_recognition.main(command(published, demo_root, CASES["finetune_bone"]))
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=f"damaged.*: remove {path.parent} to start anew"):
        action_recognition.main(command(published, demo_root, CASES["finetune_bone"]))
    assert path.read_bytes() == b"damaged" and not list(published.glob("*.json"))


def test_a_command_that_runs_already_is_refused_and_one_that_diverges_leaves_nothing(published, demo_root, monkeypatch):
    with monkeypatch.context() as patch:
        train_step = Finetuner.train_step

        def again(self, batch):
            with pytest.raises(DataSetError, match="unfinished_finetune_.*: another program is writing here"):
                action_recognition.main(command(published, demo_root, CASES["finetune_bone"]))
            patch.setattr(Finetuner, "train_step", train_step)
            return train_step(self, batch)

        patch.setattr(Finetuner, "train_step", again)
        action_recognition.main(command(published, demo_root, CASES["finetune_bone"]))
    with pytest.raises(UserError, match="not finite"):
        action_recognition.main(command(published, demo_root, ["--epochs", "6", "--lr", "1e30"]))
    assert not list(published.glob("unfinished*"))


def save_slowly(folder):
    """Save the state of a stopped run; returns whether the file is there."""
    with processes("cpu") as procs:
        state = unfinished.Unfinished(folder, "finetune", {}, procs)
        tuner = SimpleNamespace(losses=torch.zeros(1), state=lambda: time.sleep(0.3 * procs.is_main) or {})
        with state.held():
            unfinished.Keeper(state, "run", StopSignal()).save(tuner, stopped=True)
        return (state.folder / unfinished.STATE).is_file()


def test_no_process_ends_before_the_main_one_has_saved(tmp_path):
    assert together(2, save_slowly, tmp_path) == [True, True]  # torchrun, seeing one of them end, kills the others


def test_a_signal_to_one_of_two_processes_stops_both_and_one_goes_on_alone(published, demo_root, tmp_path):
    alone = tmp_path / "alone" / published.name
    shutil.copytree(published, alone)
    long = ["--modality", "bone", "--epochs", "150"]
    both = start(2, "action_recognition", *command(published, demo_root, long))
    while all(process.is_alive() for process in both) and not (published / "finetune.log").is_file():
        time.sleep(0.05)
    time.sleep(0.5)  # it notes a signal from its start on, and the run takes much longer
    both[1].terminate()
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [128 + signal.SIGTERM] * 2
    assert "stopped by SIGTERM" in (published / "finetune.log").read_text()
    (path,) = published.glob("unfinished_*/state.pth.tar")
    state = loading.load_plain(path)
    assert (state["epoch"], state["step"]) > (0, 0)
    for folder in (published, alone):
        action_recognition.main(command(folder, demo_root, long))
    assert "going on from" in (published / "finetune.log").read_text()
    one, two = (json.loads((folder / "finetune_bone.json").read_text()) for folder in (alone, published))
    for a, b in zip(one["history"], two["history"], strict=True):
        # Rounding, which depends on the number of processes, grows over many epochs; losses begin at about 1.
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-2, abs=5e-3)
