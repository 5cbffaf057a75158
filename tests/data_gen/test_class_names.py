import pytest

from data_gen.class_names import class_names
from data_gen.datasets import DATASETS, class_label
from data_gen.raw.simulation import ACTIONS


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_class_has_a_name_of_its_own(dataset):
    names = class_names(dataset)
    assert len(names) == len(set(names)) == DATASETS[dataset].classes
    assert all(names) and not any(name.startswith("A0") for name in names)


def test_names_stand_where_the_data_sets_number_them():
    ntu, pku = class_names("ntu120"), class_names("pku1")
    numbers = {1: "drink water", 23: "hand waving", 43: "falling down", 60: "walking apart", 61: "put on headphone"}
    assert {n: ntu[n - 1] for n in numbers} == numbers and ntu[119] == "rock-paper-scissors"
    assert class_names("ntu60") == ntu[:60]
    assert len(pku) == 51 and pku == class_names("pku2")
    assert (pku[0], pku[7], pku[10], pku[50]) == ("bow", "drink water", "falling", "writing")
    assert list(pku) == sorted(pku, key=str.lower)  # as the data set's list of actions is
    assert class_names("demo")[8] == ACTIONS[9].name == "stand up"


def test_other_data_sets_have_numbers():
    assert class_names("mine")[:2] == ("A001", "A002") and class_names("mine")[998] == "A999"
    assert class_label(0) == "A001"


def test_a_data_set_without_names_has_as_many_numbers_as_classes(monkeypatch):
    monkeypatch.setitem(DATASETS, "own", DATASETS["demo"])
    assert class_names("own") == tuple(f"A{n:03d}" for n in range(1, 13))
