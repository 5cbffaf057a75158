"""Read and check a packed data set's dataset.json."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from data_gen.skeletons import KINECT_V2, Skeleton

INFO = "dataset.json"
FORMAT_VERSION = 1
SIDES = ("train", "val")
ALL = "all"  # the protocol of every data set that trains on all recordings
TABLES = ("subject", "camera")
UNLABELLED = "unlabelled"  # the only class of recordings without labels
MAX_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")  # of a recording, protocol or data set; no path
REMEDY = "convert the recordings again"
MAX_CLASSES = 999  # a recording's name has three digits for its class
_MAX_SEGMENTS = 10**6
_MAX_INFO = 64 * 2**20  # bytes


class DataSetError(ValueError):
    """Say why a folder is not a usable packed data set, or cannot become one."""


def is_one_line(text: str) -> bool:
    """Tell whether a text, in any script, has neither control characters nor line breaks."""
    return not any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text)


def is_plain(value: object, depth: int = 8) -> bool:
    """Tell whether a value is made of texts, numbers, lists and tables with texts as keys, as JSON has them."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(k, str) and is_plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list | tuple):
        return depth > 0 and all(is_plain(v, depth - 1) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def is_frame_rate(value: object) -> bool:
    """Tell whether a value can be a number of frames per second."""
    return type(value) in (int, float) and 0.01 <= value <= 10**6  # type: ignore[operator]


def parse_json(text: str) -> Any:
    """Parse JSON. Raises ValueError or RecursionError if it is invalid, or has halves of characters, as "\\ud800"."""
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def check_file(path: Path, most: int | None = None, remedy: str = "") -> None:
    """Raise DataSetError, ending with `remedy`, if `path` is not a regular file (reading a pipe would block) or has
    more than `most` bytes."""
    reason = ""
    if not path.is_file():
        reason = "not a regular file" if path.exists() else "no such file"
    elif most is not None and path.stat().st_size > most:
        reason = f"larger than {most // 2**20} MiB"
    if reason:
        raise DataSetError(f"{path}: cannot be read ({reason}){remedy}")


def read_text(path: Path, most: int, first_line: bool = False) -> str:
    """Read UTF-8 text, or its first line, from a file of at most `most` bytes. Raises DataSetError."""
    check_file(path, most)
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.readline() if first_line else file.read()
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path}: cannot be read ({error})") from None


def read_info(path: Path) -> dict:
    """Read a dataset.json and check its format and entries. Raises DataSetError."""
    try:
        check_file(path, _MAX_INFO, f"; {REMEDY}")
        info = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(info, dict) or "format" not in info:
            raise ValueError("it states no format")
        if type(info["format"]) is not int or info["format"] != FORMAT_VERSION:
            raise DataSetError(
                f"{path}: format {ascii(info['format']):.40}, this code reads {FORMAT_VERSION}; {REMEDY}"
            )
        _check_entries(info)
    except DataSetError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataSetError(f"{path}: cannot be read ({error}); {REMEDY}") from error
    return info


def _check_entries(info: dict) -> None:
    if not isinstance(info.get("dataset"), str) or not NAME.fullmatch(info["dataset"]):
        raise ValueError("it names no data set")
    if not isinstance(info.get("title", ""), str) or not is_one_line(info.get("title", "")):
        raise ValueError("title is not a text without control characters")
    if type(info.get("classes")) is not int or not 1 <= info["classes"] <= MAX_CLASSES:
        raise ValueError(f"classes is not a whole number from 1 to {MAX_CLASSES}")
    if not isinstance(info.get("protocols"), dict) or not all(map(NAME.fullmatch, info["protocols"])):
        raise ValueError("protocols does not map names of protocols")
    skeleton_of(info)
    names = info.get("class_names")
    if names is not None and not (
        isinstance(names, list)
        and len(names) == info["classes"]
        and all(isinstance(name, str) and is_one_line(name) for name in names)
    ):
        raise ValueError(f"class_names is not a list of {info['classes']} texts without control characters")
    if "segments" in info and (type(info["segments"]) is not int or not 0 <= info["segments"] <= _MAX_SEGMENTS):
        raise ValueError(f"segments is not a whole number up to {_MAX_SEGMENTS}")
    if not is_frame_rate(info.get("frame_rate", 30)):
        raise ValueError("frame_rate is not a number from 0.01 to a million")
    empty = info.get("without_a_body", [])
    if not isinstance(empty, list) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in empty):
        raise ValueError("without_a_body does not list names of recordings")
    tables = info.get("tables", [])
    if not isinstance(tables, list) or not all(table in TABLES for table in tables):
        raise ValueError(f"tables does not list some of {', '.join(TABLES)}")


def skeleton_of(info: dict) -> Skeleton:
    """Read the skeleton in dataset.json; older data sets have none, which means Kinect v2. Raises ValueError."""
    if "skeleton" not in info:
        return KINECT_V2
    try:
        return Skeleton.from_json(info["skeleton"])
    except ValueError as error:
        raise ValueError(f"its skeleton: {error}") from error
