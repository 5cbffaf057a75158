"""Read PKU-MMD's files: splits, and videos, cut into the clips of their label files (docs/method.md, 1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_gen.packed.segments import Segment, find_fault
from data_gen.raw.normalise import normalise
from data_gen.raw.recordings import Recording, attempt
from data_gen.raw.skeleton_file import FARTHEST, NUM_JOINTS, quote, read_rows, split_lines
from data_gen.skeletons import NUM_PEOPLE
from utils.errors import UserError
from utils.files import reading

Result = TypeVar("Result")
SUFFIX = ".txt"
FRAME_VALUES = NUM_PEOPLE * NUM_JOINTS * 3
_LABEL = re.compile(rb"\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*[^,\s][^,]*")
_SPLITS = {2: "train", 4: "val"}  # by line of a split file


# ---- splits ----------------------------------------------------------------------------------------------------------


@dataclass
class SplitFile:
    """A split file: each video's `split`, `train` or `val` or, if it is in both, empty; what is wrong (`bad`), by
    place."""

    path: Path
    split: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)


def find_split(raw: Path, stem: str) -> Path:
    """Find the split file `stem`.txt (underscores may be hyphens): in `raw`, beside it, or in `split` of either. In
    part II's own folder the name may lack `_v2`; beside that folder, such a file is part I's."""
    beside = raw.absolute().parent
    own, shared = ([base, base / "split", base / "Split"] for base in (raw, beside))
    for name, folders in ((stem, own + shared), (stem.removesuffix("_v2"), own)):
        for folder in folders:
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name.replace("-", "_") == name + SUFFIX:
                    return path
    raise UserError(f"no split file {stem}{SUFFIX} in {', '.join(map(str, own[:2] + shared[:2]))}")


def read_split(path: Path, video: str) -> SplitFile:
    """Read a split file, which lists training videos on line 2 and test videos on line 4. Names that the regular
    expression `video` does not match, and videos in both splits, are reported in `bad`."""
    file = SplitFile(path)
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
        _check_layout(lines, video)
    for number, split in _SPLITS.items():
        for name in filter(None, map(str.strip, lines[number - 1].split(","))):
            place = f"{path}: line {number}: {quote(name.encode())}"
            if not re.fullmatch(video, name, re.ASCII):
                file.bad[place] = "not the name of a video of this part"
            elif file.split.setdefault(name, split) != split:
                file.bad[place] = "on line 2 too, but a video belongs to one split"
                file.split[name] = ""
    return file


def _check_layout(lines: list[str], video: str) -> None:
    for number, line in enumerate(lines, 1):
        if (number in _SPLITS) != bool(re.search(video, line, re.ASCII)):
            raise UserError("videos of this part should stand on lines 2 and 4, and on no others", number)
    if len(lines) < max(_SPLITS):
        raise UserError("the file ends; videos should stand on lines 2 and 4", len(lines))


# ---- videos ----------------------------------------------------------------------------------------------------------


@dataclass
class Video:
    """What a video holds: segments in the order of its label file, and their clips (name, label from 0, people float32
    (T, 2, 25, 3)) or the people as recorded; by file or line, the reasons why something was left out (`bad`) or
    changed."""

    name: str
    clips: list[tuple[str, int, np.ndarray]] = field(default_factory=list)
    people: np.ndarray | None = None
    segments: list[Segment] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    repaired: dict[str, str] = field(default_factory=dict)


def read_video(name: str, raw: Path, classes: int, untrimmed: bool) -> Video:
    """Read a video once, and cut it into normalised clips, named `0002-L_003_A012`: video, label line, class. Or keep
    it whole; a segment that overlaps that of an earlier line is then left out as bad."""
    video = Video(name)
    skeleton, label = (Recording(name, str(raw / kind / f"{name}{SUFFIX}")) for kind in ("skeleton", "label"))
    frames, lines = _attempt(skeleton, parse_video, video.bad), _attempt(label, split_lines, video.bad)
    if frames is None or lines is None:
        return video
    if untrimmed:
        video.people = frames.astype(np.float32)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{label}: line {number}"
        try:
            action, start, end, repairs = parse_label(line, classes, len(frames))
            segments = [*video.segments, Segment(start, end, action - 1)]
            if untrimmed and (fault := find_fault(segments, len(frames), classes)):
                raise UserError(fault[1])
        except UserError as error:
            video.bad[place] = error.reason
            continue
        video.segments = segments
        if not untrimmed:
            people = frames[start:end]
            present = np.flatnonzero(people.any(axis=(0, 2, 3)))
            clip = normalise(people[:, : present.max(initial=-1) + 1])  # as in NTU, without the last who are absent
            video.clips.append((f"{name}_{number:03}_A{action:03}", action - 1, clip))
        if repairs:
            video.repaired[place] = "; ".join(repairs)
    return video


def _attempt(file: Recording, parse: Callable[[bytes], Result], bad: dict[str, str]) -> Result | None:
    """Parse one of a video's files; if that fails, add the reason to `bad`."""
    result = attempt(file, lambda: parse(file.read()))
    if not isinstance(result, UserError):
        return result
    bad[str(file)] = str(result)
    return None


def parse_video(text: bytes) -> np.ndarray:
    """Read a video's people, a frame per line: float64 (T, 2, 25, 3) in metres, zeros where nobody is."""
    lines = split_lines(text)
    result = read_rows(lines, range(len(lines)), FRAME_VALUES, "a frame")
    near = (np.abs(result) < FARTHEST).all(axis=1)  # False for nan too
    if not near.all():
        raise UserError("x, y or z is not a finite number of metres", int(near.argmin()) + 1)
    return result.reshape(-1, NUM_PEOPLE, NUM_JOINTS, 3)


# ---- labels ----------------------------------------------------------------------------------------------------------


def parse_label(line: bytes, classes: int, num_frame: int) -> tuple[int, int, int, list[str]]:
    """Parse a line `class,start,end,confidence` to class from 1, start, end and repairs: frames [start, end). Reversed
    ends are swapped; an end beyond the video's `num_frame` frames is moved there."""
    match = _LABEL.fullmatch(line)
    if not match:
        raise UserError(f"not class,start,end,confidence: {quote(line)}")
    action, start, end = map(int, match.groups())
    repairs = []
    if not 1 <= action <= classes:
        raise UserError(f"class {action} lies outside 1..{classes}")
    if start > end:
        repairs.append(f"the ends {start}, {end} are reversed: swapped")
        start, end = end, start
    if start < 0:
        raise UserError(f"the clip starts before the video, at {start}")
    if start == end:
        raise UserError(f"the clip is empty, {start} to {end}")
    if start >= num_frame:
        raise UserError(f"the clip starts at {start}, behind the video's {num_frame} frames")
    if end > num_frame:
        repairs.append(f"the end {end} lies beyond the video's {num_frame} frames: moved there")
        end = num_frame
    return action, start, end, repairs
