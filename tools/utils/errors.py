"""Errors that are the user's to mend: a message and an exit status, no traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from data_gen.packed.reader import DataSetError
from models.loading import CheckpointError


class UserError(Exception):
    """Something in the arguments, the files or the machine that the message tells how to change."""


def run(main: Callable[[], None]) -> None:
    """Run a program; user errors, and files that cannot be read or written, end it with `error: ...` on stderr and in
    its log, and status 1."""
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
    else:  # the options were wrong, there is no log yet
        print(text, file=sys.stderr)
