"""Convert raw recordings to packed data sets. Nothing in this package imports torch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType


def _tell_of_ctrl_c(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# A program of this project imports this first. Until it catches errors itself, Ctrl-C ends it in one line, too.
if Path(sys.argv[0]).resolve().is_relative_to(Path(__file__).resolve().parents[1]):
    sys.excepthook = _tell_of_ctrl_c
