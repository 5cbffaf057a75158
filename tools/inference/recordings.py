"""Read a program's input recordings: a packed data set, or folders, zip archives and single files."""

from __future__ import annotations

import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from data_gen.packed.info import UNLABELLED, is_one_line
from data_gen.packed.names import parse_name
from data_gen.packed.words import counted
from data_gen.raw.number_lines import SkeletonError
from data_gen.raw.workers import num_cores
from feeder.layout import FrameLayout
from feeder.modality_names import Streams
from torch import Tensor

from data_gen.class_names import class_label
from data_gen.formats.folder import CLASSES, SKELETON_JSON, TABLE, Files, read_listed, skeleton_in
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.raw.conversion import first_names
from data_gen.raw.normalise import ADDED, DROPPED, EMPTY, MAPPED, NORMALISED, UNITS, fit_people, in_unit
from data_gen.raw.recording_files import SKELETON, SUFFIXES, check_values, parse_recording
from data_gen.raw.recordings import Recording, check_there, find_recordings, prepare_all
from data_gen.skeletons import KINECT_V2, NUM_PEOPLE, Skeleton
from feeder.clips import ClipDataset
from tools.evaluation.features import BATCH_SIZE, FrozenEncoder, check_features, feature_batches
from tools.utils.encoder_options import PLACES
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.options import classes_of

_DONE = {
    MAPPED: "joints are mapped onto {}",
    NORMALISED: "raw people are centred and aligned",
    DROPPED: "frames show more people than the encoder takes ({}); the others are left out",
    ADDED: "there are fewer than {}; absent ones are zeros",
}
_DOUBTFUL = {
    EMPTY: "nobody is in any frame, so their answers mean nothing",
    **{unit: in_unit(unit) for unit in UNITS},
}


class Features(NamedTuple):
    """Hold names, labels int64 (B,) (−1: unknown) and features (B, streams·2·hidden) of some recordings."""

    names: list[str]
    labels: np.ndarray
    feature: Tensor


class _Found(NamedTuple):
    recording: Recording
    skeleton: Skeleton
    label: int


class RecordingsInput:
    """Find the recordings in `places`: one packed data set, or what is found in folders, archives and files, made to
    fit an encoder. `skeleton` is the name or file that tells the joints of `.csv` and `.npy` recordings.

    Reading fills `bad` with the unreadable recordings and the reasons. Raises UserError if there are no recordings,
    DataSetError if a data set is damaged.
    """

    def __init__(
        self,
        places: list[Path],
        encoder: FrozenEncoder,
        skeleton: str | None = None,
        told: set[str] | None = None,
    ):
        """`told` collects the notes printed so far; none is printed twice."""
        self.bad: dict[str, str] = {}
        self.classes: list[str] = []  # names by label, if known
        self._encoder, self._told = encoder, set() if told is None else told
        self._packed: PackedDataset | None = None
        self._stored: PackedDataset | None = None  # as it is on the disk, not adapted
        self._found: list[_Found] = []
        packed = [place for place in check_there(places) if (place / INFO).is_file()]
        if packed and len(places) > 1:
            raise UserError(f"{packed[0]} is a packed data set: give it by itself")
        if packed:
            self._stored = PackedDataset(packed[0])
            if self._stored.segments is not None:
                raise UserError(f"{packed[0]} holds long recordings, not clips: tools.timeline takes them")
            self._packed, done = encoder.adapt(self._stored)
            if self._stored.class_names != [UNLABELLED]:
                self.classes = classes_of(self._packed)
            self._tell(done)
            self._warn(EMPTY, self._stored.info.get("without_a_body", []))
        else:
            self._find(places, skeleton)

    def __len__(self) -> int:
        return len(self._found) if self._packed is None else len(self._packed)

    @property
    def identity(self) -> str:
        """Return the `identity_of` a packed data set; empty for other recordings."""
        return identity_of(self._stored) if self._stored else ""

    def features(self, streams: Streams, only_whole: bool = False) -> Iterator[Features]:
        """Compute the features of all readable recordings, the streams concatenated, batch by batch.

        With `only_whole`, recordings after the first unreadable one are only checked.
        """
        encoder = self._encoder
        with progress((), total=len(self), desc="features", unit="recording", disable=len(self) <= BATCH_SIZE) as bar:
            for names, source in self.parts(encoder.device):
                if not (only_whole and self.bad):
                    for rows, parts in feature_batches(encoder.backbone, source, streams, encoder.device):
                        check_features(parts)
                        yield Features(names[rows], source.label[rows].cpu().numpy(), torch.cat(parts, 1))
                        bar.update(len(parts[0]))

    def parts(self, device: torch.device) -> Iterator[tuple[list[str], ClipDataset]]:
        """Yield the names and clips of all readable recordings, some at a time."""
        if self._packed is not None:
            source = ClipDataset.of_dataset(self._packed, np.arange(len(self._packed)), device)
            if not self.classes:
                source.label.fill_(-1)
            yield self._packed.names.tolist(), source
            return
        read, layout = zip(self._found, self._read()), self._encoder.layout
        counts: Counter[str] = Counter()
        doubtful: dict[str, list[str]] = {what: [] for what in _DOUBTFUL}
        while part := list(islice(read, BATCH_SIZE)):
            good = []
            for found, result in part:
                if isinstance(result, SkeletonError):
                    self.bad[str(found.recording)] = str(result)
                else:
                    good.append((found.recording.stem, found.label, result[0]))
                    counts.update(result[1])
                    for what in doubtful.keys() & result[1]:
                        doubtful[what].append(found.recording.stem)
            if good:
                names, labels, people = zip(*good)
                frames, num_frame = torch.from_numpy(np.concatenate(people)), np.array([len(p) for p in people])
                yield list(names), ClipDataset(frames, num_frame, np.array(labels), layout=layout)
        target = {MAPPED: layout.skeleton.name}
        for what, text in _DONE.items():
            if counts[what]:
                self._tell(text.format(target.get(what, counted(layout.people, "person"))), counts[what])
        for what, names in doubtful.items():
            self._warn(what, names)

    def _read(self) -> Iterator[tuple[np.ndarray, set[str]] | SkeletonError]:
        layout, centred = self._encoder.layout, self._encoder.takes_centred
        items = [(found.recording, found.skeleton) for found in self._found]
        try:
            yield from prepare_all(items, num_cores(), layout.skeleton, (layout.people, layout.coordinates), centred)
        except BrokenProcessPool as error:
            raise UserError("a worker that reads recordings was killed, perhaps for want of memory") from error

    def _find(self, places: list[Path], skeleton: str | None) -> None:
        """Fill `_found` and `classes`."""
        of_name: dict[str, _Found] = {}
        numbered: list[list[str]] = []
        repeated = 0
        for place in places:
            own = self._skeleton_of(place, skeleton)
            if (place / TABLE).is_file():
                rows, labels, names = read_listed(Files(place))
                recordings = [Recording(row.path.stem, str(row.path)) for row in rows]
                if labels:
                    numbered.append(names or [])
                    self._check_labels(place / TABLE, labels, names)
            else:
                recordings, more = _recordings(place)
                self._tell(_unread(place, recordings))
                labels, repeated = [label_of(recording.stem) for recording in recordings], repeated + more
            for recording, label in zip(recordings, labels or [-1] * len(recordings)):
                if not is_one_line(recording.stem):
                    raise UserError(f"{recording}: its name has control characters; rename it")
                found = _Found(recording, KINECT_V2 if recording.suffix == SKELETON else own, label)
                first = of_name.setdefault(recording.stem, found).recording
                if first is not recording:
                    repeated += 1
                    first.check_same(recording)
        if not of_name:
            raise UserError(f"no recording ({', '.join(SUFFIXES)}) in {', '.join(map(str, places))}")
        if repeated:
            print(f"warning: {repeated} found a second time, taken from the first place", file=sys.stderr)
        if any(names != numbered[0] for names in numbered):
            raise UserError("the folders number their classes in different ways: give them one after the other")
        self._found, self.classes = [of_name[name] for name in sorted(of_name)], numbered[0] if numbered else []

    def _check_labels(self, table: Path, labels: list[int], names: list[str] | None) -> None:
        """Raise UserError if a label is out of range; tell of labels that seem to count from 1."""
        least, most = min(labels), max(labels)
        if least < 0 or (names and most >= len(names)):
            known = f" to {len(names) - 1}" if names else ""
            raise UserError(f"{table}: has labels from {least} to {most}; they count from 0{known}")
        if least == 1 and not names:
            self._tell(f"{table}: no label is 0; labels count from 0 (action − 1)")

    def _skeleton_of(self, place: Path, given: str | None) -> Skeleton:
        try:
            return skeleton_in(place, given) or self._encoder.layout.skeleton
        except ValueError as error:
            raise UserError(str(error)) from error

    def _tell(self, what: str, count: int | None = None) -> None:
        """Print a note on what was done to the recordings, once."""
        if what and what not in self._told:
            self._told.add(what)
            print(f"note: {what}" + (f" ({counted(count, 'recording')})" if count else ""), file=sys.stderr)

    def _warn(self, what: str, names: list[str]) -> None:
        """Print a warning of recordings that are read, but hardly meant."""
        if names:
            print(f"warning: {_DOUBTFUL[what]}: {first_names(names)}", file=sys.stderr)


def identity_of(packed: PackedDataset) -> str:
    """Return the name of a data set and the hash of its recordings, whatever encoder they are adapted to."""
    clips = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
    return f"{packed.name} {clips.fingerprint()}"


def _recordings(place: Path) -> tuple[list[Recording], int]:
    try:
        return find_recordings([place], SUFFIXES)
    except zipfile.BadZipFile as error:
        raise UserError(f"{error}; what is read: {PLACES}") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _unread(place: Path, recordings: list[Recording]) -> str:
    """Say which tables of an archive are not read; empty if there are none."""
    if not recordings or recordings[0].path != str(place) or recordings[0].member is None:
        return ""
    with zipfile.ZipFile(place) as archive:
        names = {Path(member).name for member in archive.namelist()}
    found = [name for name in (TABLE, CLASSES, SKELETON_JSON) if name in names]
    return f"{place}: its {' and '.join(found)} count only in a folder: unpack it" if found else ""


def read_one(place: Path, name: str | None, skeleton: str | None) -> tuple[str, np.ndarray, FrameLayout]:
    """Read the recording called `name` in a folder or archive, or the only one there, normalised: its name, people
    (T, M, V, C), and their layout. Raises UserError."""
    found = {recording.stem: recording for recording in _recordings(place)[0]}
    if not found:
        raise UserError(f"no recording ({', '.join(SUFFIXES)}) in {place}")
    if name is None and len(found) > 1:
        raise UserError(f"{place} has {len(found)} recordings: choose one by --name, such as {next(iter(found))}")
    recording = found.get(name or next(iter(found)))
    if recording is None:
        raise UserError(f"--name {name}: {place} has no such recording; the first is {next(iter(found))}")
    try:
        given = skeleton_in(place, skeleton)
        own = given if given and recording.suffix != SKELETON else KINECT_V2
        bodies = check_values(parse_recording(recording.read(), recording.suffix, own))
        layout = FrameLayout(own, max(1, min(NUM_PEOPLE, bodies.shape[1])), bodies.shape[3])
        return recording.stem, fit_people(bodies, own, own, (layout.people, layout.coordinates))[0], layout
    except ValueError as error:
        raise UserError(f"{recording}: {error}") from error


def label_of(name: str) -> int:
    """Return the label in a recording's name, counted from 0, or −1."""
    try:
        return parse_name(name).label
    except ValueError:
        return -1


def action_of(label: int, classes: Sequence[str]) -> dict[str, str | None]:
    """Describe a label: `action` as A001, and `name`, its name among the `classes`; None for what is unknown, both for
    the label −1."""
    if label < 0:
        return {"action": None, "name": None}
    action, name = class_label(label), classes[label] if label < len(classes) else None
    return {"action": action, "name": None if name == action else name}
