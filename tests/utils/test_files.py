import errno
import os

import numpy as np
import pytest

from tests.helpers import run_python
from utils import files
from utils.errors import UserError
from utils.files import PARTIAL, atomic_files, atomic_write, read_array, read_json, read_text, reading


def write(path, text):
    with atomic_write(path) as partial:
        partial.write_text(text)


def write_half(path, error):
    path.write_text("half")
    raise error


# ---- read ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, message",
    [
        (UserError("it is empty"), "/a.csv: it is empty"),
        (UserError("2 columns; 3 expected", line=7), "/a.csv:7: 2 columns; 3 expected"),
        (UserError("/a.csv: it is empty"), "/a.csv: it is empty"),
        (FileNotFoundError(errno.ENOENT, "x"), "/a.csv: no such file"),
        (PermissionError(errno.EACCES, "Permission denied"), "/a.csv: cannot be read (Permission denied)"),
        (KeyError("label"), "/a.csv: has no entry 'label'"),
        (ValueError("a\nb"), "/a.csv: a b"),
    ],
)
def test_whatever_goes_wrong_while_a_file_is_read_becomes_one_line_with_its_path(error, message):
    with pytest.raises(UserError) as caught, reading("/a.csv"):
        raise error
    assert str(caught.value) == message


def test_text_json_and_arrays_are_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve")
    (tmp_path / "a.json").write_text('{"a": [1]}')
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    assert read_text(tmp_path / "a.txt") == "naïve" and read_json(tmp_path / "a.json") == {"a": [1]}
    array = read_array(tmp_path / "a.npy")
    assert isinstance(array, np.memmap) and array.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("read", [read_text, read_json, read_array])
def test_a_damaged_or_missing_file_is_refused_by_its_path(tmp_path, read):
    path = tmp_path / "damaged"
    with pytest.raises(UserError, match=f"^{path}: no such file"):
        read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=f"^{path}: "):
        read(path)


def test_an_array_of_objects_is_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy"):
        read_array(tmp_path / "a.npy")


def test_a_fingerprint_depends_on_values_and_their_order():
    a, b = np.arange(4), np.arange(4)[::-1]
    assert files.fingerprint(a, "x") == files.fingerprint(b[::-1], "x") and len(files.fingerprint(a)) == 64
    assert len({files.fingerprint(*parts) for parts in ([a], [b], [a, b], [b, a], [a, "x"])}) == 5


# ---- write -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, error):
    path = tmp_path / "a.json"
    write(path, "old")
    with pytest.raises(type(error)), atomic_write(path) as partial:
        write_half(partial, error)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.name.endswith(PARTIAL)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), RuntimeError("broken")])  # torch's is a RuntimeError
def test_a_failed_write_names_the_file_in_one_line(tmp_path, error):
    with pytest.raises(OSError, match=r"^cannot write .*a\.json: .*broken"), atomic_write(tmp_path / "a.json"):
        raise error
    with pytest.raises(OSError, match=r"^cannot write .*nowhere/a\.json: "):
        write(tmp_path / "nowhere" / "a.json", "")


def test_a_full_disk_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_is_full", lambda folder: True)
    for writer in (lambda: atomic_write(tmp_path / "a"), lambda: atomic_files(tmp_path / "b")):
        with pytest.raises(OSError, match="disk is full"), writer():
            raise OSError(errno.ENOSPC, "No space left on device")


def test_two_writers_of_one_file_do_not_share_a_half(tmp_path):
    path = tmp_path / "a.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_replaces_another(tmp_path, monkeypatch):
    path, flushed, right = tmp_path / "a", [], os.fsync
    write(path, "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (right(handle), flushed.append(path.read_text())))
    write(path, "new")
    assert flushed == ["old", "new"]  # the file, then the folder's list of names


def test_files_move_together_the_last_one_last_or_not_at_all(tmp_path, monkeypatch):
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(b.name), replace(a, b)))
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / "left").touch()  # by a killed program
    (tmp_path / "outdated").touch()
    with pytest.raises(KeyboardInterrupt), atomic_files(tmp_path, outdated=["outdated"]) as folder:
        write_half(folder / "a", KeyboardInterrupt())
    assert [path.name for path in tmp_path.iterdir()] == ["outdated"]
    with atomic_files(tmp_path, last="b", outdated=["outdated"]) as folder:
        for name in "cba":
            (folder / name).write_text(name)
    assert moved == ["a", "c", "b"] and sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


# ---- lock ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_locked_for_one_program(tmp_path):
    folder = tmp_path / "a"
    code = f"from pathlib import Path; from utils.files import locked; locked(Path({str(folder)!r})).__enter__()"
    with files.locked(folder):
        assert f"UserError: {folder}: " in run_python("-c", code).stderr
    assert run_python("-c", code).stderr == ""


def test_folders_made_for_a_lock_go_if_they_stay_empty(tmp_path):
    with files.locked(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    with files.locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
