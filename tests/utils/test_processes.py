import logging
import operator
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist

from data_gen.datasets import ROOT
from tests.helpers import is_running
from tests.processes import together
from utils import processes
from utils.errors import UserError
from utils.processes import Processes, StopSignal, check_equal, choose_device, map_in_workers, run, single_process

ALONE = Processes(0, 1, torch.device("cpu"))
TWO = Processes(0, 2, torch.device("cpu"))


def fail(error):
    raise error


# ---- a program -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, status, message",
    [
        (UserError("a.csv: no such file"), 1, "error: a.csv: no such file"),
        (OSError("cannot write a.csv: the disk is full"), 1, "error: cannot write a.csv: the disk is full"),
        (MemoryError(), 1, "error: memory ran out"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "error: memory ran out"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_that_the_user_can_mend_ends_a_program_in_one_line(capsys, caplog, error, status, message):
    with pytest.raises(SystemExit) as ended:
        run(lambda: fail(error))
    out, err = capsys.readouterr()
    assert ended.value.code == status and out == "" and err.startswith(message) and err.count("\n") == 1
    logging.getLogger("umurl").addHandler(logging.NullHandler())  # from now on there is a log
    with pytest.raises(SystemExit):
        run(lambda: fail(error))
    assert message in caplog.text and capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run(lambda: fail(error))


def start(folder, code):
    """Start a program of these lines, and return it when it has printed a line."""
    path = folder / "program.py"
    path.write_text("import os, signal, time\nfrom utils.processes import map_in_workers, run\n" + code)
    process = subprocess.Popen(
        [sys.executable, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    process.line = process.stdout.readline().strip()
    return process


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_program_with_its_cleanup(tmp_path, number, status):
    lines = ("def main():", "    try:", "        print('ready', flush=True)", "        time.sleep(60)")
    process = start(tmp_path, "\n".join([*lines, "    finally:", "        print('tidied')", "run(main)"]))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "tidied\n") and "Traceback" not in err


def test_a_signal_is_noted_and_a_second_one_ends_a_single_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with StopSignal() as stop:
        assert not stop.agreed(ALONE)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.agreed(ALONE) and stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_comes_while_processes_ask_each_other_is_not_lost(monkeypatch):
    stop = StopSignal()

    def reduce_while_a_signal_comes(number, op):
        stop._receive(signal.SIGTERM, None)  # the number was sent before; no other process had received any

    monkeypatch.setattr(dist, "all_reduce", reduce_while_a_signal_comes)
    assert not stop.agreed(TWO)
    monkeypatch.setattr(dist, "all_reduce", lambda number, op: None)
    assert stop.agreed(TWO) and stop.received == signal.SIGTERM


# ---- workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [3, 50])
def test_workers_return_results_in_order(chunk):
    assert list(map_in_workers(operator.neg, list(range(50)), workers=2, chunk=chunk)) == [-i for i in range(50)]


WORKERS = """
def work(item):
    print(os.getpid(), flush=True)
    {}
if __name__ == "__main__":
    run(lambda: list(map_in_workers(work, list(range(8)), 2, 1)))
"""


def test_ctrl_c_while_workers_work_is_told_once(tmp_path):
    process = start(tmp_path, WORKERS.format("time.sleep(0.3)"))
    while process.stdout.readline().strip() == process.line:  # until both workers work
        pass
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and re.fullmatch("interrupted;.*\n", err)


def test_a_killed_worker_ends_the_program_in_one_line(tmp_path):
    process = start(tmp_path, WORKERS.format("os.kill(os.getpid(), signal.SIGKILL)"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and re.fullmatch("error: a worker was killed.*\n", err)


def test_workers_end_with_the_program(tmp_path):
    process = start(tmp_path, WORKERS.format("time.sleep(600)"))
    process.kill()
    until = time.monotonic() + 30
    while is_running(int(process.line)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(int(process.line))


# ---- the processes of a training -------------------------------------------------------------------------------------


def test_one_process_needs_no_group():
    with processes.processes("cpu") as procs:
        assert procs == ALONE and procs.is_main and not dist.is_initialized()
    check_equal("anything", "the epoch", procs)
    assert processes.all_reduce_sum(torch.tensor([1.0]), procs).tolist() == [1]


def in_a_group():
    with processes.processes("cpu") as procs:
        total = processes.all_reduce_sum(torch.tensor([procs.rank + 1.0]), procs).item()
        check_equal("same", "the epoch", procs)
        processes.barrier(procs)
        try:
            check_equal(procs.rank, "the epoch", procs)
        except UserError as error:
            return procs.rank, procs.is_main, total, str(error)


def test_processes_add_and_compare_values():
    first, second = sorted(together(2, in_a_group))
    assert first[:3] == (0, True, 3) and second[:3] == (1, False, 3)
    assert first[3] == second[3] and "the epoch: [0, 1]" in first[3]


def test_evaluation_takes_one_process(monkeypatch):
    assert single_process("cpu", "x.py") == torch.device("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="x.py"):
        single_process("cpu", "x.py")


def test_the_device_is_the_one_of_the_local_rank(monkeypatch):
    def have_gpus(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    have_gpus(0)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="--device cuda"):
        choose_device("cuda")
    have_gpus(4)
    assert choose_device("auto", 3) == choose_device("cuda", 3) == torch.device("cuda", 3)
    assert choose_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(UserError, match="process 4"):
        choose_device("auto", 4)
