"""What surrounds a program's work: printing, signals and, for the programs of data_gen/, the exit status."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


def exit_status(reports: Iterable[str]) -> int:
    """Print each report when it is ready, or an error in one line. Return the command's exit status."""
    try:
        with prepared_process():
            for text in reports:
                print(text)
            sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()
    except BrokenProcessPool:
        print("error: a worker was killed, perhaps for lack of memory; nothing half-written is left", file=sys.stderr)
        return 1
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    return 0


@contextmanager
def prepared_process() -> Iterator[None]:
    """Make every text printable in any locale, to nowhere if the output is closed. Within `with`, SIGTERM, like Ctrl-C,
    ends a single process like an error, with its cleanup; afterwards both end it at once, as nothing is left to tidy up
    while Python ends."""
    if None in (sys.stdin, sys.stdout, sys.stderr):  # or a file would take their numbers, and what libraries print
        while os.open(os.devnull, os.O_RDWR) < 2:
            pass
        sys.stdout, sys.stderr = sys.stdout or open(1, "w"), sys.stderr or open(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "RANK" not in os.environ:  # torchrun's processes may wait in a collective, where no handler runs
        signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that is left of _end
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt or SystemExit: after an import, through which PyTorch's C++ would abort, and after the
    start of a worker, which would print a traceback."""
    while frame:
        if re.search("^<frozen importlib|popen_spawn_posix.py$", frame.f_code.co_filename):
            # Sent again, so that it finds the handler of that time. A thread's timer could wait for a lock held here.
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return
        frame = frame.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def end_quietly() -> NoReturn:
    """End the program without a message, as nobody reads its output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail when it flushes
    sys.exit(128 + signal.SIGPIPE)
