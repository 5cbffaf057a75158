"""Whatever is done to a genuine file of any format, it is read or refused in words: no other error, no long wait."""

import csv
import io
import pickle
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.formats.base import Options, Source, pack
from data_gen.formats.folder import read_folder
from data_gen.formats.npz import read_npz
from data_gen.formats.padded import read_padded
from data_gen.formats.pyskl import read_pyskl
from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import KINECT_V2
from tests.data_gen.formats.samples import export, make_packed
from tests.mutations import HOW, WORDS, Change, apply
from utils.errors import UserError

pytestmark = pytest.mark.no_cover  # it would take twice as long
MORE = (
    *WORDS,
    b"}",
    b"s",
    b"u",
    b"]",
    b"e",
    b"R",
    b"b",
    b"q\x01",
    b"h\x01",
    b"\x8e" + b"\xff" * 8,
    b"'<f8'",
    b"(9" + b"9" * 9,
    b",",
)
part = st.floats(0, 1, exclude_max=True)
changes = st.lists(
    st.builds(Change, st.sampled_from(list(HOW)), part, part, st.sampled_from(MORE)), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The same data set in every format."""
    place = tmp_path_factory.mktemp("exported")
    packed = make_packed(place / "packed", longest=5)
    export("padded", "--frames", "5", "--data", packed.path, "--out", place / "padded")
    export("npz", "--frames", "5", "--data", packed.path, "--out", place / "npz")
    export("pyskl", "--data", packed.path, "--out", place / "pyskl")
    export("folder", "--as", "csv", "--data", packed.path, "--out", place / "csv")
    export("folder", "--data", packed.path, "--out", place / "npy")
    raw = pickle.loads((place / "pyskl").read_bytes())
    (place / "pyskl0").write_bytes(pickle.dumps(raw, 0))
    (place / "pyskl2").write_bytes(pickle.dumps(raw, 2))
    with np.load(place / "npz") as arrays, open(place / "npz0", "wb") as file:
        np.savez_compressed(file, **{key: arrays[key] for key in arrays if key[1] == "_"})
    return place


def read(kind: str, place: Path) -> Source:
    if kind.startswith("pyskl"):
        return read_pyskl(place, None)
    if kind.startswith("npz"):
        return read_npz(place, "xsub", KINECT_V2)
    return read_padded(place, "xsub", KINECT_V2) if kind == "padded" else read_folder(place, KINECT_V2)


FILES = {
    "pyskl": "", "pyskl0": "", "pyskl2": "", "npz": "", "npz0": "",
    "padded": "train_label.pkl",
    "csv": "recordings.csv",
    "npy": "recordings.csv",
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_mutated_file_is_read_or_refused(kind, exported, tmp_path_factory):
    place = tmp_path_factory.mktemp("mutated") / kind
    copy = shutil.copytree if (exported / kind).is_dir() else shutil.copyfile
    copy(exported / kind, place)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    genuine = {file: file.read_bytes() for file in files}
    preferred = place / FILES[kind] if FILES[kind] else place
    outcomes = set()

    @settings(max_examples=150, derandomize=True, deadline=None, database=None)
    @given(st.booleans(), st.sampled_from(files), changes)
    def mutate(any_file: bool, file: Path, what: list[Change]) -> None:
        file = file if any_file else preferred
        file.write_bytes(apply(genuine[file], what))
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                pack(read(kind, place), place.parent / "out", Options(None, "own"))
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
            outcomes.add("refused")
        else:
            packed = PackedDataset(place.parent / "out")
            assert np.isfinite(packed.joints).all() and packed.label.max() < packed.num_classes
            outcomes.add("read")
        finally:
            file.write_bytes(genuine[file])
        assert time.process_time() - start < 10

    mutate()
    assert "refused" in outcomes


def test_the_table_of_the_folder_is_what_a_reader_of_csv_reads(exported):
    with open(exported / "csv" / "recordings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    packed = PackedDataset(exported / "packed")
    assert [row["name"] for row in rows] == packed.names.tolist()
    for row, label in zip(rows, packed.label):
        assert int(row["label"]) == label and row["split:xsub"] in ("train", "val")
    text = (exported / "csv" / f"{packed.names[0]}.csv").read_text()
    heading, *lines = csv.reader(io.StringIO(text))
    assert heading[:4] == ["1_spine_base_x", "1_spine_base_y", "1_spine_base_z", "1_spine_middle_x"]
    assert len(lines) == packed.num_frame[0] and float(lines[1][0]) == float(f"{packed.recording(0)[1, 0, 0, 0]:.9g}")
