"""Folders of one's own recordings become a data set, or are refused by file and line with nothing written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import ROOT
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import SKELETONS
from tests.data_gen.formats.samples import bring, export, refused
from tests.helpers import moving_body, run_python, skeleton_text, tiny_dataset

OWN = ("--name", "own")
HEADING = "name,label,subject,camera"
LINES = ["b,1,x,1", "a,0,y,2", "c-2,1,z,1"]


def clips(joints: int = 25, people: int = 1, coordinates: int = 3) -> dict[str, np.ndarray]:
    """Raw recordings by name, float64 (T, M, V, C), of 3 to 5 frames."""
    rng = np.random.default_rng(5)
    return {n: rng.normal(size=(3 + i, people, joints, coordinates)) + 2 for i, n in enumerate(("a", "b", "c-2"))}


def make(folder: Path, lines: list[str] = LINES, heading: str = HEADING, **shape: int) -> Path:
    """Recordings as a spreadsheet writes them, with the table."""
    folder.mkdir()
    for name, clip in clips(**shape).items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(clip.reshape(len(clip), -1).tolist())
    write_table(folder, lines, heading)
    return folder


def write_table(folder: Path, lines: list[str], heading: str = HEADING) -> None:
    (folder / "recordings.csv").write_text("\n".join([heading, *lines]), encoding="utf-8")


@pytest.fixture
def folder(tmp_path) -> Path:
    return make(tmp_path / "folder")


def test_raw_recordings_are_normalised_and_keep_their_table(folder, tmp_path, capsys):
    bring("folder", folder, *OWN, "--split", "s=subject:y,z", "--split", "k=kfold:3", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == ["a", "b", "c-2"] and packed.label.tolist() == [0, 1, 1]
    assert packed.table("subject") == ["y", "x", "z"] and packed.table("camera") == ["2", "1", "1"]
    assert packed.split("s", "train").tolist() == [0, 2] and packed.split("s", "val").tolist() == [1]
    assert packed.protocols == ["s", "k1", "k2", "k3"] and packed.info["protocols"]["s"]["rule"] == "subject:y,z"
    for i, clip in enumerate(clips().values()):
        np.testing.assert_array_equal(packed.recording(i), normalise(clip, num_people=1))
    said = capsys.readouterr().out
    assert (
        "own: 3 recordings of 2 classes, 12 frames" in said
        and "  s: 2 train, 1 val" in said
        and "they were raw" in said
    )


def test_labels_and_the_table_may_be_unknown(folder, tmp_path, capsys):
    (folder / "recordings.csv").write_text("name\na\nc-2\n")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == ["a", "c-2"] and packed.label.tolist() == [0, 0]
    assert packed.class_names == ["unlabelled"] and packed.split("all", "train").tolist() == [0, 1]
    assert not len(packed.split("all", "val"))
    (folder / "recordings.csv").unlink()
    bring("folder", folder, *OWN, "--out", tmp_path / "all")
    assert PackedDataset(tmp_path / "all").names.tolist() == ["a", "b", "c-2"]


def test_a_data_set_is_replaced_on_demand_alone(folder, tmp_path, capsys):
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    before = (tmp_path / "out" / INFO).read_bytes()
    more = (*OWN, "--split", "s=subject:y,z")
    refused(capsys, tmp_path / "out", "holds a data set already: --replace", "folder", folder, *more)
    assert (tmp_path / "out" / INFO).read_bytes() == before
    bring("folder", folder, *more, "--replace", "--out", tmp_path / "out")
    assert PackedDataset(tmp_path / "out").protocols == ["s"]


@pytest.mark.parametrize("kind", ["heading", "windows", "blank lines", "npy", "npy of people", "Fortran", "float32"])
def test_other_spellings_of_the_same_recordings(kind, folder, tmp_path):
    bring("folder", folder, *OWN, "--out", tmp_path / "expected")
    for name, clip in clips().items():
        path = folder / f"{name}.csv"
        text = path.read_bytes()
        if kind == "heading":
            path.write_bytes(b",".join(b"joint %d" % i for i in range(75)) + b"\r\n" + text)
        elif kind == "windows":
            path.write_bytes(b"\xef\xbb\xbf" + text)
        elif kind == "blank lines":
            path.write_bytes(text.replace(b"\r\n", b"\n\n").replace(b",", b" , "))
        else:
            path.unlink()
            values = clip[:, 0] if kind == "npy" else clip
            values = np.asfortranarray(values) if kind == "Fortran" else values
            np.save(folder / f"{name}.npy", values.astype(np.float32) if kind == "float32" else values)
    if kind == "windows":
        table = (folder / "recordings.csv").read_text().replace("\n", "\r\n").replace("c-2,", '"c-2.csv",')
        (folder / "recordings.csv").write_bytes(b"\xef\xbb\xbf" + table.encode() + b"\r\n\r\n")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    tolerance = 1e-5 if kind == "float32" else 0
    for file in ("joints", "label", "name", "num_frame", "subject", "camera"):
        found, expected = (np.load(tmp_path / place / f"{file}.npy") for place in ("out", "expected"))
        if tolerance and file == "joints":
            np.testing.assert_allclose(found, expected, atol=tolerance)
        else:
            np.testing.assert_array_equal(found, expected)


def test_subfolders_and_suffixes_in_capitals_are_read(folder, tmp_path, capsys):
    bring("folder", folder, *OWN, "--out", tmp_path / "expected")
    (folder / "sub").mkdir()
    (folder / "a.csv").rename(folder / "sub" / "a.CSV")
    for table in (True, False):
        if not table:
            (folder / "recordings.csv").unlink()
        bring("folder", folder, *OWN, "--replace", "--out", tmp_path / "out")
        found, expected = PackedDataset(tmp_path / "out"), PackedDataset(tmp_path / "expected")
        np.testing.assert_array_equal(found.joints, expected.joints)
        assert found.label.tolist() == (expected.label.tolist() if table else [0, 0, 0])
    (folder / "sub" / "b.csv").write_bytes((folder / "b.csv").read_bytes())
    refused(capsys, tmp_path / "no", "'b.csv': there is more than one b.csv in the folder", "folder", folder, *OWN)


@pytest.mark.parametrize(
    "skeleton, people, coordinates", [("kinect_v1", 1, 3), ("coco", 2, 2), ("smpl", 2, 3), ("mediapipe", 1, 2)]
)
def test_people_and_coordinates_follow_from_the_columns(skeleton, people, coordinates, tmp_path):
    folder = make(tmp_path / "folder", joints=len(SKELETONS[skeleton].joints), people=people, coordinates=coordinates)
    flags = (*OWN, "--skeleton", skeleton, "--as-stored")
    bring("folder", folder, *flags, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.shape == (people, len(SKELETONS[skeleton].joints), coordinates)
    for i, clip in enumerate(clips(len(SKELETONS[skeleton].joints), people, coordinates).values()):
        np.testing.assert_array_equal(packed.recording(i), clip.astype(np.float32))


def test_recordings_of_one_and_of_more_people_share_a_data_set(folder, tmp_path):
    crowd = np.random.default_rng(0).normal(size=(6, 4, 25, 3)) + 2
    (folder / "b.csv").unlink()
    np.save(folder / "b.npy", crowd)
    bring("folder", folder, *OWN, "--as-stored", "--out", tmp_path / "stored")
    packed = PackedDataset(tmp_path / "stored")
    assert packed.shape == (4, 25, 3) and not packed.recording(0)[:, 1:].any()
    np.testing.assert_array_equal(packed.recording(1), crowd.astype(np.float32))
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    np.testing.assert_array_equal(PackedDataset(tmp_path / "out").recording(1), normalise(crowd))


def test_skeleton_files_of_any_name(tmp_path):
    folder, rng = tmp_path / "folder", np.random.default_rng(0)
    folder.mkdir()
    texts = {name: skeleton_text(moving_body(rng, 5)) for name in ("wave-1", "wave-2", "sit_1")}
    for name, text in texts.items():
        (folder / f"{name}.skeleton").write_bytes(text)
    (folder / "empty.skeleton").write_text("2\n0\n0\n")
    write_table(folder, ["wave-1,wave", "wave-2.skeleton,wave", "sit_1,sit", "empty,sit"], "name,label")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == ["empty", "sit_1", "wave-1", "wave-2"] and packed.shape == (2, 25, 3)
    assert packed.class_names == ["sit", "wave"] and packed.label.tolist() == [0, 0, 1, 1]
    assert packed.info["without_a_body"] == ["empty"]
    for i, name in enumerate(packed.names[1:], 1):
        np.testing.assert_array_equal(packed.recording(i), normalise(parse_skeleton(texts[name])))


def test_a_table_for_recordings_with_ntus_names_gives_what_their_own_conversion_gives(tmp_path):
    expected = tiny_dataset(tmp_path)
    lines = [f"{path.name},{int(path.stem[-3:]) - 1}" for path in (tmp_path / "raw").iterdir()]
    write_table(tmp_path / "raw", lines, "name,label")
    bring("folder", tmp_path / "raw", "--dataset", "demo", "--out", tmp_path / "out")
    for path in expected.path.glob("*.npy"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_names_of_classes_are_numbered_by_the_alphabet_or_by_the_list(folder, tmp_path, capsys):
    write_table(folder, ["a,walk", "b,Sit", "c-2,walk"], "name,label")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.class_names == ["Sit", "walk"] and packed.label.tolist() == [1, 0, 1]
    (folder / "classes.txt").write_text("jump\nwalk\nSit\n")
    bring("folder", folder, *OWN, "--out", tmp_path / "out2")
    packed = PackedDataset(tmp_path / "out2")
    assert packed.class_names == ["jump", "walk", "Sit"] and packed.label.tolist() == [1, 2, 1]
    write_table(folder, ["a,2", "b,0", "c-2,2"], "name,label")
    bring("folder", folder, *OWN, "--out", tmp_path / "out3")
    assert PackedDataset(tmp_path / "out3").num_classes == 3
    for content, message in (
        ("jump\njump\n", "classes.txt: a line is empty"),
        ("a\n\nb", "classes.txt: a line is empty"),
    ):
        (folder / "classes.txt").write_text(content)
        refused(capsys, tmp_path / "no", message, "folder", folder, *OWN)
    (folder / "classes.txt").write_text("jump\nwalk\n")
    refused(capsys, tmp_path / "no", "recordings.csv: a has label 2, of 0 to 1", "folder", folder, *OWN)


@pytest.mark.parametrize(
    "heading, lines, message",
    [
        ("", [], "recordings.csv:1: the heading '' is not name, perhaps"),
        ("name;label", ["a;0"], "camera and split:NAME; columns stand between commas"),
        ("name;label", ["a;0"], "recordings.csv:1: the heading 'name;label' is not name, perhaps"),
        ("name,label,age", ["a,0,3"], "the heading 'name,label,age' is not name, perhaps"),
        ("Name,lable", ["a,0"], "and split:NAME; did you mean name?; did you mean label?"),
        ("name,label,label", ["a,0,3"], "the heading 'name,label,label' is not name, perhaps"),
        ("label,subject", ["0,0"], "the heading 'label,subject' is not name, perhaps"),
        ("name,label,split:a/b", ["a,0,"], "is not name, perhaps with label, subject, camera and split:NAME"),
        ("name,label", [], "recordings.csv: names no recordings"),
        ("name,label", ["a,0", "b"], "recordings.csv:3: has 1 value, the heading 2"),
        ("name,label", ["a,0", "", "x,1"], "recordings.csv:4: 'x': there is no x.csv or .npy or .skeleton in the"),
        ("name,label", ["a.npy,0"], "recordings.csv:2: 'a.npy': there is no a.npy in the folder"),
        ("name,label", ["../folder/a,0"], "recordings.csv:2: '../folder/a' is no name of 1 to 64 letters"),
        ("name,label", [",0"], "recordings.csv:2: '' is no name of 1 to 64 letters"),
        ("name,label", ["a,0", "a.csv,0"], "recordings.csv: a is listed twice, or in train and in val"),
        ("name,label", ["a,"], "recordings.csv:2: has no label"),
        ("name,label", ["a,1", "b,walk"], "labels are numbers, such as 1, and names, such as 'walk'"),
        ("name,label", ["a,0", "b,-1"], "recordings.csv: b has label -1, of 0 to 0"),
        ("name,label", ["a,0", "b,1000"], "has labels up to 1000; at most 999 classes"),
        ("name,label", ["a,1", "b,2"], "recordings.csv: the labels count from 1, they must count from 0"),
        ("name,label,subject", ["a,0,x", "b,1,"], "recordings.csv:3: subject '' is not letters, digits, - and _"),
        ("name,label,split:x", ["a,0,test"], "recordings.csv:2: split:x is 'test', not train, val or empty"),
        ('name,label"', ["a,0"], "the heading"),
        ("name,label", ['a,"0'], "recordings.csv"),
    ],
)
def test_tables_that_are_wrong_are_refused(heading, lines, message, folder, tmp_path, capsys):
    write_table(folder, lines, heading)
    if lines == ['a,"0']:  # a quote that is not closed: what follows is part of the value
        (folder / "recordings.csv").write_text('name,label\na,"0\nb,1\n' + "x" * 200_000)
        message = "recordings.csv:4: field larger than field limit"
    refused(capsys, tmp_path / "out", message, "folder", folder, *OWN)


def test_splits_and_rules(folder, tmp_path, capsys):
    write_table(folder, ["a,0,train", "b,1,val", "c-2,0,"], "name,label,split:x")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.split("x", "train").tolist() == [0] and packed.split("x", "val").tolist() == [1]
    (tmp_path / "names").write_text("a\n")
    again = (*OWN, "--split", f"x=names:{tmp_path / 'names'}")
    refused(capsys, tmp_path / "no", "there is a protocol x already", "folder", folder, *again)
    message = "the recordings' subjects are not known"
    refused(capsys, tmp_path / "no", message, "folder", folder, *OWN, "--split", "y=subject:1")
    refused(capsys, tmp_path / "no", "all is the protocol of every", "folder", folder, *OWN, "--split", "all=kfold:2")
    refused(capsys, tmp_path / "no", "is not NAME=KIND:VALUES", "folder", folder, *OWN, "--split", "y")


def heading(joints, axes: str = "xyz") -> str:
    names = [SKELETONS["kinect_v2"].joints[j] for j in joints]
    return ",".join(f"{name}_{axis}" for name in names for axis in axes) + "\n" + ",".join("0" * 75)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "b.csv: has 1 column, 25 joints of kinect_v2 take 2 or 3 each"),
        (",".join("0" * 60) + "\n", "b.csv: has 60 columns, 25 joints of kinect_v2 take 2 or 3 each"),
        (",".join("x" * 75) + "\n", "b.csv: holds no frames"),
        (",".join("x" * 75) + "\n" + ",".join("0" * 150), "b.csv:2: has 150 values, the first line 75"),
        (",".join("0" * 75) + "\n" + ",".join("0" * 74) + "\n", "b.csv:2: has 74 values, the first line 75"),
        (",".join("0" * 75) + "\n\n" + ",".join("0" * 74 + "x") + "\n", "b.csv:3: 'x' is no number"),
        (",".join("0" * 74) + ",\n", "b.csv: b holds values that are not finite in 1 of its 1 frame"),
        (heading(reversed(range(25))), "its heading has 'right_thumb_x' where x of spine_base is read"),
        (heading(range(25), "zyx"), "its heading has 'spine_base_z' where x of spine_base is read"),
        (",".join(f"{a}{i}" for a in "xyz" for i in range(25)) + "\n", "has 'x1' where y of spine_base is read"),
        (";".join("0" * 75) + "\n", "b.csv: its values must stand between commas, not semicolons, tabs or blanks"),
        (";".join(["0,5"] * 75) + "\n", "b.csv: its values must stand between commas"),
        (" ".join("0" * 75) + "\n", "b.csv: its values must stand between commas"),
        (",".join("0" * 74) + ",1_0\n", "b.csv:1: '1_0' is no number"),
        (",".join("0" * 74) + ",0x10\n", "b.csv:1: '0x10' is no number"),
        (",".join("0" * 74) + ",nan\n", "b.csv: b holds values that are not finite"),
        (",".join("0" * 74) + ",1e999\n", "b.csv: b holds values that are not finite"),
        (",".join("0" * 74) + ",1e7\n", "b.csv: b holds values beyond 1e+06"),
        (",".join("0" * 50) + "\n", "some recordings have 2 coordinates a joint, some 3"),
        ((",".join("0" * 75) + "\n") * 20_001, "b.csv: b has 20001 frames, of 1 to 20000"),
        ("\xff", "b.csv: cannot be read ('utf-8' codec"),
        (",".join("0" * 74) + ",\xff", "b.csv: cannot be read ('utf-8' codec"),
    ],
)
def test_csv_recordings_that_are_wrong_are_refused(content, message, folder, tmp_path, capsys):
    (folder / "b.csv").write_text(content, encoding="latin1")
    refused(capsys, tmp_path / "out", message, "folder", folder, *OWN)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((3, 20, 3)), "b.npy: has 20 joints, kinect_v2 25: pass --skeleton"),
        (np.zeros((3, 25, 4)), "b.npy: holds float64 (3, 25, 4), expected floats (T, 25, 3) or (T, M, 25, 3)"),
        (np.zeros((3, 0, 25, 3)), "b.npy: holds float64 (3, 0, 25, 3), expected floats"),
        (np.zeros((2, 40, 25, 3)), "coordinates; np.transpose(array, (1, 0, 2, 3)) would fit"),
        (np.zeros((25, 60, 3)), "coordinates; np.transpose(array, (1, 0, 2)) would fit"),
        (np.zeros((3, 60, 25)), "coordinates; np.transpose(array, (1, 2, 0)) would fit"),
        (np.zeros((3, 60, 25, 2)), "coordinates; np.transpose(array, (1, 3, 2, 0)) would fit"),
        (np.zeros((3, 75)), "b.npy: holds float64 (3, 75), expected floats"),
        (np.zeros((3, 25, 3), int), "b.npy: holds int64 (3, 25, 3), expected floats"),
        (np.zeros((0, 25, 3)), "b.npy: b has 0 frames, of 1 to 20000"),
        (np.full((3, 25, 3), np.nan), "b.npy: b holds values that are not finite"),
        (np.array([{}]), "b.npy: cannot be read ("),
        (np.zeros(3, [("x", "f4")]), "b.npy: holds [('x', '<f4')] (3,), expected floats"),
    ],
)
def test_npy_recordings_that_are_wrong_are_refused(values, message, folder, tmp_path, capsys):
    (folder / "b.csv").unlink()
    np.save(folder / "b.npy", values, allow_pickle=True)
    refused(capsys, tmp_path / "out", message, "folder", folder, *OWN)


@pytest.mark.filterwarnings("error")
def test_a_value_that_makes_processors_complain_is_refused_without_numpys_warning(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    clip = np.zeros((3, 25, 3), np.float32)
    clip.view(np.uint32)[0, 0, 0] = 0x7FA00000  # a signalling nan
    np.save(tmp_path / "folder" / "a.npy", clip)
    refused(capsys, tmp_path / "no", "not finite in 1 of its 3 frames", "folder", tmp_path / "folder", *OWN)


def test_files_that_lie_or_are_damaged_are_refused(folder, tmp_path, capsys):
    out, path = tmp_path / "out", folder / "b.npy"
    np.save(path, np.zeros((3, 25, 3)))
    refused(capsys, out, "'b': there is more than one b.csv or .npy or .skeleton", "folder", folder, *OWN)
    (folder / "b.csv").unlink()
    path.write_bytes(path.read_bytes()[:-1])
    refused(capsys, out, "b.npy: cannot be read (", "folder", folder, *OWN)
    path.write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 60 + b",)}\n"
    )
    refused(capsys, out, "b.npy: cannot be read", "folder", folder, *OWN)
    path.unlink()
    write_table(folder, ["b,0"], "name,label")
    (folder / "b.skeleton").write_text("1\n1\nx")
    refused(capsys, out, "b.skeleton:3: frame 1 is cut short", "folder", folder, *OWN)
    refused(capsys, out, "b.skeleton: holds joints of kinect_v2", "folder", folder, *OWN, "--skeleton", "smpl")
    (folder / "b.skeleton").unlink()
    (folder / "b.csv").mkdir()
    refused(capsys, out, "b.csv: cannot be read (not a regular file)", "folder", folder, *OWN)
    refused(capsys, out, f"there is no folder {tmp_path / 'nowhere'}", "folder", tmp_path / "nowhere", *OWN)


def test_raw_and_centred_recordings_do_not_mix(folder, tmp_path, capsys):
    bring("folder", folder, *OWN, "--as-stored", "--out", tmp_path / "raw")
    centred = clips()["b"]
    np.savetxt(folder / "b.csv", (centred - centred[:, :, 1:2]).reshape(len(centred), -1), delimiter=",")
    message = "b.csv: b is centred on the first person's spine_middle, the first recording is not: say --normalise"
    refused(capsys, tmp_path / "out", message, "folder", folder, *OWN)
    bring("folder", folder, *OWN, "--normalise", "--out", tmp_path / "out")
    assert PackedDataset(tmp_path / "out").info["made"]["normalised"]
    stored = np.load(tmp_path / "raw" / "joints.npy")
    np.testing.assert_array_equal(stored[:3], clips()["a"].astype(np.float32))


def test_flags_that_contradict_are_refused(folder, tmp_path, capsys):
    for flags, message in (
        (("--name", "ntu60"), "--name has 1 to 64 letters"),
        (("--name", "a b"), "--name has 1 to 64 letters"),
        ((*OWN, "--classes", "0"), "--classes is a number from 1 to 999"),
        (("--dataset", "demo", "--classes", "12"), "for a data set of one's own"),
        ((*OWN, "--skeleton", "nobody"), "skeleton nobody: no such skeleton"),
        (("--dataset", "demo"), "a: the name is not of the form"),
        ((*OWN, "--map-joints", "coco"), "there is no joint mapping from kinect_v2 to coco"),
    ):
        refused(capsys, tmp_path / "out", message, "folder", folder, *flags)
    for flags in ((), ("--name", "x", "--dataset", "demo"), (*OWN, "--normalise", "--as-stored")):
        with pytest.raises(SystemExit):
            bring("folder", folder, *flags)


def test_gaps_are_refused_by_frame_or_repaired_where_asked(folder, tmp_path, capsys):
    rows = [line.split(",") for line in (folder / "b.csv").read_text().split()]
    whole = np.array(rows, float).reshape(4, 1, 25, 3)
    broken = whole.copy()
    broken[1:3, 0, 7] = np.nan
    np.savetxt(folder / "b.csv", broken.reshape(4, -1), delimiter=",")
    message = (
        "not finite in 2 of its 4 frames, the first of them frame 1 (counted from 0); import_dataset --repair N fills"
    )
    refused(capsys, tmp_path / "out", message, "folder", folder, *OWN)
    message = (
        "b.csv: b holds values that are not finite in 2 frames on end, 1 to 2 (counted from 0), more than --repair 1"
    )
    refused(capsys, tmp_path / "out", message, "folder", folder, *OWN, "--repair", "1")
    refused(capsys, tmp_path / "out", "--repair 0 is not a number of frames", "folder", folder, *OWN, "--repair", "0")
    bring("folder", folder, *OWN, "--repair", "2", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.info["repaired"] == {"b": "frames 1-2"} and "    b: frames 1-2" in capsys.readouterr().out
    expected = whole.copy()
    expected[1:3, 0, 7] = [(2 * whole[0, 0, 7] + whole[3, 0, 7]) / 3, (whole[0, 0, 7] + 2 * whole[3, 0, 7]) / 3]
    np.testing.assert_allclose(packed.recording(1), normalise(expected, num_people=1), atol=1e-5)
    (folder / "b.csv").write_text((folder / "b.csv").read_text().replace("nan", ""))
    bring("folder", folder, *OWN, "--repair", "2", "--out", tmp_path / "empty")
    np.testing.assert_array_equal(PackedDataset(tmp_path / "empty").joints, packed.joints)


def test_recordings_that_the_table_does_not_list_are_counted(folder, tmp_path, capsys):
    write_table(folder, ["a,0,x,1"])
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    assert "  left out: 2 recordings that the table does not list" in capsys.readouterr().out


def test_names_of_joints_in_any_script_are_written_and_read_in_any_locale(folder, tmp_path):
    own = SKELETONS["kinect_v2"].to_json()
    own |= {"name": "own", "joints": ["関節", "é", *own["joints"][2:]]}
    (folder / "skeleton.json").write_text(json.dumps(own))
    bring("folder", folder, *OWN, "--out", tmp_path / "packed")
    command = (ROOT / "data_gen" / "export_dataset.py", "folder", "--data", tmp_path / "packed", "--as", "csv")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run_python(*command, "--out", tmp_path / "exported", env=ascii_only)
    assert done.returncode == 0, done.stderr
    bring("folder", tmp_path / "exported", *OWN, "--out", tmp_path / "again")
    assert (tmp_path / "again" / "joints.npy").read_bytes() == (tmp_path / "packed" / "joints.npy").read_bytes()


def test_an_exported_folder_remembers_its_skeleton(tmp_path, capsys):
    folder = make(tmp_path / "folder", joints=20)
    bring("folder", folder, *OWN, "--skeleton", "kinect_v1", "--out", tmp_path / "v1")
    export("folder", "--data", tmp_path / "v1", "--as", "npy", "--out", tmp_path / "exported")
    bring("folder", tmp_path / "exported", *OWN, "--out", tmp_path / "again")
    for file in ("joints", "label", "name", "subject"):
        assert (tmp_path / "again" / f"{file}.npy").read_bytes() == (tmp_path / "v1" / f"{file}.npy").read_bytes()
    assert PackedDataset(tmp_path / "again").skeleton == SKELETONS["kinect_v1"]
    refused(capsys, tmp_path / "no", "has 60 columns, 25 joints", "folder", folder, *OWN)
    (tmp_path / "exported" / "skeleton.json").write_text("{")
    refused(capsys, tmp_path / "no", "skeleton.json: ", "folder", tmp_path / "exported", *OWN)
    (tmp_path / "exported" / "skeleton.json").unlink()
    (tmp_path / "exported" / "skeleton.json").mkdir()
    refused(capsys, tmp_path / "no", "skeleton.json: no such skeleton", "folder", tmp_path / "exported", *OWN)


def test_labels_of_long_recordings_are_not_passed_over(folder, tmp_path, capsys):
    (folder / "segments.csv").write_text("name,start,end,label\na,0,2,1\n")
    (folder / "recordings.csv").unlink()
    refused(capsys, tmp_path / "out", "segments.csv: the labels of long recordings, ", "folder", folder, *OWN)
