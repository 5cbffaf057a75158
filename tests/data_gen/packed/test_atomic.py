import pytest

from data_gen.packed.atomic import atomic_files, atomic_write


def interrupted(path):
    path.write_text("half")
    raise KeyboardInterrupt


def test_a_file_is_replaced_once_the_block_has_ended(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and [*tmp_path.iterdir()] == [path]


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        interrupted(partial)
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_files_move_together_the_last_one_last(tmp_path, monkeypatch):
    moved = []
    replace = __import__("os").replace
    monkeypatch.setattr("os.replace", lambda a, b: (moved.append(b.name), replace(a, b)))
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "left").touch()
    with atomic_files(tmp_path, last="b") as folder:
        for name in "cba":
            (folder / name).write_text(name)
    assert moved == ["a", "c", "b"] and sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_of_a_block_that_fails_no_file_moves(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_files(tmp_path) as folder:
        interrupted(folder / "a")
    assert not [*tmp_path.iterdir()]
