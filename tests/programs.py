"""Run the programs inside a test, as the command line would."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import signal
from collections.abc import Callable
from typing import NamedTuple

from utils.processes import run


class Ended(NamedTuple):
    """Exit status, stdout and stderr of a program."""

    status: int
    out: str
    err: str


def call(module: str, *args: object) -> Ended:
    """Run a program, `pretrain` or `tools.predict`, to its end. What it does not catch itself is raised."""
    package = importlib.import_module(module)
    main = (importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package).main
    argv = [str(arg) for arg in args]
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run(lambda: main(argv))
            status = 0
    except SystemExit as end:
        status = end.code or 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logger = logging.getLogger("umurl")
        for handler in logger.handlers[:]:
            with contextlib.suppress(OSError):  # as where Python ends
                handler.close()
            logger.removeHandler(handler)
        logger.propagate = True  # pytest adds a handler of its own to loggers that do not propagate
    return Ended(status, out.getvalue(), err.getvalue())


def status_of(main: Callable[[list[str]], None], argv: list[str]) -> int:
    """Run a program's main function as its file does; return the exit status."""
    try:
        run(lambda: main(argv))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def assert_refused(ended: Ended, message: str = "") -> None:
    """The program ended with a line that says what is wrong."""
    assert ended.status in (1, 2) and "error: " in ended.err and "Traceback" not in ended.err, ended
    assert message in ended.err and (ended.status == 1 or "error: " in ended.err.splitlines()[-1]), ended
