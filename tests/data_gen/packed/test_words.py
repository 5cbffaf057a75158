from data_gen.packed.words import counted


def test_one_thing_has_no_plural():
    told = [counted(1, "epoch"), counted(1200, "epoch"), counted(0, "step"), counted(1, "class"), counted(2, "class")]
    assert told == ["1 epoch", "1,200 epochs", "0 steps", "1 class", "2 classes"]
    assert [counted(1, "person"), counted(2, "person")] == ["1 person", "2 people"]
