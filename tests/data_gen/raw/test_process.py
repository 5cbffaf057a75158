"""Signals around a program's work."""

import os
import signal
import sys
import time

import pytest

from data_gen.raw.process import exit_status, prepared_process


@pytest.fixture(autouse=True)
def usual_handlers():
    """As Python starts: a shell's background jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_signals_end_a_program_with_its_cleanup_and_afterwards_at_once(capsys):
    def interrupted():
        yield "started"
        os.kill(os.getpid(), signal.SIGINT)

    assert exit_status(interrupted()) == 130
    assert capsys.readouterr() == ("started\n", "interrupted; nothing half-written is left\n")
    with pytest.raises(SystemExit) as ended, prepared_process():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_ignores_ctrl_c_goes_on_to_ignore_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with prepared_process():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_signal_during_an_import_comes_after_it(tmp_path, monkeypatch):
    lines = "import os, signal", "os.kill(os.getpid(), signal.SIGINT)", "DONE = True"
    (tmp_path / "imported_slowly.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    received = []
    with prepared_process():
        import imported_slowly

        assert imported_slowly.DONE
        signal.signal(signal.SIGINT, lambda *_: received.append(1))  # as training does, which saves its state
        while not received:  # for ever, if it got lost
            time.sleep(0.01)
    del sys.modules["imported_slowly"]
