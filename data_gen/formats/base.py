"""Write a data set in another format (`Source`) as a packed data set, following the user's `Options`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_gen.datasets import NTU, DataSet, RecordingName, parse_name
from data_gen.packed.protocols import Rule, Table, derive, derive_splits, split_by_table
from data_gen.packed.reader import MAX_CLASSES, NAME, TABLES
from data_gen.packed.segments import Segment, find_fault
from data_gen.packed.writer import Splits, packing
from data_gen.raw.normalise import check_values, is_centred, normalise, other_unit
from data_gen.raw.recording_files import fill_gaps
from data_gen.skeletons import NUM_PEOPLE, FrameLayout, Skeleton, map_joints
from utils.errors import UserError
from utils.files import reading
from utils.logs import progress
from utils.text import counted


class Entry(NamedTuple):
    """One recording of a source."""

    name: str
    label: int
    table: Path  # the file with the name and the label
    where: str  # the file with the joints and, if it holds several recordings, which of them
    content: Any = None  # what the format's reader needs
    split: str = ""  # train or val, if the format holds one protocol
    segments: Sequence[Segment] | None = None  # of a long recording


@dataclass
class Source:
    """A data set in another format; everything but the joints is checked.

    `entries` are sorted by name. `read` is called once per entry, in this order (raw formats: twice for the first
    ones), and returns joints (T, M, V, C), floats, with at most the M of `shape` (M, V, C). `splits` holds the format's
    own protocols as indices of entries.
    """

    format: str
    place: Path
    skeleton: Skeleton
    shape: tuple[int, int, int]
    entries: list[Entry]
    splits: Splits
    read: Callable[[Entry], np.ndarray]
    named: bool = True  # False: the reader made the names up
    raw: bool = False  # True: normalise the recordings unless they are normalised already
    every_frame: bool = True  # normalised recordings are centred in every frame; False: only in the first
    made: dict[str, str] = field(default_factory=dict)  # how it was made, for dataset.json
    classes: int | None = None
    class_names: list[str] | None = None
    tables: dict[str, list[str]] = field(default_factory=dict)
    unlisted: int = 0  # recordings in the folder that the table does not list


@dataclass(frozen=True)
class Options:
    """`dataset`: the published data set, or None for the user's own, called `name`. `normalise`: None decides from the
    joints. `repair`: the longest gap to fill, in frames."""

    dataset: DataSet | None
    name: str
    normalise: bool | None = None
    labels_from: int | None = None
    classes: int | None = None
    map_to: Skeleton | None = None
    rules: tuple[Rule, ...] = ()
    repair: int | None = None


def in_order(entries: list[Entry]) -> list[Entry]:
    """Sort recordings by name, and check the names."""
    entries = sorted(entries, key=lambda entry: entry.name)
    for entry, last in zip(entries, [None, *entries]):
        if not NAME.fullmatch(entry.name):
            raise UserError(f"{entry.table}: {entry.name!r} is not a name of 1 to 64 letters, digits, - and _")
        if last and entry.name == last.name:
            raise UserError(f"{entry.where}: {entry.name} occurs twice, or in train and in val")
    return entries


def numbered_names(split: str, count: int) -> list[str]:
    """Make names up for recordings that have none."""
    return [f"{split}_{row:06d}" for row in range(count)]


def pack(source: Source, out: Path, options: Options) -> dict[str, Any]:
    """Write the source's recordings as the packed data set `out`. Return its info.

    If the source is invalid, an earlier data set in `out` stays unchanged.
    """
    first_label = options.labels_from or 0
    source = replace(source, entries=[entry._replace(label=entry.label - first_label) for entry in source.entries])
    names_tell = options.dataset in NTU and source.named  # NTU's names contain label and split
    splits, rules = _splits(source, options, names_tell)
    classes = _count_classes(source, options, names_tell)
    skeleton = options.map_to or source.skeleton
    normalised = _must_normalise(source, options, skeleton)
    repaired: dict[str, str] = {}
    too_large: dict[str, list[str]] = {}
    with packing(out, _packed_shape(source, options, skeleton, normalised)) as writer:
        for entry in progress(source.entries, desc="import", unit="recording"):
            with reading(entry.where):
                people = source.read(entry)
                if options.repair:
                    people, repairs = _repair(people, options.repair)
                    repaired |= {entry.name: repairs} if repairs else {}
                if unit := other_unit(check_values(people)):
                    too_large.setdefault(unit, []).append(entry.name)
                frames = _prepare(people, source, options, skeleton, normalised, writer.shape)
            if entry.segments is None:
                writer.add(entry.name, entry.label, frames)
                continue
            if fault := find_fault(entry.segments, len(frames), classes):
                raise UserError(f"{entry.table}: {entry.name}: {fault[1]}")
            writer.add_long(entry.name, frames, entry.segments)
        info = {
            "dataset": options.name,
            "title": options.dataset.title if options.dataset else options.name,
            "classes": classes,
            "skeleton": skeleton.to_json(),
            "made": {source.format: str(source.place), **source.made, **({"normalised": True} if normalised else {})},
        }
        optional = {
            "class_names": source.class_names,
            "unlisted": source.unlisted,
            "repaired": repaired,
            "too_large": too_large,
        }
        info |= {key: value for key, value in optional.items() if value}
        return writer.finish(splits, info, source.tables, rules)


def _splits(source: Source, options: Options, names_tell: bool) -> tuple[Splits, dict[str, str]]:
    """Return all protocols (from the source, from the names and from --split rules), and the rule of each protocol
    that a rule made."""
    table = Table.of_names([entry.name for entry in source.entries], *map(source.tables.get, TABLES))
    splits, protocols = dict(source.splits), options.dataset.protocols if options.dataset else ()
    if options.dataset and names_tell:
        derived = derive_splits(options.dataset, _check_names(source, options.dataset))
        splits = derived | {name: own for name, own in splits.items() if name not in derived}
    elif options.dataset:
        splits = split_by_table(options.dataset, table) | splits
    added, rules = derive(options.rules, table)
    taken = splits.keys() | {name for protocol in protocols for name in (protocol.name, protocol.long_name)}
    if again := sorted(added.keys() & taken):
        raise UserError(f"{source.place}: there is a protocol {again[0]} already; choose another name for --split")
    return splits | added, rules


def _check_names(source: Source, dataset: DataSet) -> list[RecordingName]:
    """Parse NTU names, and check that they fit the labels and the splits."""
    entries, numbers = source.entries, []
    for entry in entries:
        with reading(f"{entry.table}: {entry.name}"):
            numbers.append(parse_name(entry.name))
        if not dataset.covers(numbers[-1]):
            raise UserError(f"{entry.table}: {entry.name} is not a recording of {dataset.title}")
    for protocol in dataset.protocols:
        for split, indices in source.splits.get(protocol.name, {}).items():
            for i in indices:
                if protocol.trains_on(numbers[i]) != (split == "train"):
                    right = "val" if split == "train" else "train"
                    raise UserError(f"{entries[i].table}: {entries[i].name} belongs to {right} in {protocol.title}")
    for entry, number in zip(entries, numbers):
        if entry.label != number.label:
            if all(e.label == n.action for e, n in zip(entries, numbers) if e.table == entry.table):
                raise _one_based(entry.table)
            raise UserError(f"{entry.table}: {entry.name} has label {entry.label}, its action − 1 is {number.label}")
    return numbers


def _count_classes(source: Source, options: Options, names_tell: bool) -> int:
    """Return the number of classes. Refuse labels that are out of range, or seem to count from 1."""
    if source.classes and source.entries[0].segments is not None:
        return source.classes
    row = options.dataset
    wanted = row.classes if row else options.classes
    if source.classes and wanted and source.classes != wanted:
        raise UserError(f"{source.place}: holds {source.classes} classes, {row.title if row else '--classes'} {wanted}")
    labels = [entry.label for entry in source.entries]
    classes = source.classes or wanted or max(labels) + 1
    if options.labels_from is None and not names_tell and min(labels) == 1:
        if max(labels) == classes or not (source.classes or row):  # else class 0 may be empty
            raise _one_based(source.entries[0].table)
    for entry in source.entries:
        if not 0 <= entry.label < min(classes, MAX_CLASSES):
            reason = f"has label {entry.label}, outside 0 to {min(classes, MAX_CLASSES) - 1}"
            raise UserError(f"{entry.table}: {entry.name} {reason}")
    return classes


def _one_based(path: Path) -> UserError:
    return UserError(
        f"{path}: the labels seem to count from 1, they must count from 0 (action − 1): pass --labels-from 1 to "
        "subtract 1, or --labels-from 0 if class 0 is merely empty"
    )


def _repair(people: np.ndarray, longest: int) -> tuple[np.ndarray, str]:
    """Fill gaps of at most `longest` frames. Return the people, and which frames were filled, as text."""
    people, gaps = fill_gaps(people)
    for start, stop in gaps:
        if stop - start > longest:
            frames = counted(stop - start, "consecutive frame")
            raise UserError(f"non-finite values in {frames} ({start}–{stop - 1}), more than --repair {longest}")
    frames = ", ".join(f"{start}" if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in gaps)
    return people, f"frames {frames}" if gaps else ""


def _must_normalise(source: Source, options: Options, skeleton: Skeleton) -> bool:
    """Return whether to normalise. If the options leave it open, the first recording of a raw format decides."""
    if options.normalise is not None:
        return options.normalise
    if not source.raw or skeleton.centre is None:
        return source.raw
    for entry in source.entries:
        with reading(entry.where):
            people = map_joints(source.read(entry), source.skeleton, skeleton)
        if people.any():
            return not is_centred(people, skeleton, source.every_frame)
    return True


def _packed_shape(source: Source, options: Options, skeleton: Skeleton, normalised: bool) -> tuple[int, int, int]:
    """Return people, joints and coordinates of a frame in the packed data set; a published one prescribes them."""
    published = options.dataset.layout if options.dataset else None
    most = published.people if published else NUM_PEOPLE
    people = min(source.shape[0], most) if normalised else source.shape[0]
    layout = FrameLayout(skeleton, people, source.shape[2])
    if not published:
        return layout.shape
    if replace(layout, people=most) != published or people > most:
        raise UserError(f"{source.place}: holds {layout}, {options.name} has {published}")
    return published.shape


def _prepare(
    people: np.ndarray,
    source: Source,
    options: Options,
    skeleton: Skeleton,
    normalised: bool,
    shape: tuple[int, int, int],
) -> np.ndarray:
    """Convert a recording's people to those of the packed data set: float32 (T, *shape)."""
    people = map_joints(people, source.skeleton, skeleton)
    if options.normalise is None and skeleton.centre is not None and people.any():
        centred = is_centred(people, skeleton, source.every_frame)
        if centred == normalised:
            state = "" if centred else "not "
            contrast = ", unlike the first recording" if source.raw else ""
            raise UserError(
                f"{state}centred on the first person's {skeleton.joints[skeleton.centre]}{contrast}: pass --normalise "
                "for raw recordings, --as-stored to keep them as they are"
            )
    if normalised:
        people = normalise(people.astype(np.float64), skeleton, shape[0])
    frames = np.zeros((len(people), *shape), np.float32)
    frames[:, : people.shape[1]] = people
    return frames
