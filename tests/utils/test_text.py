from utils.text import counted, first_names, nearest_first, table


def test_one_thing_has_no_plural():
    assert [counted(1, "epoch"), counted(1200, "epoch"), counted(0, "step")] == ["1 epoch", "1,200 epochs", "0 steps"]
    assert [counted(1, "class"), counted(2, "class")] == ["1 class", "2 classes"]
    assert [counted(1, "person"), counted(2, "person")] == ["1 person", "2 people"]


def test_a_long_list_of_names_is_cut_the_nearest_to_a_mistyped_one_first():
    assert first_names(["a", "b"]) == "a, b"
    assert first_names(list("abcdefg"), 3) == "a, b, c and 4 more"
    assert nearest_first("xveiw", ["xsub", "xsetup", "xview"], 1) == "xview and 2 more"


def test_the_columns_of_a_table_line_up():
    lines = table(["run", "top1"], [["mine", "1.0"], ["b", "100.0"]]).splitlines()
    assert lines == ["| run  | top1  |", "| ---- | ----- |", "| mine | 1.0   |", "| b    | 100.0 |"]
