import random

import numpy as np
import pytest

from data_gen.datasets import PKU
from data_gen.raw.pku_files import find_split, parse_label, parse_video, read_split
from tests.helpers import video_frames, video_text
from utils.errors import UserError


def plainly(text):
    return np.array([[float(v) for v in line.split()] for line in text.splitlines()]).reshape(-1, 2, 25, 3)


@pytest.mark.parametrize("spelling", ["%.3f", "%.17g", "%.6e", "%+12.4f"])
def test_values_are_those_of_float(spelling):
    text = video_text(video_frames(np.random.default_rng(1), 500), spelling)  # more than are read at a time
    people = parse_video(text.encode())
    assert people.dtype == np.float64 and len(people) == 500
    np.testing.assert_array_equal(people, plainly(text))


def replaced(number, new):
    """A change of the (1-based) line to `new`, of a function of it."""
    return lambda lines: [new(line) if n == number else line for n, line in enumerate(lines, 1)]


FRAME_DAMAGE = {
    "one too few": (replaced(7, lambda t: t.rsplit(" ", 1)[0]), 7),
    "one too many": (replaced(400, lambda t: t + " 1"), 400),
    "cut short": (lambda lines: [*lines[:99], lines[99][:300]], 100),
    "nan": (replaced(3, lambda t: "nan " + t.split(" ", 1)[1]), 3),
    "far": (replaced(400, lambda t: t.rsplit(" ", 1)[0] + " 1e6"), 400),
    "word": (replaced(250, lambda t: "0.l " + t.split(" ", 1)[1]), 250),
    "commas": (lambda lines: [line.replace(" ", ",") for line in lines], 1),
    "one line": (lambda lines: [" ".join(lines)], 1),
    "nothing": (lambda lines: [" ", "\t", ""], None),
}


@pytest.mark.parametrize("damage", FRAME_DAMAGE)
def test_damaged_frames_are_refused_with_their_line(damage):
    change, number = FRAME_DAMAGE[damage]
    lines = video_text(video_frames(np.random.default_rng(2), 400)).splitlines()
    with pytest.raises(UserError) as caught:
        parse_video("\n".join(change(lines)).encode())
    assert caught.value.line == number


def test_mutated_frames_are_read_as_float_reads_them_or_refused():
    rng = random.Random(0)
    sound = video_text(video_frames(np.random.default_rng(3), 3)).encode()
    read = 0
    for _ in range(1500):
        text = bytearray(sound)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            text[at : at + rng.randint(0, 2)] = rng.choice([b"", *(bytes([c]) for c in b"09.-+eE \n\t_#\0\xff")])
        try:
            people = parse_video(bytes(text))
        except UserError as error:
            assert str(error).isprintable()
            continue
        read += 1
        np.testing.assert_array_equal(people, plainly(text.decode().strip()))
        assert b"_" not in text and len(people) == text.strip().count(b"\n") + 1
    assert 100 < read < 1400


@pytest.mark.parametrize(
    "line", ["52,1,5,1", "0,1,5,1", "3,7,7,1", "3,-2,7,1", "3,7,-2,1", "3,400,420,1", "3,1,5", "3,1,5, ", "3,1.0,5,1"]
)
def test_labels_that_are_no_clip_are_refused(line):
    with pytest.raises(UserError):
        parse_label(line.encode(), 51, 400)


def test_labels_are_read_and_repaired_by_rule():
    assert parse_label(b" 3 ,\t0 , 400 , 2 ", 51, 400) == (3, 0, 400, [])
    assert parse_label(b"1,4925,4036,1", 51, 5000) == (1, 4036, 4925, ["the ends 4925, 4036 are reversed: swapped"])
    assert parse_label(b"51,399,401,0", 51, 400)[1:3] == (399, 400)


@pytest.mark.parametrize("subfolder", [".", "split", "Split", "..", "../split"])
@pytest.mark.parametrize("file", ["cross_subject_v2.txt", "cross-subject_v2.txt"])
def test_split_files_are_found(file, subfolder, tmp_path):
    (tmp_path / "raw" / "v2").mkdir(parents=True)
    (tmp_path / "raw" / "v2" / "cross_view_v2.txt").touch()
    where = tmp_path / "raw" / "v2" / subfolder
    where.mkdir(exist_ok=True)
    (where / file).touch()
    found = find_split(tmp_path / "raw" / "v2", "cross_subject_v2")
    assert found.samefile(where / file)
    with pytest.raises(UserError, match="cross_subject.txt .*v2, .*split"):
        find_split(tmp_path / "raw" / "v2", "cross_subject")


def test_part_iis_own_folder_may_leave_out_its_suffix_but_beside_it_that_is_part_is(tmp_path):
    raw = tmp_path / "v2"
    raw.mkdir()
    (tmp_path / "cross-subject.txt").touch()
    with pytest.raises(UserError, match="cross_subject_v2.txt"):
        find_split(raw, "cross_subject_v2")
    (raw / "cross-subject.txt").touch()
    assert find_split(raw, "cross_subject_v2") == raw / "cross-subject.txt"
    (tmp_path / "cross_subject_v2.txt").touch()
    assert find_split(raw, "cross_subject_v2") == tmp_path / "cross_subject_v2.txt"


@pytest.mark.parametrize(
    "text, line",
    [
        ("T\n0002-L\n0003-L\nV\n0004-L\n", 3),
        ("T\n0002-L\nV\n0003-L\n0004-L\n", 5),
        ("0002-L\n0003-L\n", 1),
        ("T\n0002-L\nV\n", 4),
        ("T\n0002-L\nV", 3),
        ("T\n,\nV\n0003-L\n", 2),
        ("", 1),
    ],
)
def test_split_files_of_another_layout_are_refused(text, line, tmp_path):
    (tmp_path / "cross_view.txt").write_text(text)
    with pytest.raises(UserError, match=f"cross_view.txt:{line}: "):
        read_split(tmp_path / "cross_view.txt", PKU[0].video)


def test_split_files_are_read_whatever_ends_their_lines(tmp_path):
    text = b"Training:\n0002-L, 0002-M,\nValidation:\n0003-L,0003-L,\n"
    for content in (text, b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), text[:-2], text + b"\n \n"):
        (tmp_path / "s.txt").write_bytes(content)
        split = read_split(tmp_path / "s.txt", PKU[0].video)
        assert split.split == {"0002-L": "train", "0002-M": "train", "0003-L": "val"} and not split.bad


def test_entries_of_a_split_file_that_cannot_be_used_are_left_out_and_named(tmp_path):
    path = tmp_path / "s.txt"
    path.write_bytes(b"T\n0002-L,0002-M 0002-R,../0004-M,\xff,0005-L\nV\n0003-L,0002-L\n")
    split = read_split(path, PKU[0].video)
    assert split.split == {"0002-L": "", "0005-L": "train", "0003-L": "val"}
    assert split.bad == {
        f"{path}: line 2: '0002-M 0002-R'": "not the name of a video of this part",
        f"{path}: line 2: '../0004-M'": "not the name of a video of this part",
        f"{path}: line 2: '\\xef\\xbf\\xbd'": "not the name of a video of this part",
        f"{path}: line 4: '0002-L'": "on line 2 too, but a video belongs to one split",
    }
