"""Open the long recordings given to a program: files, folders of them, or packed data sets with segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data_gen.packed.info import is_one_line
from data_gen.raw.long_files import BLOCK, LongFile

from data_gen.formats.folder import skeleton_in
from data_gen.formats.long import SEGMENTS, read_segments
from data_gen.packed.reader import INFO, DataSetError, PackedDataset
from data_gen.packed.segments import Segment, find_fault
from data_gen.raw.recording_files import SKELETON, SUFFIXES
from data_gen.raw.recordings import check_there, is_recording
from data_gen.skeletons import KINECT_V2, Skeleton, has_mapping, map_joints
from tools.detection.decoding import FRAME_RATE
from tools.evaluation.features import FrozenEncoder
from tools.utils.encoder_options import LONG_PLACES
from tools.utils.errors import UserError
from tools.utils.options import classes_of


@dataclass(frozen=True)
class LongInput:
    """A recording and, if known, its true segments in order: (start, end, name of the class)."""

    name: str
    source: LongFile | tuple[PackedDataset, int]
    skeleton: Skeleton
    truth: list[tuple[int, int, str]] | None
    frame_rate: float = FRAME_RATE

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the frames in blocks (T, slots, V, C), as recorded. Raises DataSetError."""
        if isinstance(self.source, LongFile):
            for block in self.source.blocks():
                yield map_joints(block, self.source.skeleton, self.skeleton)
        else:
            yield from packed_blocks(*self.source)


def packed_blocks(packed: PackedDataset, row: int) -> Iterator[np.ndarray]:
    """Yield the frames of a packed data set's recording in blocks (T, M, V, C)."""
    frames = packed.recording(row)
    for start in range(0, len(frames), BLOCK):
        yield frames[start : start + BLOCK]


def check_skeleton(encoder: FrozenEncoder, skeleton: Skeleton, coordinates: int, place: object) -> None:
    """Raise UserError if the encoder was trained on another skeleton than that of the recordings at `place`, and their
    joints cannot be mapped onto its own."""
    layout = encoder.layout
    if not has_mapping(skeleton, layout.skeleton) or layout.coordinates != coordinates:
        raise UserError(
            f"{encoder.path} was trained on {layout}; {place} holds {skeleton.name} with {coordinates} coordinates: "
            "choose data of the same kind"
        )


def find_inputs(places: list[Path], encoder: FrozenEncoder, skeleton: str | None) -> list[LongInput]:
    """Open the recordings in `places`, in order; `.csv` and `.npy` ones are of that skeleton's joints (`skeleton_in`).
    Raises UserError, DataSetError."""
    found = [recording for place in check_there(places) for recording in _in_place(place, encoder, skeleton)]
    if not found:
        raise UserError(f"no recording in {', '.join(map(str, places))}; what is read: {LONG_PLACES}")
    names = [recording.name for recording in found]
    if odd := [name for name in names if not is_one_line(name)]:
        raise UserError(f"{ascii(odd[0])}: its name has control characters; rename it")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two recordings are called {twice[0]}: give each to a run of its own")
    return found


def _in_place(place: Path, encoder: FrozenEncoder, skeleton: str | None) -> list[LongInput]:
    if (place / INFO).is_file():
        packed = PackedDataset(place)
        check_skeleton(encoder, packed.skeleton, packed.shape[2], place)
        if packed.segments is None:
            raise UserError(f"{place} holds clips, no long recordings: use tools.predict")
        segments = packed.segments
        packed = packed.adapted(encoder.layout.skeleton, packed.shape[0])
        names, rate = classes_of(packed), float(packed.info.get("frame_rate", FRAME_RATE))
        truth = [[(s.start, s.end, names[s.label]) for s in those] for those in segments]
        inputs = enumerate(packed.names.tolist())
        return [LongInput(name, (packed, i), packed.skeleton, truth[i], rate) for i, name in inputs]
    paths = [place]
    if place.is_dir():  # not its subfolders, which may hold timelines written before
        paths = sorted(path for path in place.iterdir() if is_recording(path.name, SUFFIXES))
    return [file_input(path, encoder, skeleton) for path in paths]


def file_input(path: Path, encoder: FrozenEncoder, skeleton: str | None = None, follow: bool = False) -> LongInput:
    """Open one file; a segments.csv beside it has its true segments. Raises UserError, DataSetError."""
    own = encoder.layout.skeleton
    try:
        joints = KINECT_V2 if path.suffix.lower() == SKELETON else skeleton_in(path, skeleton) or own
    except ValueError as error:
        raise UserError(str(error)) from error
    file = LongFile(path, joints, follow)
    check_skeleton(encoder, file.skeleton, file.coordinates, path)
    table = path.parent / SEGMENTS
    return LongInput(path.stem, file, own, _truth(table, path) if table.is_file() and not follow else None)


def _truth(table: Path, path: Path) -> list[tuple[int, int, str]]:
    rows = [row for row in read_segments(table) if row[1] in (path.stem, path.name)]
    segments = [Segment(start, end, 0) for _, _, start, end, _ in rows]
    if fault := find_fault(segments, 10**9, 1):
        raise DataSetError(f"{table}:{rows[fault[0]][0]}: {fault[1]}")
    return sorted((start, end, label) for _, _, start, end, label in rows)
