"""Write what a format's reader found (`Source`) as a packed data set, following the user's `Options`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from data_gen.datasets import NTU, DataSet, RecordingName, parse_name
from data_gen.packed.protocols import Rule, Table, derive, derive_splits
from data_gen.packed.reader import MAX_CLASSES, NAME, SIDES, TABLES
from data_gen.packed.writer import PackedWriter, Splits, packing
from data_gen.raw.normalise import is_centred, normalise, other_unit
from data_gen.raw.recording_files import check_values, fill_gaps
from data_gen.skeletons import NTU_LAYOUT, NUM_PEOPLE, Skeleton, map_joints
from utils.errors import UserError
from utils.text import counted


class Entry(NamedTuple):
    """Describe one recording of a source."""

    name: str
    label: int
    stated_in: Path  # the file with the name and the label
    stored_in: Path  # the file with the joints
    called: str  # how errors refer to it
    content: Any  # what the format's reader needs
    side: str = ""  # train or val, if the format holds one protocol

    @property
    def where(self) -> str:
        return f"{self.stored_in}: {self.called}"


@dataclass
class Source:
    """Hold a data set in another format; all but the joints is checked.

    `entries` are sorted by name. `read` is called once per entry, in this order (raw formats: twice for the first
    ones). It returns joints (T, M, V, C) of any float dtype, with at most the M of `shape` (M, V, C). `splits` holds
    the format's own protocols as indices into the entries.
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
    unlisted: int = 0  # number of recordings in the folder that the table does not list


@dataclass(frozen=True)
class Options:
    """Hold the user's options. `dataset`: the published data set, None for the user's own, called `name`. `normalise`:
    None decides from the joints. `repair`: the longest gap to fill, in frames."""

    dataset: DataSet | None
    name: str
    normalise: bool | None = None
    labels_from: int | None = None
    classes: int | None = None
    map_to: Skeleton | None = None
    rules: tuple[Rule, ...] = ()
    repair: int | None = None


def in_order(entries: list[Entry]) -> list[Entry]:
    """Sort recordings by name. Raises UserError if a name is not allowed or occurs twice."""
    entries = sorted(entries, key=lambda entry: entry.name)
    last = None
    for entry in entries:
        if not NAME.fullmatch(entry.name):
            raise UserError(f"{entry.stated_in}: {shown(entry.name)} is no name of 1 to 64 letters, digits, - and _")
        if entry.name == last:
            raise UserError(f"{entry.stated_in}: {entry.name} is listed twice, or in train and in val")
        last = entry.name
    return entries


def sides_of(entries: list[Entry]) -> dict[str, list[int]]:
    """Return the indices of the entries on each side."""
    return {side: [i for i, entry in enumerate(entries) if entry.side == side] for side in SIDES}


def shown(name: str) -> str:
    """Quote a name for an error message, in ASCII and at most 80 characters of it."""
    return ascii(name[:80])


def pack(source: Source, out: Path, options: Options) -> dict[str, Any]:
    """Write the source's recordings as the packed data set `out`. Return its info.

    Raises UserError if the source is invalid; an earlier data set in `out` then stays unchanged.
    """
    entries = [entry._replace(label=entry.label - (options.labels_from or 0)) for entry in source.entries]
    repaired: dict[str, str] = {}
    if options.repair:
        source = replace(source, read=partial(_read_and_repair, source.read, options.repair, repaired))
    names_tell = options.dataset in NTU and source.named  # NTU's names contain label and side
    splits, made_by = _splits(source, options, entries, names_tell)
    classes = _check_labels(source, entries, options, names_tell)
    skeleton = options.map_to or source.skeleton
    normalised = _decide(source, options, skeleton)
    with packing(out, _packed_shape(source, options, skeleton, normalised)) as writer:
        large = _write(writer, source, entries, options, skeleton, normalised)
        info = {
            "dataset": options.name,
            "title": options.dataset.title if options.dataset else options.name,
            "classes": classes,
            **({"class_names": source.class_names} if source.class_names else {}),
            "skeleton": skeleton.to_json(),
            "made": {source.format: str(source.place), **source.made, **({"normalised": True} if normalised else {})},
        }
        info |= {"unlisted": source.unlisted} if source.unlisted else {}
        info |= writer.counts(splits, made_by) | ({"repaired": repaired} if repaired else {})
        info |= {"too_large": large} if large else {}
        writer.finish(splits, info, source.tables)
    return info


def _read_and_repair(
    read: Callable[[Entry], np.ndarray], longest: int, repaired: dict[str, str], entry: Entry
) -> np.ndarray:
    people, gaps = fill_gaps(read(entry))
    if gaps:
        start, stop = max(gaps, key=lambda gap: gap[1] - gap[0])
        if stop - start > longest:
            raise UserError(
                f"{entry.where} holds values that are not finite in {counted(stop - start, 'frame')} on end, "
                f"{start} to {stop - 1} (counted from 0), more than --repair {longest}"
            )
        repaired[entry.name] = "frames " + ", ".join(f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in gaps)
    return people


def _splits(source: Source, options: Options, entries: list[Entry], names_tell: bool) -> tuple[Splits, dict[str, str]]:
    """Return all protocols (from the source, from the names and from --split rules), and the rule of each protocol
    that a rule made."""
    splits = dict(source.splits)
    if options.dataset and names_tell:
        derived = derive_splits(options.dataset, _check_names(source, options.dataset, entries))
        splits = derived | {name: sides for name, sides in splits.items() if name not in derived}
    names = [entry.name for entry in entries]
    told = Table.of_names(names)
    columns = (source.tables.get(kind) or getattr(told, kind) for kind in TABLES)
    added, made_by = derive(options.rules, Table(names, *columns))
    taken = {name for p in (options.dataset.protocols if options.dataset else ()) for name in (p.name, p.long_name)}
    for name in added:
        if name in taken | splits.keys():
            raise UserError(f"{source.place}: there is a protocol {name} already; choose another name for --split")
    return splits | added, made_by


def _check_names(source: Source, dataset: DataSet, entries: list[Entry]) -> list[RecordingName]:
    """Parse the names. Raises UserError if a name is invalid, or contradicts its label or side."""
    numbers = []
    for entry in entries:
        try:
            number = parse_name(entry.name)
        except ValueError as error:
            raise UserError(f"{entry.stated_in}: {entry.name}: {error}") from None
        if not dataset.covers(number):
            raise UserError(f"{entry.stated_in}: {shown(entry.name)} is no recording of {dataset.title}")
        numbers.append(number)
    for protocol in dataset.protocols:
        for side, chosen in source.splits.get(protocol.name, {}).items():
            for i in chosen:
                belongs = "train" if protocol.trains_on(numbers[i]) else "val"
                if belongs != side:
                    raise UserError(
                        f"{entries[i].stated_in}: {shown(entries[i].name)} belongs to {belongs} in "
                        f"{protocol.long_name} ({protocol.name})"
                    )
    for entry, number in zip(entries, numbers):
        if entry.label != number.label:
            if all(e.label == n.action for e, n in zip(entries, numbers) if e.stated_in == entry.stated_in):
                raise _one_based(entry.stated_in)
            raise UserError(
                f"{entry.stated_in}: {entry.name} has label {entry.label}, its action − 1 is {number.label}"
            )
    return numbers


def _check_labels(source: Source, entries: list[Entry], options: Options, names_tell: bool) -> int:
    """Return the number of classes. Raises UserError if a label is out of range or labels seem to count from 1."""
    least, most = (choose(entry.label for entry in entries) for choose in (min, max))
    told = options.dataset.classes if options.dataset else options.classes
    if source.classes and told and source.classes != told:
        whose = options.dataset.title if options.dataset else "--classes"
        raise UserError(f"{source.place}: holds {source.classes} classes, {whose} has {told}")
    known = source.classes or (told if options.dataset else None)
    classes = known or told or most + 1
    if classes > MAX_CLASSES:
        raise UserError(f"{source.place}: has labels up to {most}; at most {MAX_CLASSES} classes can be told apart")
    if least == 1 and options.labels_from is None and not names_tell and (most == classes or not known):
        raise _one_based(next(entry.stated_in for entry in entries if entry.label == most))
    for entry in entries:
        if not 0 <= entry.label < classes:
            raise UserError(f"{entry.stated_in}: {entry.called} has label {entry.label}, of 0 to {classes - 1}")
    return classes


def _one_based(path: Path) -> UserError:
    return UserError(
        f"{path}: the labels count from 1, they must count from 0 (action − 1): say --labels-from 1, and 1 is "
        "subtracted (or --labels-from 0, where merely nothing is of class 0)"
    )


def _decide(source: Source, options: Options, skeleton: Skeleton) -> bool:
    """Decide whether to normalise. If the options leave it open, the first recording of a raw format decides."""
    if options.normalise is not None:
        return options.normalise
    if not source.raw or skeleton.centre is None:
        return source.raw
    with np.errstate(invalid="ignore"):  # values that are not finite are refused later
        for people in map(source.read, source.entries):
            if people.any():
                people = map_joints(people, source.skeleton, skeleton)
                return not is_centred(people, skeleton, source.every_frame)
    return True


def _packed_shape(source: Source, options: Options, skeleton: Skeleton, normalised: bool) -> tuple[int, int, int]:
    """Return people, joints and coordinates of a frame in the packed data set. Raises UserError if a published
    data set has another shape."""
    people, joints, coordinates = source.shape[0], len(skeleton.joints), source.shape[2]
    people = min(people, NUM_PEOPLE) if normalised else people
    if not options.dataset:
        return people, joints, coordinates
    if people > NTU_LAYOUT.shape[0] or (joints, coordinates) != NTU_LAYOUT.shape[1:]:
        raise UserError(
            f"{source.place}: holds {people} people of {joints} joints and {coordinates} coordinates, {options.name} "
            "has {} of {} and {}".format(*NTU_LAYOUT.shape)
        )
    return NTU_LAYOUT.shape


def _write(
    writer: PackedWriter,
    source: Source,
    entries: list[Entry],
    options: Options,
    skeleton: Skeleton,
    normalised: bool,
) -> dict[str, list[str]]:
    """Check, map and normalise the recordings, and pass them to the writer. Return the names of those that seem not to
    be measured in metres, by their unit. Raises UserError."""
    large: dict[str, list[str]] = {}
    for entry in tqdm(entries, desc="import", unit="recording", disable=not sys.stderr.isatty()):
        people = source.read(entry)
        people = people.astype(np.promote_types(people.dtype, np.float32), copy=False)
        try:
            check_values(people)
        except UserError as error:
            raise UserError(f"{entry.where} {error}") from None
        if unit := other_unit(people):
            large.setdefault(unit, []).append(entry.name)
        people = map_joints(people, source.skeleton, skeleton)
        if options.normalise is None and skeleton.centre is not None and people.any():
            centred = is_centred(people, skeleton, source.every_frame)
            if centred == normalised:
                problem = (
                    f"is {'' if centred else 'not '}centred on the first person's {skeleton.joints[skeleton.centre]}"
                )
                if source.raw:
                    problem += f", the first recording is{' not' if centred else ''}"
                raise UserError(
                    f"{entry.where} {problem}: say --normalise for raw recordings, --as-stored to keep them as they are"
                )
        if normalised:
            people = normalise(people.astype(np.float64), skeleton, writer.shape[0])
        frames = np.zeros((len(people), *writer.shape), np.float32)
        frames[:, : people.shape[1]] = people
        writer.add(entry.name, entry.label, frames)
    return large
