import os

import numpy as np
import pytest

from data_gen import add_protocol
from data_gen.datasets import DATASETS, parse_name
from data_gen.packed.protocols import Table, derive, derive_splits, parse_split
from data_gen.packed.reader import PackedDataset
from tests.helpers import own_dataset, tiny_dataset
from tests.programs import status_of
from utils.errors import UserError

NAMES = [f"S{s:03d}C{c:03d}P{p:03d}R001A001" for s in (1, 2) for c in (1, 2, 3) for p in (1, 2, 3, 6, 10)]


def split_by(text: str, table: Table) -> dict[str, list[int]]:
    (split,) = derive([parse_split(text)], table)[0].values()
    return split


@pytest.mark.parametrize("protocol", DATASETS["ntu60"].protocols, ids=lambda p: p.name)
def test_rules_give_the_published_protocols(protocol):
    there = {str(getattr(parse_name(name), protocol.field)) for name in NAMES}
    values = ",".join(str(v) for v in sorted(protocol.train) if str(v) in there)
    expected = derive_splits(DATASETS["ntu60"], [parse_name(name) for name in NAMES])[protocol.name]
    assert split_by(f"mine={protocol.field}:{values}", Table.of_names(NAMES)) == expected


@pytest.mark.parametrize("count", [2, 5, 11])
def test_folds_validate_on_every_recording_once_and_on_no_subject_they_train_on(count):
    subjects = [f"{i % 11:03d}" for i in range(40)]
    splits, rules = derive([parse_split(f"fold=kfold:{count}")], Table([f"r{i:02d}" for i in range(40)], subjects))
    assert list(splits) == [f"fold{k}" for k in range(1, count + 1)]
    for name, by_split in splits.items():
        rule, said = rules[name].split(", val subjects ")
        assert rule == f"kfold:{count}" and set(said.split(", ")) == {str(i % 11) for i in by_split["val"]}
    assert sorted(i for split in splits.values() for i in split["val"]) == list(range(40))
    for split in splits.values():
        assert sorted(split["train"] + split["val"]) == list(range(40))
        assert not {subjects[i] for i in split["train"]} & {subjects[i] for i in split["val"]}
    sizes = [len({subjects[i] for i in split["val"]}) for split in splits.values()]
    assert max(sizes) - min(sizes) <= 1


def test_folds_do_not_depend_on_the_order_of_the_recordings():
    names, subjects = [f"r{i:02d}" for i in range(30)], [str(i % 7) for i in range(30)]
    rule, order = [parse_split("f=kfold:3")], np.random.default_rng(0).permutation(30)
    first = derive(rule, Table(names, subjects))[0]
    second = derive(rule, Table([names[i] for i in order], [subjects[i] for i in order]))[0]
    for name in first:
        assert {names[i] for i in first[name]["val"]} == {names[order[i]] for i in second[name]["val"]}


def test_a_list_of_names_is_the_training_side(tmp_path):
    (tmp_path / "list.txt").write_text(f"{NAMES[3]}\n\n  {NAMES[0]}.skeleton\r\n")
    split = split_by(f"some=names:{tmp_path / 'list.txt'}", Table(NAMES))
    assert split["train"] == [0, 3] and split["val"] == [i for i in range(len(NAMES)) if i not in (0, 3)]
    (tmp_path / "list.txt").write_text(f"{NAMES[3]}\nnobody\n")
    with pytest.raises(UserError, match="list.txt: .*nobody"):
        split_by(f"some=names:{tmp_path / 'list.txt'}", Table(NAMES))
    with pytest.raises(UserError, match="nothing.txt"):
        split_by(f"some=names:{tmp_path / 'nothing.txt'}", Table(NAMES))


@pytest.mark.parametrize(
    "text",
    ["mine", "mine=subject", "mine=label:1", "=subject:1", "../x=subject:1", "mine=subject:1,,2", "mine=names:"]
    + ["all=kfold:2", "mine=kfold:1", "mine=kfold:two", "mine=kfold:2,3"],
)
def test_rules_that_are_none_are_refused(text):
    with pytest.raises(UserError, match=text):
        parse_split(text)


@pytest.mark.parametrize(
    "rules, message",
    [
        (["a=subject:1,4,5"], "protocol a: .*4, 5"),
        (["a=subject:001,2,3,6,10"], "protocol a .*val"),
        (["a=camera:1", "a=camera:2"], "protocol a: "),
        (["a1=camera:1", "a=kfold:2"], "protocol a1: "),
        (["a=kfold:6"], "protocol a: 6 folds .* 5 subjects"),
    ],
)
def test_rules_that_do_not_fit_the_recordings_are_refused(rules, message):
    with pytest.raises(UserError, match=message):
        derive(map(parse_split, rules), Table.of_names(NAMES))


def test_protocols_are_added_to_a_packed_data_set(tmp_path, capsys):
    before = tiny_dataset(tmp_path, num_frame=(2, 4))
    rules = ["--split", "few=subject:001,3", "--split", "fold=kfold:2"]
    assert status_of(add_protocol.main, [str(before.path), *rules]) == 0
    assert "few (subject:1,3): 12 train, 12 val" in capsys.readouterr().out
    packed = PackedDataset(before.path)
    assert packed.protocols == ["xsub", "xview", "few", "fold1", "fold2"] and not (packed.path / ".partial").exists()
    assert packed.info["protocols"]["few"] == {"train": 12, "val": 12, "rule": "subject:1,3"}
    assert packed.info["protocols"]["xsub"] == before.info["protocols"]["xsub"]
    subjects = [parse_name(name).subject for name in packed.names]
    assert packed.split("few", "train").tolist() == [i for i, p in enumerate(subjects) if p in (1, 3)]
    assert packed.joints.tobytes() == before.joints.tobytes()


@pytest.mark.parametrize("split", ["xsub=subject:1", "cross_view=subject:1", "more=subject:77", "more"])
def test_a_refused_protocol_leaves_the_data_set_as_it_was(split, tmp_path, capsys):
    folder = tiny_dataset(tmp_path, num_frame=(2, 4), subjects=(1, 3)).path
    before = {file: (folder / file).read_bytes() for file in os.listdir(folder)}
    assert status_of(add_protocol.main, [str(folder), "--split", "good=subject:1", "--split", split]) == 1
    assert split.partition("=")[0] in capsys.readouterr().err
    assert {file: (folder / file).read_bytes() for file in os.listdir(folder)} == before


def test_subjects_that_names_do_not_tell_are_kept_beside_them(tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    assert packed.table("subject") == [f"s{i % 6}" for i in range(24)] and packed.table("camera") is None
    add_protocol.add_protocols(packed.path, [parse_split("two=subject:s1,s4")])
    assert PackedDataset(packed.path).split("two", "train").tolist() == [1, 4, 7, 10, 13, 16, 19, 22]
    with pytest.raises(UserError, match="camera"):
        add_protocol.add_protocols(packed.path, [parse_split("cam=camera:1")])


def test_damaged_tables_are_refused(tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    for values in (np.load(packed.path / "subject.npy")[1:], np.arange(24)):
        np.save(packed.path / "subject.npy", values)
        with pytest.raises(UserError, match="subject.npy"):
            packed.table("subject")
