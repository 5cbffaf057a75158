import errno
import os

import numpy as np
import pytest

from utils.errors import UserError
from utils.files import atomic_files, atomic_write, locked, read_array, read_json, reading


def interrupted(path):
    path.write_text("half")
    raise KeyboardInterrupt


def write(path, text):
    with atomic_write(path) as partial:
        partial.write_text(text)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.json"
    write(path, "old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write(path, "old")

    def fail(error):
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise error

    for error in (ValueError("a bug"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), RuntimeError("broken")])  # torch's is a RuntimeError
def test_a_failed_write_names_the_file_in_one_line(tmp_path, error):
    message = r"^cannot write .*a\.json: .*broken.*; earlier files are intact$"
    with pytest.raises(OSError, match=message), atomic_write(tmp_path / "a.json"):
        raise error
    with pytest.raises(OSError, match=r"^cannot write .*nowhere/a\.json: .*No such file"):
        write(tmp_path / "nowhere" / "a.json", "")


def test_two_writers_of_one_file_do_not_share_a_half(tmp_path):
    path = tmp_path / "a.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_usual_permissions(tmp_path):
    write(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "b").st_mode


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


def test_a_file_is_on_the_disk_before_it_replaces_another(tmp_path, monkeypatch):
    path, flushed, right = tmp_path / "a", [], os.fsync
    write(path, "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (right(handle), flushed.append(path.read_text())))
    write(path, "new")
    assert flushed == ["old", "new"]  # the file, then the folder's list of names


def test_whatever_goes_wrong_in_a_users_file_names_it_once(tmp_path):
    path = tmp_path / "a"
    for error, message in (
        (UserError("wrong", line=3), f"{path}:3: wrong"),
        (UserError("wrong"), f"{path}: wrong"),
        (UserError(f"{path}: wrong"), f"{path}: wrong"),
        (ValueError("on\ntwo lines"), f"{path}: on two lines"),
        (EOFError(), f"{path}: EOFError"),
    ):
        with pytest.raises(UserError) as caught, reading(path):
            raise error
        assert str(caught.value) == message


def test_arrays_and_json_that_cannot_be_read_are_refused_by_name(tmp_path):
    path = tmp_path / "a"
    for content in (None, b"", b"x" * 200):
        if content is not None:
            path.write_bytes(content)
        for read in (read_array, read_json):
            with pytest.raises(UserError, match=str(path)):
                read(path)
    for array in (np.array([{}]), np.zeros(5)):
        with open(path, "wb") as file:
            np.save(file, array, allow_pickle=True)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match=str(path)):
            read_array(path)


def test_a_folder_is_locked_for_one_program_and_leaves_nothing_if_it_stays_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    with locked(folder), pytest.raises(UserError, match=str(folder)), locked(folder):
        pass
    assert not (tmp_path / "a").exists()
