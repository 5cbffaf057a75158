from dataclasses import replace

import pytest

from data_gen import class_names, folds
from data_gen.datasets import (
    DATASETS,
    choose_data,
    class_label,
    classes_of,
    from_test_name,
    open_dataset,
    packed_in,
    parse_name,
    rows_in,
)
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.raw.simulation import ACTIONS
from tests.helpers import own_dataset, tiny_dataset
from tests.programs import status_of
from utils.errors import UserError


def test_names_of_recordings_are_read_whole():
    name = parse_name("S018C003P103R002A120")
    assert (name.setup, name.camera, name.subject, name.replication, name.label) == (18, 3, 103, 2, 119)
    for bad in ("S1C003P103R002A120", "S018C003P103R002A120x", "s018c003p103r002a120", "S018C003P103R002A000", ""):
        with pytest.raises(UserError):
            parse_name(bad)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_every_class_of_a_published_data_set_has_a_name_of_its_own_or_none_has(dataset):
    assert len(set(dataset.class_names)) == len(dataset.class_names) and all(dataset.class_names)
    assert len(dataset.class_names) in (0, dataset.classes)


def test_class_names_stand_where_the_data_sets_number_them():
    ntu, pku = class_names.NTU, class_names.PKU
    numbers = {1: "drink water", 23: "hand waving", 43: "falling down", 60: "walking apart", 61: "put on headphone"}
    assert {n: ntu[n - 1] for n in numbers} == numbers and ntu[119] == "rock-paper-scissors"
    assert DATASETS["ntu60"].class_names == ntu[:60]
    assert (pku[0], pku[7], pku[10], pku[50]) == ("bow", "drink water", "falling", "writing")
    assert list(pku) == sorted(pku, key=str.lower)  # as the data set's list of actions is
    assert class_names.DEMO == tuple(action.name for _, action in sorted(ACTIONS.items()))


def test_classes_are_called_by_the_data_set_else_by_the_table_else_numbered(demo_root, tmp_path, monkeypatch):
    assert classes_of(PackedDataset(demo_root / "demo")) == list(class_names.DEMO)
    packed = own_dataset(tmp_path, "coco", 1, 2)
    assert classes_of(packed) == ["A001", "A002", "A003"] and class_label(119) == "A120"
    packed.class_names = ["walk", "sit", "fall"]
    assert classes_of(packed) == ["walk", "sit", "fall"]
    monkeypatch.setitem(DATASETS, "demo", replace(DATASETS["demo"], class_names=()))
    assert classes_of(PackedDataset(demo_root / "demo"))[-1] == "A012"


def test_a_cross_validation_has_a_run_for_each_fold(tmp_path, capsys):
    own_dataset(tmp_path / "mine", "coco", 1, 2, ["fold=kfold:3", "odd=subject:s1,s3,s5"])
    assert status_of(folds.main, ["mine_fold_lr1", "--data-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == ["mine_fold1_lr1", "mine_fold2_lr1", "mine_fold3_lr1"]
    assert status_of(folds.main, ["mine_flod", "--data-root", str(tmp_path)]) == 1
    assert "mine_fold" in capsys.readouterr().err


def test_a_data_root_knows_the_data_sets_in_it(tmp_path):
    tiny_dataset(tmp_path, num_frame=(2, 4))
    own_dataset(tmp_path / "copy", "coco", 1, 2)
    own_dataset(tmp_path / "mine", "coco", 1, 2, ["fold=kfold:3", "odd=subject:s1,s3,s5"])
    own_dataset(tmp_path / "elsewhere", "coco", 1, 2, name="other")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / INFO).write_text("{")
    folders = {name: path.name for name, (path, _) in packed_in(tmp_path).items()}
    assert folders == {"demo": "demo", "mine": "mine", "other": "elsewhere"}
    assert packed_in(tmp_path / "elsewhere")["other"][0] == tmp_path / "elsewhere" and packed_in(tmp_path / "no") == {}
    rows = rows_in(tmp_path)
    assert all(rows[name] == row for name, row in DATASETS.items() if name != "demo")
    assert rows["demo"].protocols[:-1] == DATASETS["demo"].protocols and rows["demo"].protocols[-1].name == "all"
    mine = rows["mine"]
    assert (mine.title, mine.classes) == ("my recordings", 3)
    assert [p.name for p in mine.protocols] == ["fold1", "fold2", "fold3", "odd", "all"]


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
        ("demo", ("demo", "xsub")),
        ("ntu60_xsub", ("ntu60", "xsub")),
        ("ntu120_xsetup_lr1", ("ntu120", "xsetup")),
        ("pku1_xview_lr1", ("pku1", "xview")),
    ):
        dataset, protocol = from_test_name(name, rows)
        assert (dataset.name, protocol.name) == expected
        assert choose_data(None, None, name, tmp_path) == (dataset, protocol)
    for name in ("mine", "mine_fold3", "ntu60", "ntu60_xsub2", "demo2", "demo_xview2"):  # a name is read whole
        assert from_test_name(name, rows) is None


def test_flags_choose_the_data_before_the_runs_name_does(tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2)

    def chosen(*arguments):
        dataset, protocol = choose_data(*arguments, tmp_path)
        return dataset.name, protocol.name

    assert chosen("ntu120", None, "ntu60_xview") == ("ntu120", "xsub")
    assert chosen("ntu60", None, "ntu60_xview") == chosen(None, None, "ntu60_xview") == ("ntu60", "xview")
    assert chosen(None, "cross_subject", "ntu60_xview") == ("ntu60", "xsub")
    assert chosen("mine", "all", "anything") == ("mine", "all")
    for arguments in (("ntu6", None, "x"), ("ntu60", "xsetup", "x"), (None, None, "anything"), ("mine", "fold3", "x")):
        with pytest.raises(UserError):
            chosen(*arguments)


def test_the_packed_data_set_that_is_opened_is_the_chosen_one(tmp_path):
    own_dataset(tmp_path / "elsewhere", "coco", 1, 2, ["fold=kfold:2", "few=names:" + names_file(tmp_path)])
    rows = rows_in(tmp_path)
    mine = rows["mine"]
    for root in (tmp_path, tmp_path / "elsewhere"):
        assert open_dataset(root, mine, mine.protocols[0]).name == "mine"
    for dataset, protocol, root in (
        (DATASETS["pku2"], DATASETS["pku2"].protocols[0], tmp_path),
        (DATASETS["demo"], DATASETS["demo"].protocols[0], tmp_path / "elsewhere"),
        (mine, mine.protocol("few"), tmp_path),
    ):
        with pytest.raises(UserError):
            open_dataset(root, dataset, protocol)
    assert open_dataset(tmp_path, mine, mine.protocol("few"), splits=["val"]).name == "mine"


def names_file(folder):
    (folder / "one.txt").write_text("clip_03\n")
    return str(folder / "one.txt")
