"""The long recordings that a program is given: files, folders of them, or a packed data set with segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_gen.formats.folder import TABLE
from data_gen.formats.long import SEGMENTS, read_segments
from data_gen.packed.info import is_one_line
from data_gen.packed.reader import INFO, DataSetError, PackedDataset
from data_gen.packed.segments import Segment, find_fault
from data_gen.raw.long_files import BLOCK, SUFFIXES, LongFile
from data_gen.skeletons import Skeleton
from tools.detection.decoding import FRAME_RATE
from tools.evaluation.features import FrozenEncoder
from tools.utils.encoder_options import LONG_PLACES
from tools.utils.errors import UserError
from tools.utils.options import classes_of


@dataclass(frozen=True)
class LongInput:
    """A recording, and where it is known what happens in it: (start, end, name of the class), in order."""

    name: str
    source: LongFile | tuple[PackedDataset, int]
    truth: list[tuple[int, int, str]] | None
    frame_rate: float = FRAME_RATE

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield its frames in blocks (T, slots, V, C), as recorded. Raises DataSetError."""
        yield from self.source.blocks() if isinstance(self.source, LongFile) else packed_blocks(*self.source)


def packed_blocks(packed: PackedDataset, row: int) -> Iterator[np.ndarray]:
    """Yield a recording's frames in blocks."""
    frames = packed.recording(row)
    for start in range(0, len(frames), BLOCK):
        yield frames[start : start + BLOCK]


def check_body(encoder: FrozenEncoder, skeleton: Skeleton, coordinates: int, place: object) -> None:
    """Raise UserError where an encoder was trained on another skeleton than that of the recordings at `place`."""
    layout = encoder.backbone.layout
    if (layout.skeleton, layout.coordinates) != (skeleton, coordinates):
        raise UserError(
            f"{encoder.path} was trained on {layout}; {place} holds {skeleton.name} with {coordinates} coordinates: "
            "choose data of the same kind"
        )


def find_inputs(places: list[Path], encoder: FrozenEncoder) -> list[LongInput]:
    """The recordings in `places`, in order. Raises UserError, DataSetError."""
    found = [recording for place in places for recording in _in_place(place, encoder)]
    if not found:
        raise UserError(f"no recording in {', '.join(map(str, places))}; what is read: {LONG_PLACES}")
    names = [recording.name for recording in found]
    if odd := [name for name in names if not is_one_line(name)]:
        raise UserError(f"{ascii(odd[0])}: its name has control characters; rename it")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two recordings are called {twice[0]}: give them one after the other")
    return found


def _in_place(place: Path, encoder: FrozenEncoder) -> list[LongInput]:
    if (place / INFO).is_file():
        packed = PackedDataset(place)
        check_body(encoder, packed.skeleton, packed.shape[2], place)
        if packed.segments is None:
            raise UserError(f"{place} holds clips, no long recordings: use tools.predict")
        names, rate = classes_of(packed), float(packed.info.get("frame_rate", FRAME_RATE))
        truth = [[(s.start, s.end, names[s.label]) for s in those] for those in packed.segments]
        return [LongInput(n, (packed, i), truth[i], rate) for i, n in enumerate(packed.names.tolist())]
    paths = [place]
    if place.is_dir():
        paths = sorted(
            path
            for path in place.iterdir()
            if path.suffix in SUFFIXES and path.name not in (SEGMENTS, TABLE) and not path.name.startswith(".")
        )
    return [file_input(path, encoder) for path in paths]


def file_input(path: Path, encoder: FrozenEncoder, follow: bool = False) -> LongInput:
    """One file. What happens in it is known where a segments.csv lies beside it. Raises UserError, DataSetError."""
    file = LongFile(path, encoder.backbone.layout.skeleton, follow)
    check_body(encoder, file.skeleton, file.coordinates, path)
    table = path.parent / SEGMENTS
    return LongInput(path.stem, file, _truth(table, path) if table.is_file() and not follow else None)


def _truth(table: Path, path: Path) -> list[tuple[int, int, str]]:
    rows = [row for row in read_segments(table) if row[1] in (path.stem, path.name)]
    segments = [Segment(start, end, 0) for _, _, start, end, _ in rows]
    if fault := find_fault(segments, 10**9, 1):
        raise DataSetError(f"{table}:{rows[fault[0]][0]}: {fault[1]}")
    return sorted((start, end, label) for _, _, start, end, label in rows)
