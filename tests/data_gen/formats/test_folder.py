"""Folders of one's own recordings become a data set, or are refused by file and line with nothing written."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import DATASETS, DataSet, Protocol, open_dataset
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import SKELETONS
from tests.data_gen.formats.samples import OWN, bring, export, refused
from tests.helpers import moving_body, skeleton_text, tiny_dataset

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
    report = capsys.readouterr().out
    assert "own: 3 recordings of 2 classes, 12 frames" in report and "  s: 2 train, 1 val" in report


def test_labels_and_the_table_may_be_unknown(folder, tmp_path):
    (folder / "recordings.csv").write_text("name\na\nc-2\n")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == ["a", "c-2"] and packed.label.tolist() == [0, 0]
    assert packed.class_names == ["unlabelled"] and packed.split("all", "train").tolist() == [0, 1]
    assert not len(packed.split("all", "val")) and packed.info["unlisted"] == 1
    (folder / "recordings.csv").unlink()
    bring("folder", folder, *OWN, "--out", tmp_path / "all")
    assert PackedDataset(tmp_path / "all").names.tolist() == ["a", "b", "c-2"]
    (folder / "segments.csv").write_text("name,start,end,label\na,0,2,1\n")  # of long recordings
    refused(tmp_path / "no", "segments.csv: ", "folder", folder, *OWN)


def test_a_data_set_is_replaced_on_demand_alone(folder, tmp_path):
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    before = (tmp_path / "out" / INFO).read_bytes()
    refused(folder, f"{folder}: ", "folder", folder, *OWN)
    more = (*OWN, "--split", "s=subject:y,z")
    refused(tmp_path / "out", "--replace", "folder", folder, *more)
    assert (tmp_path / "out" / INFO).read_bytes() == before
    bring("folder", folder, *more, "--replace", "--out", tmp_path / "out")
    assert PackedDataset(tmp_path / "out").protocols == ["s"]


@pytest.mark.parametrize("kind", ["heading", "windows", "blank lines", "npy", "Fortran"])
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
            np.save(folder / f"{name}.npy", clip[:, 0] if kind == "npy" else np.asfortranarray(clip))
    if kind == "windows":
        table = (folder / "recordings.csv").read_text().replace("\n", "\r\n").replace("c-2,", '"c-2.csv",')
        (folder / "recordings.csv").write_bytes(b"\xef\xbb\xbf" + table.encode() + b"\r\n\r\n")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    for file in ("joints", "label", "name", "num_frame", "subject", "camera"):
        array, expected = (np.load(tmp_path / place / f"{file}.npy") for place in ("out", "expected"))
        np.testing.assert_array_equal(array, expected)


def test_subfolders_and_suffixes_in_capitals_are_read(folder, tmp_path):
    bring("folder", folder, *OWN, "--out", tmp_path / "expected")
    (folder / "sub").mkdir()
    (folder / "a.csv").rename(folder / "sub" / "a.CSV")
    for table in (True, False):
        if not table:
            (folder / "recordings.csv").unlink()
        bring("folder", folder, *OWN, "--replace", "--out", tmp_path / "out")
        packed, expected = PackedDataset(tmp_path / "out"), PackedDataset(tmp_path / "expected")
        np.testing.assert_array_equal(packed.joints, expected.joints)
        assert packed.label.tolist() == (expected.label.tolist() if table else [0, 0, 0])
    (folder / "sub" / "b.csv").write_bytes((folder / "b.csv").read_bytes())
    refused(tmp_path / "no", "recordings.csv:", "folder", folder, *OWN)


@pytest.mark.parametrize("skeleton, people, coordinates", [("kinect_v1", 1, 3), ("coco", 2, 2), ("smpl", 2, 3)])
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


def test_names_of_classes_are_numbered_by_the_alphabet_or_by_the_list(folder, tmp_path):
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
    for content, where in (("jump\njump\n", "classes.txt"), ("jump\nwalk\n", "a has label 2")):
        (folder / "classes.txt").write_text(content)
        refused(tmp_path / "no", where, "folder", folder, *OWN)


@pytest.mark.parametrize("form", ["folder", "npz"])
def test_a_published_data_set_of_another_skeleton_takes_a_row(form, tmp_path, monkeypatch):
    split = (Protocol("xview", "cross_view"),)
    row = DataSet("ucla", "Northwestern-UCLA", 2, skeleton="kinect_v1", people=1, protocols=split)
    monkeypatch.setitem(DATASETS, "ucla", row)
    place, protocol = tmp_path / form, ()
    people = 2 if form == "folder" else 1  # the one who moves most is taken
    if form == "folder":
        make(place, ["a,0,train", "b,1,train", "c-2,1,val"], "name,label,split:xview", joints=20, people=people)
    else:
        frames = np.stack([clip[:3].reshape(3, -1) for clip in clips(joints=20).values()]).astype(np.float32)
        arrays = {"x_train": frames[:2], "y_train": np.eye(2), "x_test": frames[2:], "y_test": np.eye(2)[1:]}
        np.savez(tmp_path / "npz", **arrays)
        (tmp_path / "npz.npz").rename(place)
        protocol = ("--protocol", "xview", "--normalise")
    bring(form, place, "--dataset", "ucla", *protocol, "--out", tmp_path / "out")
    packed = open_dataset(tmp_path / "out", row, row.protocols[0], splits=["train"])
    assert packed.layout == row.layout and packed.shape == (1, 20, 3) and packed.title == "Northwestern-UCLA"
    assert packed.label.tolist() == [0, 1, 1] and packed.split("xview", "val").tolist() == [2]
    skeleton = SKELETONS["kinect_v1"]
    for i, clip in enumerate(clips(joints=20, people=people).values()):
        expected = normalise(clip if form == "folder" else clip[:3].astype(np.float32), skeleton, 1)
        np.testing.assert_allclose(packed.recording(i), expected, atol=1e-6)
    make(tmp_path / "v2", ["a,0", "b,1", "c-2,1"], "name,label")
    refused(tmp_path / "no", tmp_path / "v2", "folder", tmp_path / "v2", "--dataset", "ucla", "--skeleton", "kinect_v2")


@pytest.mark.parametrize(
    "heading, lines, where",
    [
        ("", [], ":1: "),
        ("name;label", ["a;0"], ":1: "),
        ("name,label,age", ["a,0,3"], ":1: "),
        ("label,subject", ["0,0"], ":1: "),
        ("name,label", [], ": "),
        ("name,label", ["a,0", "b"], ":3: "),
        ("name,label", ["a,0", "", "x,1"], ":4: "),
        ("name,label", ["../folder/a,0"], ":2: "),
        ("name,label", ["a,0", "a.csv,0"], "a.csv: "),
        ("name,label", ["a,"], ":2: "),
        ("name,label", ["a,0", "b,walk"], ": "),
        ("name,label", ["a,0", "b,-1"], ": b has label -1"),
        ("name,label", ["a,0", "b,1000"], "b has label 1000"),
        ("name,label", ["a,1", "b,2"], "--labels-from"),
        ("name,label,subject", ["a,0,x", "b,1,"], ":3: subject ''"),
        ("name,label,split:x", ["a,0,test"], ":2: split:x is 'test'"),
        ("name,label", ['a,"0', "b,1", "x" * 200_000], ": "),  # a quote that is not closed
    ],
)
def test_tables_that_are_wrong_are_refused(heading, lines, where, folder, tmp_path):
    write_table(folder, lines, heading)
    refused(tmp_path / "out", where, "folder", folder, *OWN)


def test_splits_and_rules(folder, tmp_path):
    write_table(folder, ["a,0,train", "b,1,val", "c-2,0,"], "name,label,split:x")
    bring("folder", folder, *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.split("x", "train").tolist() == [0] and packed.split("x", "val").tolist() == [1]
    (tmp_path / "names").write_text("a\n")
    for rule, where in ((f"x=names:{tmp_path / 'names'}", "--split"), ("y=subject:1", "subject"), ("y", "--split y")):
        refused(tmp_path / "no", where, "folder", folder, *OWN, "--split", rule)


def heading(joints, axes: str = "xyz") -> str:
    names = [SKELETONS["kinect_v2"].joints[j] for j in joints]
    return ",".join(f"{name}_{axis}" for name in names for axis in axes) + "\n" + ",".join("0" * 75)


LINE = ",".join("0" * 75) + "\n"


@pytest.mark.parametrize(
    "content, where",
    [
        ("", "b.csv: "),
        (",".join("0" * 60) + "\n", "b.csv: .*--skeleton.*kinect_v1"),
        (",".join("x" * 75) + "\n", "b.csv: "),
        (LINE + ",".join("0" * 74) + "\n", "b.csv:2: "),
        (LINE + "\n" + ",".join("0" * 74 + "x") + "\n", "b.csv:3: .*'x'"),
        (",".join("0" * 74) + ",\n", "b.csv: .*--repair"),
        (heading(reversed(range(25))), "b.csv: .*'right_thumb_x'"),
        (heading(range(25), "zyx"), "b.csv: .*'spine_base_z'"),
        (",".join(f"{a}{i}" for a in "xyz" for i in range(25)) + "\n", "b.csv: .*'x1'"),
        (LINE.replace(",", ";"), "b.csv: "),
        (",".join("0" * 74) + ",1e7\n", "b.csv: "),
        (",".join("0" * 50) + "\n", "folder: "),
        (",".join("0" * 74) + ",\xff", "b.csv: "),
    ],
)
def test_csv_recordings_that_are_wrong_are_refused(content, where, folder, tmp_path):
    (folder / "b.csv").write_text(content, encoding="latin1")
    refused(tmp_path / "out", re.compile(where), "folder", folder, *OWN)


@pytest.mark.parametrize(
    "values, where",
    [
        (np.zeros((3, 20, 3)), "--skeleton (it may be kinect_v1)"),
        (np.zeros((3, 25, 4)), "(3, 25, 4)"),
        (np.zeros((2, 40, 25, 3)), "np.transpose(array, (1, 0, 2, 3))"),
        (np.zeros((3, 60, 25, 2)), "np.transpose(array, (1, 3, 2, 0))"),
        (np.zeros((3, 75)), "(3, 75)"),
        (np.zeros((3, 25, 3), int), "int64"),
        (np.full((3, 25, 3), np.nan), "--repair"),
        (np.array([{}]), ""),
    ],
)
def test_npy_recordings_that_are_wrong_are_refused(values, where, folder, tmp_path):
    (folder / "b.csv").unlink()
    np.save(folder / "b.npy", values, allow_pickle=True)
    refused(tmp_path / "out", re.compile(f"b.npy: .*{re.escape(where)}"), "folder", folder, *OWN)


def test_files_that_are_damaged_or_ambiguous_are_refused(folder, tmp_path):
    out, path = tmp_path / "out", folder / "b.npy"
    np.save(path, np.zeros((3, 25, 3)))
    refused(out, "recordings.csv:2: ", "folder", folder, *OWN)
    (folder / "b.csv").unlink()
    path.write_bytes(path.read_bytes()[:-1])
    refused(out, "b.npy: ", "folder", folder, *OWN)
    path.unlink()
    write_table(folder, ["b,0"], "name,label")
    (folder / "b.skeleton").write_text("1\n1\nx")
    refused(out, "b.skeleton:3: ", "folder", folder, *OWN)
    refused(out, "b.skeleton: ", "folder", folder, *OWN, "--skeleton", "smpl")
    refused(out, tmp_path / "nowhere", "folder", tmp_path / "nowhere", *OWN)


def test_raw_and_centred_recordings_do_not_mix(folder, tmp_path):
    bring("folder", folder, *OWN, "--as-stored", "--out", tmp_path / "raw")
    centred = clips()["b"]
    np.savetxt(folder / "b.csv", (centred - centred[:, :, 1:2]).reshape(len(centred), -1), delimiter=",")
    refused(tmp_path / "out", re.compile("b.csv: .*--normalise"), "folder", folder, *OWN)
    bring("folder", folder, *OWN, "--normalise", "--out", tmp_path / "out")
    assert PackedDataset(tmp_path / "out").info["made"]["normalised"]
    stored = np.load(tmp_path / "raw" / "joints.npy")
    np.testing.assert_array_equal(stored[:3], clips()["a"].astype(np.float32))


def test_flags_that_contradict_are_refused(folder, tmp_path):
    for flags, where in (
        (("--name", "ntu60"), "--name"),
        (("--name", "a b"), "--name"),
        (("--dataset", "demo", "--classes", "12"), "--classes"),
        ((*OWN, "--skeleton", "nobody"), "nobody"),
        (("--dataset", "demo"), "recordings.csv: a"),
        ((*OWN, "--map-joints", "coco"), "kinect_v2 to coco"),
    ):
        refused(tmp_path / "out", where, "folder", folder, *flags)
    zero = ((*OWN, "--classes", "0"), (*OWN, "--repair", "0"))
    for flags in ((), ("--name", "x", "--dataset", "demo"), (*OWN, "--normalise", "--as-stored"), *zero):
        with pytest.raises(SystemExit):
            bring("folder", folder, *flags)


def test_gaps_are_refused_by_frame_or_repaired_where_asked(folder, tmp_path):
    rows = [line.split(",") for line in (folder / "b.csv").read_text().split()]
    whole = np.array(rows, float).reshape(4, 1, 25, 3)
    broken = whole.copy()
    broken[1:3, 0, 7] = np.nan
    np.savetxt(folder / "b.csv", broken.reshape(4, -1), delimiter=",")
    refused(tmp_path / "out", re.compile("b.csv: .* frame 1 .*--repair"), "folder", folder, *OWN)
    refused(tmp_path / "out", re.compile("b.csv: .*1–2.*--repair 1"), "folder", folder, *OWN, "--repair", "1")
    bring("folder", folder, *OWN, "--repair", "2", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.info["repaired"] == {"b": "frames 1-2"}
    expected = whole.copy()
    expected[1:3, 0, 7] = [(2 * whole[0, 0, 7] + whole[3, 0, 7]) / 3, (whole[0, 0, 7] + 2 * whole[3, 0, 7]) / 3]
    np.testing.assert_allclose(packed.recording(1), normalise(expected, num_people=1), atol=1e-5)
    (folder / "b.csv").write_text((folder / "b.csv").read_text().replace("nan", ""))
    bring("folder", folder, *OWN, "--repair", "2", "--out", tmp_path / "empty")
    np.testing.assert_array_equal(PackedDataset(tmp_path / "empty").joints, packed.joints)


def test_an_exported_folder_remembers_its_skeleton(tmp_path):
    folder = make(tmp_path / "folder", joints=20)
    bring("folder", folder, *OWN, "--skeleton", "kinect_v1", "--out", tmp_path / "v1")
    export("folder", "--data", tmp_path / "v1", "--as", "npy", "--out", tmp_path / "exported")
    bring("folder", tmp_path / "exported", *OWN, "--out", tmp_path / "again")
    for file in ("joints", "label", "name", "subject"):
        assert (tmp_path / "again" / f"{file}.npy").read_bytes() == (tmp_path / "v1" / f"{file}.npy").read_bytes()
    assert PackedDataset(tmp_path / "again").skeleton == SKELETONS["kinect_v1"]
    refused(tmp_path / "no", "--skeleton", "folder", folder, *OWN)
    (tmp_path / "exported" / "skeleton.json").write_text("{")
    refused(tmp_path / "no", "skeleton.json: ", "folder", tmp_path / "exported", *OWN)
