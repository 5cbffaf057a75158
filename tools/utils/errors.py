"""Errors that the user can mend: they end a program with a message and an exit status, without a traceback."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Sequence

from data_gen.packed.info import DataSetError
from data_gen.raw.process import end_quietly, prepared_process
from models.checkpoint_files import CheckpointError

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


class UserError(Exception):
    """A mistake in the arguments, the files or the machine; the message says what to change."""


def check_packages(purpose: str, names: Sequence[str], otherwise: str = "") -> None:
    """Raise UserError if optional packages of these names are not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(f"{purpose} {', '.join(missing)}: pip install -r requirements.txt{otherwise}")


def run(main: Callable[[], None]) -> None:
    """Run a program, and turn errors that the user can mend into a line `error: ...` on stderr, and in the log once
    there is one.

    Exit status: 1 after such an error, or if a file cannot be read or written; 130 after Ctrl-C; 141 if the reader of
    the output is gone; 143 after SIGTERM, once files are tidied up.
    """
    try:
        with prepared_process():
            main()
            sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()
    except (UserError, DataSetError, CheckpointError, OSError) as error:
        _say(f"error: {error}")
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        _say(f"error: memory ran out; take smaller sizes ({str(error).splitlines()[0] if str(error) else 'no memory'})")
        sys.exit(1)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)


def _say(text: str) -> None:
    logger = logging.getLogger("umurl")
    if logger.handlers:
        logger.error(text)
    else:  # no log yet: the arguments have not been accepted
        print(text, file=sys.stderr)
