"""Errors that the user can mend: they end a program with a message and an exit status, without a traceback."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

from data_gen.packed.info import DataSetError
from data_gen.raw.process import end_quietly, prepared_process
from models.checkpoint_files import CheckpointError

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


class UserError(Exception):
    """Something is wrong with the arguments, the files or the machine; the message says what to change."""


def run(main: Callable[[], None]) -> None:
    """Run a program. An error that the user can mend, or a file that cannot be read or written, ends it with status 1
    and `error: ...` on stderr, and in the log once there is one; Ctrl-C ends it with status 130, a reader of its output
    that is gone with 141, and SIGTERM, once files are tidied up, with 143."""
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
