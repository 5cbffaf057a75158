"""Folders of long recordings with labelled segments."""

import re

import numpy as np
import pytest

from data_gen import demo_gendata
from data_gen.export_dataset import main as export
from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment
from data_gen.raw import simulation as sim
from data_gen.raw.skeleton_file import parse_skeleton
from tests.data_gen.formats.samples import bring, refused
from tests.long_helpers import CLASSES, CYCLE, pack_long_folder, write_long


@pytest.fixture
def folder(tmp_path):
    return write_long(tmp_path / "folder", count=3, actions=2)


def test_recordings_are_kept_as_they_were_recorded(folder, tmp_path):
    packed = pack_long_folder(folder, tmp_path / "out")
    assert packed.names.tolist() == ["rec0", "rec1", "rec2"] and packed.class_names == list(CLASSES)
    assert packed.segments[1] == [Segment(60, 130, 1), Segment(60 + CYCLE, 130 + CYCLE, 2)]
    assert packed.split("easy", "val").tolist() == [1] and packed.table("subject") == ["s0", "s1", "s2"]
    for i, name in enumerate(packed.names):
        bodies = parse_skeleton((folder / f"{name}.skeleton").read_bytes())
        assert np.array_equal(packed.recording(i)[:, :1], bodies.astype(np.float32))
        assert not packed.recording(i)[:, 1:].any()  # a .skeleton file may list four


def test_other_files_labels_and_rules(folder, tmp_path):
    for name in ("rec0", "rec1", "rec2"):
        (folder / f"{name}.skeleton").unlink()
        np.save(folder / f"{name}.npy", np.random.default_rng(0).normal(size=(400, 2, 17, 2)))
    (folder / "classes.txt").unlink()
    (folder / "recordings.csv").unlink()
    (folder / "segments.csv").write_text("name,start,end,label\nrec1.npy,100,200,4\nrec1,5,100,0\nrec0,0,400,1\n")
    (tmp_path / "names").write_text("rec1\n")
    rule = f"some=names:{tmp_path / 'names'}"
    bring("long", "--name", "mine", folder, "--out", tmp_path / "out", "--skeleton", "coco", "--split", rule)
    packed = PackedDataset(tmp_path / "out")
    assert packed.shape == (2, 17, 2) and packed.num_classes == 5 and packed.class_names is None
    assert packed.names.tolist() == ["rec0", "rec1"] and packed.split("some", "train").tolist() == [1]
    assert packed.segments == [[Segment(0, 400, 1)], [Segment(5, 100, 0), Segment(100, 200, 4)]]


@pytest.mark.parametrize(
    "line, where",
    [
        ("rec0,100,140,sit", "segments.csv:3: rec0: .*100 to 140"),
        ("rec0,60,130,wave", "segments.csv:3: rec0"),
        ("rec0,140,135,sit", "segments.csv:3: rec0"),
        ("rec0,-5,10,sit", "segments.csv:3: rec0: .*-5 to 10"),
        ("rec0,290,301,sit", "segments.csv: rec0: .*290 to 301 .*300"),
        ("rec0,140,150,swim", "segments.csv:3: .*'swim'"),
        ("rec0,140,150,", "segments.csv:3: "),
        ("rec0,140.5,150,sit", "segments.csv:3: .*'140.5'"),
        ("rec0,140,150", "segments.csv:3: "),
        ("rec9,140,150,sit", "segments.csv:3: .*rec9"),
    ],
)
def test_wrong_segments_are_refused_by_file_and_line(folder, tmp_path, line, where):
    (folder / "segments.csv").write_text(f"name,start,end,label\nrec0,60,130,wave\n{line}\n")
    refused(tmp_path / "out", re.compile(where), "long", "--name", "mine", folder)


@pytest.mark.parametrize(
    "file, text, where",
    [
        ("segments.csv", "name,start,label\n", "segments.csv:1: "),
        ("segments.csv", "name,start,end,label\n", "segments.csv: "),
        ("recordings.csv", "name\nrec1\n", "segments.csv:2: rec0"),
        ("recordings.csv", "name\nrec0\nrec0\nrec1\nrec2\n", "rec0 occurs twice"),
        ("recordings.csv", "name\n", "recordings.csv: "),
        ("rec2.skeleton", "5\n0\n", "rec2.skeleton:"),
    ],
)
def test_other_faults_are_refused(folder, tmp_path, file, text, where):
    (folder / file).write_text(text)
    refused(tmp_path / "out", where, "long", "--name", "mine", folder)


def test_they_are_not_exported_as_clips(folder, tmp_path):
    pack_long_folder(folder, tmp_path / "out")
    refused(tmp_path / "back", tmp_path / "out", "folder", "--data", tmp_path / "out", main=export)


def test_the_demos_long_recordings_are_what_their_tables_say(tmp_path):
    assert demo_gendata.generate_long(tmp_path / "a", 2, seed=3) == 16
    demo_gendata.generate_long(tmp_path / "b", 2, seed=3, workers=2)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    packed = pack_long_folder(tmp_path / "a", tmp_path / "out")
    assert packed.class_names == [action.name for action in sim.ACTIONS.values()]
    assert (
        packed.split("xsub", "train").tolist() == [0]
        and packed.table("subject") == ["1", "3"]
        and list(map(len, packed.segments)) == [8, 8]
    )
    for i, segments in enumerate(packed.segments):
        assert all(34 <= s.end - s.start <= 90 for s in segments)
        assert all(b.start - a.end >= 20 for a, b in zip(segments, segments[1:]))
        present = packed.recording(i).any(axis=(1, 2, 3))
        assert all(present[s.start : s.end].mean() > 0.9 for s in segments)
        pairs = {9, 10, 11}  # shaking hands and walking take two people
        two = packed.recording(i)[:, 1].any(axis=(1, 2))
        assert all(two[s.start : s.end].mean() > 0.8 for s in segments if s.label in pairs)
