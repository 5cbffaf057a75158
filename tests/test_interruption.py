"""Runs that are killed or stopped by a signal, and go on."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from data_gen.datasets import ROOT
from models import checkpoints
from models.checkpoints import load, newest
from tests.processes import start
from tests.programs import assert_refused, call
from tests.runs import assert_equal_runs, figures, launched, of
from tools.training.report import progress_text
from tools.training.trainer import Trainer
from utils.files import lock, locked, read_results


def kill_and_rerun(folder, demo_root, epochs, kills, rng):
    """Start the run again and again, killing it some time after it has saved a checkpoint; every second time while
    another one is being written. Then let it finish. Returns how many runs were killed, and how many of these left a
    half-written checkpoint."""
    command = [*of(folder, demo_root), "--epochs", epochs, "--keep", 3]
    killed = halves = 0
    for kill in range(kills):
        before = set(folder.glob("*.tar"))
        (process,) = start(1, *command)
        while process.is_alive() and before >= set(folder.glob("*.tar")):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        while kill % 2 and process.is_alive() and not list(folder.glob("*.partial")):
            pass
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        halves += bool(list(folder.glob("checkpoint*.partial")))
    ended = call(*command)
    assert ended.status == 0, ended
    return killed, halves


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_one_that_was_not(pretrain, demo_root, tmp_path, kills):
    epochs = 6 * kills
    whole = pretrain.run("--epochs", epochs, "--keep", 3, folder=tmp_path / "whole" / "demo")
    folder = tmp_path / "killed" / "demo"
    killed, halves = kill_and_rerun(folder, demo_root, epochs, kills, random.Random(kills))
    print(f"{killed} kills, {halves} of them left a half-written checkpoint")
    assert killed >= 0.9 * kills
    assert halves > 0
    assert_equal_runs(folder, whole, epochs)


@pytest.mark.parametrize("at, number", [(1, signal.SIGTERM), (3, signal.SIGINT), (8, signal.SIGHUP)])
def test_a_signal_saves_the_step_reached_and_the_run_goes_on_from_there(pretrain, tmp_path, monkeypatch, at, number):
    """Of nine steps in three epochs."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
    whole = pretrain.run("--epochs", "3", folder=tmp_path / "whole" / "demo")
    steps, train_step = [], Trainer.train_step

    def stop_here(self, indices):
        train_step(self, indices)
        steps.append(self.step)
        if len(steps) == at:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stop_here)
        with pytest.raises(SystemExit) as stopped:
            pretrain.run("--epochs", "3")
    assert stopped.value.code == 128 + number and len(steps) == at
    assert newest(pretrain.folder).name == checkpoints.name_of(at // 3, at % 3)
    pretrain.run("--epochs", "3")
    assert_equal_runs(pretrain.folder, whole, 3)
    names = sorted(p.name for p in pretrain.folder.glob("*.pth.tar"))
    assert names == [f"checkpoint_{i:04d}.pth.tar" for i in range(3)]


def start_and_wait_for_epochs(command, folder, epochs=2):
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_epochs(folder, lambda: process.poll() is None, epochs)
    assert process.poll() is None, process.communicate()[1].decode()
    return process


def wait_for_epochs(folder, is_alive, epochs=2):
    while is_alive() and not any(
        checkpoints.progress_of(path) >= (epochs, 0) for path in checkpoints.in_folder(folder)
    ):
        time.sleep(0.05)


def test_a_signal_to_torchrun_stops_all_processes_at_the_same_step(pretrain, demo_root, tmp_path):
    folder = tmp_path / "two" / "demo"
    process = start_and_wait_for_epochs(launched(2, folder, demo_root, "--epochs", "100000"), folder)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    assert process.returncode != 0 and b"SIGTERM" in output, errors.decode()
    state = load(newest(folder))
    assert progress_text(state["epoch"], state.get("step", 0)) in (folder / "pretrain.log").read_text()
    pretrain.run("--epochs", state["epoch"] + 1, folder=folder)  # in one process, too
    assert len(figures(folder)) == state["epoch"] + 1


def test_a_killed_worker_ends_the_whole_run(demo_root, tmp_path):
    folder = tmp_path / "two" / "demo"
    process = start_and_wait_for_epochs(launched(2, folder, demo_root, "--epochs", "100000"), folder)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    started = time.monotonic()
    os.kill(int(children[-1]), signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode not in (0, None) and time.monotonic() - started < 60
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_run_is_evaluated_by_two_programs_while_it_trains(demo_root, tmp_path):
    folder = tmp_path / "demo"
    flags = ("--pretrained", folder, "--data-root", demo_root, "--device", "cpu")
    (training,) = start(1, *of(folder, demo_root), "--keep", 1, "--epochs", 100_000)
    wait_for_epochs(folder, training.is_alive)
    (probe,) = start(1, "action_recognition", *flags, "--epochs", 1, "--schedule")
    retrieval, results = call("action_retrieval", *flags), call("tools.results", folder)
    probe.join(300)
    assert (probe.exitcode, retrieval.status, results.status, training.exitcode) == (0, 0, 0, None)
    training.terminate()
    training.join(300)
    assert training.exitcode == 128 + signal.SIGTERM
    lines, saved = figures(folder), checkpoints.in_folder(folder)
    assert [line["epoch"] for line in lines] == list(range(len(lines))) and len(lines) > 2
    assert load(saved[0])["epoch"] == len(lines)
    evaluated = read_results(folder)
    assert {result["task"] for result in evaluated} == {"action_recognition", "action_retrieval"}
    assert all(0 < result["epoch"] <= len(lines) for result in evaluated)


def test_a_folder_that_cannot_be_written_is_reported(pretrain, monkeypatch):
    folder = pretrain.run("--epochs", "1")
    good = (folder / "checkpoint_0000.pth.tar").read_bytes()

    def full(state, file):
        file.write(b"half of it")
        raise RuntimeError("unexpected pos 64 vs 0: no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="checkpoint_0001.pth.tar"):
        pretrain.run("--epochs", "2", "--keep", "1")
    assert (folder / "checkpoint_0000.pth.tar").read_bytes() == good
    assert sorted(p.name for p in folder.glob("checkpoint*")) == ["checkpoint_0000.pth.tar"]


def test_a_run_folder_has_one_writer_at_a_time(pretrain, demo_root):
    folder = pretrain.run("--epochs", "1")
    flags = ("--pretrained", folder, "--data-root", demo_root, "--device", "cpu")
    with locked(folder):
        assert_refused(call(*of(folder, demo_root), "--epochs", 2), folder.name)
        assert call("action_retrieval", *flags).status == 0
    with open(folder / "action_retrieval.log", "a") as log:
        lock(log.fileno(), folder)
        assert_refused(call("action_retrieval", *flags), "action_retrieval.log")
        assert call("action_recognition", *flags, "--epochs", 1, "--schedule").status == 0  # writes other files
    assert len(read_results(folder)) == 2
