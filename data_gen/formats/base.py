"""What the formats have in common: what a reader tells of a data set, and how it becomes a packed one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from data_gen.datasets import DataSet
from data_gen.normalise import NUM_PEOPLE, normalise
from data_gen.ntu_gendata import derive_splits
from data_gen.packed import FRAME_SHAPE, NAME, SIDES, DataSetError, PackedWriter, Splits, packing
from data_gen.skeleton_file import FARTHEST, MAX_FRAMES, RecordingName, SkeletonError, parse_name
from data_gen.skeletons import Skeleton, map_joints

_OFF_CENTRE = 1e-3  # metres; normalised data has zeros there
MAX_CLASSES = 999  # as in a packed data set


class Entry(NamedTuple):
    """One recording: its name, its label, the file that states them, and where its joints are, in words."""

    name: str
    label: int
    stated_in: Path
    where: str


@dataclass
class Source:
    """A data set in another format, checked but for the joints.

    `entries` ascend by name, and `people` gives each one's joints in their order: (T, M, V, C) of some float type,
    with at most the people of `shape` (M, V, C). `splits` are the protocols that the format holds, as indices into
    the entries.
    """

    format: str
    place: Path
    skeleton: Skeleton
    shape: tuple[int, int, int]
    entries: list[Entry]
    splits: Splits
    people: Callable[[], Iterator[np.ndarray]]
    named: bool = True  # else the names were made up by the reader
    raw: bool = False  # its recordings are normalised, unless they are so already
    every_frame: bool = True  # where they are normalised, they are centred in every frame, not only in the first
    made: dict[str, str] = field(default_factory=dict)  # what dataset.json says of how it was made
    classes: int | None = None
    class_names: list[str] | None = None
    tables: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What is asked for. `dataset`: the row of the table that the recordings are of; else `name`, a data set of one's
    own. `normalise`: whether to, None to see from the joints."""

    dataset: DataSet | None
    name: str
    normalise: bool | None = None
    labels_from: int | None = None
    classes: int | None = None
    map_to: Skeleton | None = None


def make_entries(rows: list[tuple[str, int, Path, str, Any]]) -> tuple[list[Entry], list[Any]]:
    """Rows (name, label, stated_in, where, anything) as entries that ascend by name, and the last column in their
    order. Raises DataSetError for a name that is none, or stands there twice."""
    rows = sorted(rows, key=lambda row: row[0])
    for row, following in zip(rows, [*rows[1:], None]):
        if not NAME.fullmatch(row[0]):
            raise DataSetError(f"{row[2]}: {shown(row[0])} is no name of 1 to 64 letters, digits, - and _")
        if following and following[0] == row[0]:
            raise DataSetError(f"{following[2]}: {row[0]} stands there, or on the other side, a second time")
    return [Entry(*row[:4]) for row in rows], [row[4] for row in rows]


def shown(name: str) -> str:
    """A name as an error shows it, in ASCII and short."""
    return ascii(name[:80])


def pack(source: Source, out: Path, options: Options) -> dict[str, Any]:
    """Write the source's recordings as the packed data set `out`; returns its info.

    Raises DataSetError for what is not as it should be; an earlier data set in `out` then stays as it was.
    """
    entries = [entry._replace(label=entry.label - (options.labels_from or 0)) for entry in source.entries]
    if options.dataset and source.named:
        splits = source.splits | derive_splits(options.dataset, _check_names(source, options.dataset, entries))
    else:
        splits = source.splits
    classes = _check_labels(source, entries, options)
    with packing(out, _frame_shape(source, options)) as writer:
        normalised = _write(writer, source, entries, options)
        info = {
            "dataset": options.name,
            "title": options.dataset.title if options.dataset else options.name,
            "classes": classes,
            **({"class_names": source.class_names} if source.class_names else {}),
            "skeleton": (options.map_to or source.skeleton).to_json(),
            "made": {source.format: str(source.place), **source.made, **({"normalised": True} if normalised else {})},
        }
        info |= writer.counts(splits)
        writer.finish(splits, info, source.tables)
    return info


def _check_names(source: Source, dataset: DataSet, entries: list[Entry]) -> list[RecordingName]:
    """Names in numbers. Refuses names that are none, labels and sides that do not agree with them."""
    numbers = []
    for entry in entries:
        try:
            number = parse_name(entry.name)
        except SkeletonError as error:
            raise DataSetError(f"{entry.stated_in}: {entry.name}: {error.reason}") from None
        if not dataset.covers(number):
            raise DataSetError(f"{entry.stated_in}: {shown(entry.name)} is no recording of {dataset.title}")
        numbers.append(number)
    for protocol in dataset.protocols:
        for side in SIDES if protocol.name in source.splits else ():
            for i in source.splits[protocol.name][side]:
                belongs = "train" if protocol.trains_on(numbers[i]) else "val"
                if belongs != side:
                    raise DataSetError(
                        f"{entries[i].stated_in}: {shown(entries[i].name)} belongs to {belongs} in "
                        f"{protocol.long_name} ({protocol.name})"
                    )
    shifted = Counter(entry.stated_in for entry, number in zip(entries, numbers) if entry.label == number.action)
    for entry, number in zip(entries, numbers):
        if entry.label != number.label:
            if shifted[entry.stated_in] == sum(other.stated_in == entry.stated_in for other in entries):
                raise _one_based(entry.stated_in)
            raise DataSetError(
                f"{entry.stated_in}: {entry.name} has label {entry.label}, its action − 1 is {number.label}"
            )
    return numbers


def _check_labels(source: Source, entries: list[Entry], options: Options) -> int:
    """The number of classes. Refuses labels outside them, and those that seem to count from 1."""
    least, most = (choose(entry.label for entry in entries) for choose in (min, max))
    known = options.dataset.classes if options.dataset else source.classes
    classes = known or options.classes or most + 1
    if options.classes and options.classes != classes:
        raise DataSetError(f"{source.place}: holds {classes} classes, --classes says {options.classes}")
    if classes > MAX_CLASSES:
        raise DataSetError(f"{source.place}: has labels up to {most}; at most {MAX_CLASSES} classes can be told apart")
    named = options.dataset and source.named
    if least == 1 and options.labels_from is None and not named and (most == classes or not known):
        raise _one_based(next(entry.stated_in for entry in entries if entry.label == most))
    for entry in entries:
        if not 0 <= entry.label < classes:
            raise DataSetError(f"{entry.where} has label {entry.label}, of 0 to {classes - 1}")
    return classes


def _one_based(path: Path) -> DataSetError:
    return DataSetError(
        f"{path}: the labels count from 1, they must count from 0 (action − 1): say --labels-from 1, and 1 is "
        "subtracted (or --labels-from 0, where merely nothing is of class 0)"
    )


def _frame_shape(source: Source, options: Options) -> tuple[int, int, int]:
    """People, joints and coordinates of a frame in the packed data set. Raises DataSetError."""
    people, joints, coordinates = source.shape
    if options.map_to:
        try:
            map_joints(np.zeros((joints, coordinates)), source.skeleton, options.map_to)
        except ValueError as error:
            raise DataSetError(str(error)) from None
        joints = len(options.map_to.joints)
    if options.normalise or (options.normalise is None and source.raw):
        people = min(people, NUM_PEOPLE)
    if not options.dataset:
        return people, joints, coordinates
    if people > FRAME_SHAPE[0] or (joints, coordinates) != FRAME_SHAPE[1:]:
        raise DataSetError(
            f"{source.place}: holds {people} people of {joints} joints and {coordinates} coordinates, recordings of "
            f"{options.dataset.title} {' of '.join(map(str, FRAME_SHAPE[:2]))} and {FRAME_SHAPE[2]}"
        )
    return FRAME_SHAPE


def _write(writer: PackedWriter, source: Source, entries: list[Entry], options: Options) -> bool:
    """Feed the recordings to the writer; returns whether they were normalised."""
    skeleton = options.map_to or source.skeleton
    normalised = options.normalise
    if normalised is None and (skeleton.centre is None or not source.raw):
        normalised = source.raw  # nothing tells, or nothing needs to
    progress = tqdm(entries, desc="import", unit="recording", disable=not sys.stderr.isatty())
    for entry, people in zip(progress, source.people()):
        if not 1 <= len(people) <= MAX_FRAMES:
            raise DataSetError(f"{entry.where} has {len(people)} frames, of 1 to {MAX_FRAMES}")
        if not (np.abs(people) < FARTHEST).all():  # for nan too
            raise DataSetError(f"{entry.where} holds values that are not finite, or beyond {FARTHEST:.0e}")
        if options.map_to:
            people = map_joints(people, source.skeleton, options.map_to)
        if options.normalise is None and skeleton.centre is not None and people.any():
            centred = _is_centred(people, skeleton.centre, source.every_frame)
            if normalised is None:
                normalised = not centred
            if normalised == centred:
                raise _off_centre(entry, source.raw, skeleton, centred)
        if normalised:
            people = normalise(people.astype(np.float64), skeleton, writer.shape[0])
        frames = np.zeros((len(people), *writer.shape), np.float32)
        frames[:, : people.shape[1]] = people
        writer.add(entry.name, entry.label, frames)
    return bool(normalised)


def _is_centred(people: np.ndarray, centre: int, every_frame: bool) -> bool:
    """Whether the centre joint of person 0 is at the origin, in every frame or in the first that shows the person."""
    present = people[people[:, 0].any(axis=(1, 2)), 0, centre]
    return len(present) > 0 and bool(np.abs(present if every_frame else present[0]).max() <= _OFF_CENTRE)


def _off_centre(entry: Entry, raw: bool, skeleton: Skeleton, centred: bool) -> DataSetError:
    if raw:
        found, others = ("centred", "not") if centred else ("not centred", "are")
        problem = f"is {found} on the first person's {skeleton.joints[skeleton.centre or 0]}, those before it {others}"
    else:
        problem = f"is not centred on the first person's {skeleton.joints[skeleton.centre or 0]}"
    return DataSetError(
        f"{entry.where} {problem}: say --normalise for raw recordings, --as-stored to keep them as they are"
    )
