"""The one error for whatever the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in the arguments, a file or the machine. The message is one line that says what to do.

    `line` is the number of the wrong line of a text, from 1; `reason` the message without it.
    """

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line
