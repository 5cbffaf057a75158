"""Errors that the user can mend: they end a program with a message and an exit status, without a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from data_gen.packed.reader import DataSetError
from models.loading import CheckpointError


class UserError(Exception):
    """Something is wrong with the arguments, the files or the machine; the message says what to change."""


def run(main: Callable[[], None]) -> None:
    """Run a program. An error that the user can mend, or a file that cannot be read or written, ends it with status 1
    and `error: ...` on stderr, and in the log once there is one; Ctrl-C ends it with status 130."""
    try:
        main()
    except (UserError, DataSetError, CheckpointError, OSError) as error:
        _say(f"error: {error}")
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
