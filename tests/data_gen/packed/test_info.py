import json

import numpy as np
import pytest

from data_gen import folds, recipes
from data_gen.datasets import DATASETS, from_test_name, packed_in, rows_in
from data_gen.packed import catalogue
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.writer import packing
from data_gen.skeletons import KINECT_V2, SKELETONS
from tests.helpers import own_dataset, tiny_dataset
from tests.programs import status_of
from utils.errors import UserError


@pytest.mark.parametrize("skeleton, people, coordinates", [("coco", 1, 2), ("kinect_v1", 2, 3), ("smpl", 5, 3)])
def test_any_skeleton_is_packed_and_read_again(skeleton, people, coordinates, tmp_path):
    packed = own_dataset(tmp_path, skeleton, people, coordinates)
    assert packed.skeleton == SKELETONS[skeleton]
    assert packed.shape == packed.recording(3).shape[1:] == (people, len(SKELETONS[skeleton].joints), coordinates)
    assert packed.title == "my recordings" and packed.protocols == ["fold1", "fold2"]
    assert packed.info["protocols"]["fold1"]["rule"] == "kfold:2, val subjects s0, s2, s4"


def test_a_data_set_that_names_no_skeleton_is_kinect_v2s(tmp_path):
    folder = tiny_dataset(tmp_path, num_frame=(2, 4)).path
    info = json.loads((folder / INFO).read_text())
    assert info.pop("skeleton")["parents"] == list(KINECT_V2.parents)
    (folder / INFO).write_text(json.dumps(info))
    packed = PackedDataset(folder)
    assert packed.skeleton == KINECT_V2 and packed.shape == (2, 25, 3) and packed.class_names is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"skeleton": None}, "its skeleton: a skeleton is an object"),
        ({"skeleton": SKELETONS["smpl"].to_json()}, r"joints.npy: holds float32 .*expected float32 \(-1, -1, 24, -1\)"),
        ({"skeleton": {"name": "x", "joints": ["a"] * 17, "parents": [0] * 17}}, "its skeleton: x: two joints are"),
        ({"class_names": ["a", "b"]}, "class_names is not a list of 3 texts"),
        ({"class_names": [1, 2, 3]}, "class_names is not a list of 3 texts"),
        ({"title": 3}, "title is not a text"),
    ],
)
def test_a_definition_that_does_not_fit_is_refused(change, message, tmp_path):
    own_dataset(tmp_path, "coco", 1, 2)
    info = json.loads((tmp_path / INFO).read_text())
    (tmp_path / INFO).write_text(json.dumps(info | change))
    with pytest.raises(UserError, match=message):
        PackedDataset(tmp_path)


@pytest.mark.parametrize("shape", [(0, 17, 2), (101, 17, 2), (1, 17, 1), (1, 17, 4), (1, 18, 2), (17, 2)])
def test_frames_of_other_shapes_are_refused(shape, tmp_path):
    packed = own_dataset(tmp_path, "coco", 1, 2)
    np.save(tmp_path / "joints.npy", np.zeros((packed.num_frame.sum(), *shape), np.float32))
    with pytest.raises(UserError, match="joints.npy: .*holds"):
        PackedDataset(tmp_path)


def test_a_cross_validation_has_a_run_for_each_fold(tmp_path, capsys):
    own_dataset(tmp_path / "mine", "coco", 1, 2, ["fold=kfold:3", "odd=subject:s1,s3,s5"])
    assert status_of(folds.main, ["mine_fold_lr1", "--data-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == ["mine_fold1_lr1", "mine_fold2_lr1", "mine_fold3_lr1"]
    assert status_of(folds.main, ["mine_flod", "--data-root", str(tmp_path)]) == 1
    assert "no folds are called mine_flod; known: mine_fold. Make" in capsys.readouterr().err


def pack_one(folder, shape, people, info=None, tables=None):
    with packing(folder, shape) as writer:
        writer.add("a", 0, people)
        writer.finish({}, {"dataset": "b", "classes": 1} | writer.counts({}) | (info or {}), tables)


def test_a_writer_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"a has the shape \(3, 2, 25, 3\), expected \(T, 1, 17, 2\)"):
        pack_one(tmp_path, (1, 17, 2), np.zeros((3, 2, 25, 3)))
    with pytest.raises(ValueError, match="the skeleton has 25 joints, the recordings 17"):
        pack_one(tmp_path, (1, 17, 2), np.zeros((3, 1, 17, 2)))
    with pytest.raises(ValueError, match="subject: not a value of letters, digits, - and _ for each recording"):
        pack_one(tmp_path, (2, 25, 3), np.zeros((3, 2, 25, 3)), tables={"subject": []})
    assert not any(tmp_path.iterdir())
    pack_one(tmp_path, (2, 25, 3), np.zeros((3, 2, 25, 3)), {"class_names": ["walk"]}, {"camera": ["2"]})
    packed = PackedDataset(tmp_path)
    assert packed.class_names == ["walk"] and packed.table("camera") == ["2"] and packed.table("subject") is None


def test_a_data_root_knows_the_data_sets_in_it(tmp_path):
    tiny_dataset(tmp_path, num_frame=(2, 4))
    own_dataset(tmp_path / "copy", "coco", 1, 2)
    own_dataset(tmp_path / "mine", "coco", 1, 2, ["fold=kfold:3", "odd=subject:s1,s3,s5"])
    own_dataset(tmp_path / "elsewhere", "coco", 1, 2, name="other")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / INFO).write_text("{")
    found = packed_in(tmp_path)
    assert {name: path.name for name, path in found.items()} == {"demo": "demo", "mine": "mine", "other": "elsewhere"}
    assert packed_in(tmp_path / "elsewhere") == {"other": tmp_path / "elsewhere"} and packed_in(tmp_path / "no") == {}
    rows = rows_in(tmp_path)
    assert [row for name, row in rows.items() if name in DATASETS and name != "demo"] == [
        row for row in DATASETS.values() if row.name != "demo"
    ]
    assert rows["demo"].protocols[:-1] == DATASETS["demo"].protocols and rows["demo"].protocols[-1].name == "all"
    mine = rows["mine"]
    assert (mine.title, mine.classes) == ("my recordings", 3)
    assert [p.name for p in mine.protocols] == ["fold1", "fold2", "fold3", "odd", "all"]
    assert mine.protocol("odd").recipe == recipes.OWN


def test_a_runs_name_begins_with_the_longest_protocol_that_fits(tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2, ["fold=kfold:2", "fold12=subject:s1"])
    own_dataset(tmp_path / "demo_more", "coco", 1, 2, ["x=kfold:2"], name="demo_more")
    rows = rows_in(tmp_path)
    for name, expected in (
        ("mine_fold1_lr1", ("mine", "fold1")),
        ("mine_fold12", ("mine", "fold12")),
        ("demo_more_x2_again", ("demo_more", "x2")),
        ("demo_xview", ("demo", "xview")),
        ("demo_anything", ("demo", "xsub")),
    ):
        dataset, protocol = from_test_name(name, rows)
        assert (dataset.name, protocol.name) == expected
    assert from_test_name("mine", rows) is None and from_test_name("mine_fold3", rows) is None


def test_a_data_set_that_is_converted_again_while_others_are_looked_for_is_no_obstacle(tmp_path, monkeypatch):
    def read(path):
        info = right(path)
        path.unlink()  # as a conversion does before it moves its files
        return info

    own_dataset(tmp_path / "mine", "kinect_v2", 2, 3)
    right = catalogue.read_info
    monkeypatch.setattr(catalogue, "read_info", read)
    assert "mine" in rows_in(tmp_path)
