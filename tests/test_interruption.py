"""Runs that are killed, stopped by a signal or find a damaged checkpoint, and go on."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tools.training.pretraining import progress_text
from tools.training.signals import StopSignal
from tools.utils.result_files import read_result

from data_gen.datasets import ROOT
from models import checkpoint_files, loading
from tests.processes import start
from tests.programs import call
from tests.runs import assert_equal_runs, figures, launched, of
from tools.training.trainer import Trainer


def test_an_unreadable_checkpoint_is_named_and_the_one_before_taken(pretrain, tmp_path, capsys):
    whole = pretrain.run("--epochs", "3", folder=tmp_path / "whole" / "demo")
    folder = pretrain.run("--epochs", "2")
    last = folder / "checkpoint_0001.pth.tar"
    last.write_bytes(last.read_bytes()[:-1000])
    pretrain.run("--epochs", "3")
    output = capsys.readouterr()
    assert "checkpoint_0001.pth.tar" in output.err and "going on from" in output.out
    assert_equal_runs(folder, whole, 3)


def test_where_no_checkpoint_can_be_read_nothing_starts_anew_by_itself(pretrain):
    folder = pretrain.run("--epochs", "2")
    log = (folder / "log.jsonl").read_text()
    for path in folder.glob("*.pth.tar"):
        path.write_bytes(b"damaged")
    with pytest.raises(
        checkpoint_files.CheckpointError, match="no checkpoint in .* can be read; --resume none starts anew"
    ):
        pretrain.run("--epochs", "2")
    assert (folder / "log.jsonl").read_text() == log
    assert "checkpoint_0000.pth.tar" in (folder / "pretrain.log").read_text()


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


def test_a_signal_saves_the_step_reached_and_the_run_goes_on_from_there(pretrain, tmp_path, monkeypatch, capsys):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
    whole = pretrain.run("--epochs", "3", folder=tmp_path / "whole" / "demo")
    for at in range(1, 9):  # every one of the nine steps but the last
        folder, steps = tmp_path / f"stopped{at}" / "demo", []
        train_step, number = Trainer.train_step, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[at // 2 % 3]

        def stop_here(self, rows, steps=steps, at=at, number=number, train_step=train_step):
            train_step(self, rows)
            steps.append(self.step)
            if len(steps) == at:
                os.kill(os.getpid(), number)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train_step", stop_here)
            with pytest.raises(SystemExit) as stopped:
                pretrain.run("--epochs", "3", folder=folder)
        assert stopped.value.code == 128 + number and len(steps) == at
        name = checkpoint_files.name_of(at // 3, at % 3)
        assert checkpoint_files.newest(folder).name == name and signal.getsignal(number) is not None
        assert f"stopped by {number.name} after {progress_text(at // 3, at % 3)}; the" in capsys.readouterr().out
        pretrain.run("--epochs", "3", folder=folder)
        assert f"going on from {folder / name}" in capsys.readouterr().out
        assert_equal_runs(folder, whole, 3)
        assert sorted(p.name for p in folder.glob("*.pth.tar")) == [f"checkpoint_{i:04d}.pth.tar" for i in range(3)]


def test_a_signal_that_comes_while_processes_ask_each_other_is_not_lost(monkeypatch):
    stop = StopSignal()

    def reduce_while_a_signal_comes(number, op):
        stop._receive(signal.SIGTERM, None)  # the number was sent before; no other process had received any

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", reduce_while_a_signal_comes)
    assert not stop.agreed(torch.device("cpu"))
    monkeypatch.setattr(dist, "all_reduce", lambda number, op: None)
    assert stop.agreed(torch.device("cpu")) and stop.received == signal.SIGTERM
    other = StopSignal()
    monkeypatch.setattr(dist, "all_reduce", lambda number, op: number.fill_(signal.SIGINT))
    assert other.agreed(torch.device("cpu")) and other.received == signal.SIGINT


def test_a_second_signal_ends_a_single_process_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.agreed(torch.device("cpu"))
            assert stop.received == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def start_and_wait_for_epochs(command, folder, epochs=2):
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_epochs(folder, lambda: process.poll() is None, epochs)
    assert process.poll() is None, process.communicate()[1].decode()
    return process


def wait_for_epochs(folder, is_alive, epochs=2):
    while is_alive() and not any(
        checkpoint_files.progress_of(path) >= (epochs, 0) for path in checkpoint_files.in_folder(folder)
    ):
        time.sleep(0.05)


def test_a_signal_to_torchrun_stops_all_processes_at_the_same_step(pretrain, demo_root, tmp_path):
    folder = tmp_path / "two" / "demo"
    process = start_and_wait_for_epochs(launched(2, folder, demo_root, "--epochs", "100000"), folder)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    assert process.returncode != 0 and b"stopped by SIGTERM after" in output, errors.decode()
    state = loading.load(checkpoint_files.newest(folder))
    assert (
        f"after {progress_text(state['epoch'], state.get('step', 0))}; the same"
        in (folder / "pretrain.log").read_text()
    )
    pretrain.run("--epochs", state["epoch"] + 1, folder=folder)  # in one process, too
    assert f"going on from {folder}" in (folder / "pretrain.log").read_text()
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
    lines, saved = figures(folder), checkpoint_files.in_folder(folder)
    assert [line["epoch"] for line in lines] == list(range(len(lines))) and len(lines) > 2
    assert loading.load(saved[0])["epoch"] == len(lines)
    for task in ("action_recognition", "action_retrieval"):
        assert 0 < read_result(folder / f"{task}.json")["epoch"] <= len(lines)


def test_a_folder_that_cannot_be_written_is_reported(pretrain, monkeypatch):
    folder = pretrain.run("--epochs", "1")
    good = (folder / "checkpoint_0000.pth.tar").read_bytes()

    def full(state, file):
        file.write(b"half of it")
        raise RuntimeError("unexpected pos 64 vs 0: no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="cannot write .*checkpoint_0001.pth.tar.*no space left"):
        pretrain.run("--epochs", "2", "--keep", "1")
    assert (folder / "checkpoint_0000.pth.tar").read_bytes() == good
    assert sorted(p.name for p in folder.glob("checkpoint*")) == ["checkpoint_0000.pth.tar"]
