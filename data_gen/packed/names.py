"""Names of NTU recordings, made of setup, camera, subject, replication and action."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)


@dataclass(frozen=True, order=True)
class RecordingName:
    """Hold the numbers in `SsssCcccPpppRrrrAaaa`; `action` counts from 1, `label` = action − 1."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int

    @property
    def label(self) -> int:
        return self.action - 1


def parse_name(stem: str) -> RecordingName:
    """Read a recording's name (without `.skeleton`). Raises ValueError for anything else."""
    match = _NAME.fullmatch(stem)
    if not match:
        raise ValueError("the name is not of the form SsssCcccPpppRrrrAaaa.skeleton")
    numbers = [int(g) for g in match.groups()]
    if 0 in numbers:
        raise ValueError("a number in the name is 000; all of them count from 001")
    return RecordingName(*numbers)
