"""Pickles of other projects, read without running anything of theirs (`pickle_machine.py`)."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_gen.formats.pickle_machine import File, Machine
from data_gen.formats.pickle_stand_ins import Array, Refused, quote
from data_gen.packed.reader import DataSetError

T = TypeVar("T")
# The labels of NTU-120 take up to 68 MB (arrays in protocol 0) and 2.3 million operations (a list of numpy's numbers).
# An operation takes some hundred bytes of memory at most.
MAX_BYTES = 128 * 2**20
MAX_OPERATIONS = 6_000_000
# Its annotations, some 3 GB, 100 operations each; long text and bytes stay in the file.
MAX_ANNOTATION_BYTES = 16 * 2**30
MAX_ANNOTATION_OPERATIONS = 30_000_000


def load_labels(path: Path) -> tuple[list[str], list[int]]:
    """The pickle `(names, labels)` at `path`: lists, tuples or arrays (N,) of text and whole numbers.

    Runs nothing that the file names. Raises DataSetError for anything else.
    """

    def check(pair: Any) -> tuple[list[str], list[int]]:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Refused("not a pair (names, labels)")
        names, labels = (_items(part, "the names or labels are no list") for part in pair)
        if len(names) != len(labels):
            raise Refused(f"{len(names)} names and {len(labels)} labels")
        for i, (name, label) in enumerate(zip(names, labels)):
            if type(name) is not str:
                raise Refused(f"name {i} is no text")
            check_label(label, f"label {i}")
        return list(names), list(labels)

    return _load(path, check, MAX_BYTES, lambda file: Machine(file, MAX_OPERATIONS, "labels"))


def load_annotations(path: Path) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """The pickle `{"split": {name: names}, "annotations": [table, ...]}` at `path`; arrays in it are `Array`s, which
    are read from the file when they are asked for.

    Runs nothing that the file names. Raises DataSetError for anything else.
    """

    def check(found: Any) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
        if type(found) is not dict or not {"split", "annotations"} <= found.keys():
            raise Refused("not a table with split and annotations")
        if type(found["split"]) is not dict:
            raise Refused("split is no table")
        splits = {}
        for side, names in found["split"].items():
            splits[side] = list(_items(names, f"split {quote(side)} is no list"))
            if not all(type(name) is str for name in splits[side]):
                raise Refused(f"split {quote(side)} holds what is no text")
        annotations = _items(found["annotations"], "annotations is no list")
        for i, annotation in enumerate(annotations):
            if type(annotation) is not dict:
                raise Refused(f"annotation {i} is no table")
        return splits, list(annotations)

    return _load(
        path,
        check,
        MAX_ANNOTATION_BYTES,
        lambda file: Machine(file, MAX_ANNOTATION_OPERATIONS, "annotations", tables=True),
    )


def describe_array(value: Any) -> tuple[tuple[int, ...], str]:
    """The shape of an array that an annotation holds, and numpy's letter for its items. Raises ValueError."""
    return _of_array(value, lambda array: (array.checked_shape(), array.kind()))


def read_array(value: Any) -> np.ndarray:
    """An array that an annotation holds. Raises ValueError."""
    return _of_array(value, lambda array: array.numpy())


def _of_array(value: Any, make: Callable[[Array], T]) -> T:
    if type(value) is not Array:
        raise ValueError("is no array")
    try:
        return make(value)
    except Exception as error:  # see below
        raise ValueError(f"is no sound array ({_reason(error)})") from None


def check_label(label: Any, what: str) -> int:
    """A label as it is. Raises Refused where it is no whole number."""
    if type(label) is not int or abs(label) >= 2**31:
        raise Refused(f"{what} is no whole number, or a huge one")
    return label


def _load(path: Path, check: Callable[[Any], T], most: int, machine: Callable[[File], Machine]) -> T:
    try:
        return check(machine(_open(path, most)).run())
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror})") from None
    except Refused as refused:
        raise DataSetError(f"{path}: refused: {refused}") from None
    except Exception as error:  # a damaged pickle makes the machine raise nearly all there are
        raise DataSetError(f"{path}: not a sound pickle ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(error) if type(error) is Refused else f"{type(error).__name__}: {quote(str(error))}"


def _open(path: Path, most: int) -> File:
    if not path.is_file():  # a pipe would be waited for
        raise Refused("no such file" if not path.exists() else "not a regular file")
    if path.stat().st_size > most:
        raise Refused(f"larger than {most // 2**20} MiB")
    with open(path, "rb") as file:
        return File(file.fileno(), 0, access=mmap.ACCESS_READ)


def _items(part: Any, otherwise: str) -> list | tuple:
    if type(part) is Array:
        return part.tolist()
    if type(part) not in (list, tuple):
        raise Refused(otherwise)
    return part
