import random
import tracemalloc

import numpy as np
import pytest

from data_gen.datasets import PKU
from data_gen.raw import pku_files
from data_gen.raw.pku_files import Video, cut_video, find_split, parse_label, parse_video, read_split
from data_gen.raw.recordings import Recording
from tests.helpers import video_frames, video_text
from utils.errors import UserError


def plainly(text):
    return np.array([[float(v) for v in line.split()] for line in text.splitlines()]).reshape(-1, 2, 25, 3)


@pytest.mark.parametrize("spelling", ["%.3f", "%.7g", "%g", "%.17g", "%.6e", "%+.5f", "%12.4f"])
def test_values_are_those_of_float(spelling):
    text = video_text(video_frames(np.random.default_rng(1), 500), spelling)  # more than are read at a time
    people = parse_video(text.encode())
    assert people.dtype == np.float64 and len(people) == 500
    np.testing.assert_array_equal(people, plainly(text))


@pytest.mark.parametrize("first", ["7", "-7", ".5", "-.5", "5.", "0.000001", "-12345.678901", "1e-3", "+2", "0" * 40])
def test_the_first_value_has_nothing_before_it(first):
    text = f"{first} {video_text(video_frames(np.random.default_rng(1), 2)).split(' ', 1)[1]}"
    np.testing.assert_array_equal(parse_video(text.encode()), plainly(text))


def replaced(number, new):
    """A change of the (1-based) line to `new`, of a function of it."""
    return lambda lines: [new(line) if n == number else line for n, line in enumerate(lines, 1)]


FRAME_DAMAGE = {
    "one too few": (replaced(7, lambda t: t.rsplit(" ", 1)[0]), "line 7: a frame has 150 values, this line has 149"),
    "one too many": (replaced(400, lambda t: t + " 1"), "line 400: a frame has 150 values, this line has 151"),
    "blank line": (replaced(9, lambda t: ""), "line 9: a frame has 150 values, this line has 0"),
    "cut short": (lambda lines: [*lines[:99], lines[99][:300]], "line 100: a frame has 150 values, this line has"),
    "nan": (replaced(3, lambda t: "nan " + t.split(" ", 1)[1]), "line 3: x, y or z is not a finite number of metres"),
    "inf": (replaced(3, lambda t: "-inf " + t.split(" ", 1)[1]), "line 3: x, y or z is not a finite number of metres"),
    "far": (replaced(400, lambda t: t.rsplit(" ", 1)[0] + " 1e6"), "line 400: x, y or z is not a finite number"),
    "word": (replaced(250, lambda t: "0.l " + t.split(" ", 1)[1]), "line 250: not a number: '0.l'"),
    "underscore": (replaced(2, lambda t: "1_0 " + t.split(" ", 1)[1]), "line 2: not a number: '1_0'"),
    "two dots": (replaced(2, lambda t: "1.0.1 " + t.split(" ", 1)[1]), "line 2: not a number: '1.0.1'"),
    "two values in one": (replaced(1, lambda t: "1-2 " + t.split(" ", 1)[1]), "line 1: not a number: '1-2'"),
    "a sign": (replaced(399, lambda t: t.rsplit(" ", 1)[0] + " -"), "line 399: not a number: '-'"),
    "null bytes": (replaced(2, lambda t: "\0\0\0"), "line 2: a frame has 150 values"),
    "other digits": (replaced(2, lambda t: "٣ " + t.split(" ", 1)[1]), "line 2: not a number: "),
    "commas": (lambda lines: [line.replace(" ", ",") for line in lines], "line 1: a frame has 150 values"),
    "one line": (lambda lines: [" ".join(lines)], "line 1: "),
    "a long line": (replaced(8, lambda t: t + " " * 20_000 + "1"), "line 8: 2.* bytes are too long a line"),
    "nothing": (lambda lines: [], "the file is empty"),
    "blanks": (lambda lines: [" ", "\t", ""], "the file is empty"),
    "too long": (lambda lines: ["1"] * 20_001, "20001 lines, more than the 20000 frames of the longest"),
}  # fmt: skip


@pytest.mark.parametrize("damage", FRAME_DAMAGE)
def test_damaged_frames_are_refused_with_line_and_reason(damage):
    change, reason = FRAME_DAMAGE[damage]
    lines = video_text(video_frames(np.random.default_rng(2), 400)).splitlines()
    with pytest.raises(UserError, match=f"^{reason}"):
        parse_video("\n".join(change(lines)).encode())


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


def test_no_text_takes_much_memory():
    # Many values in one line; blanks alone; one digit a line.
    for text in (b"1 " * 2**23, b" " * 2**24, b"1\n" * 2**23, b"0 " * 149 + b"1" * 2**24):
        tracemalloc.start()
        with pytest.raises(UserError):
            parse_video(text)
        assert tracemalloc.get_traced_memory()[1] < 80 * 2**20  # the text itself and a few of its bytes
        tracemalloc.stop()


@pytest.mark.parametrize(
    "line, message",
    [
        ("52,1,5,1", "class 52 lies outside 1..51"),
        ("0,1,5,1", "class 0 lies outside 1..51"),
        ("-3,1,5,1", "class -3 lies outside"),
        ("3,7,7,1", "the clip is empty, 7 to 7"),
        ("3,-2,7,1", "the clip starts before the video, at -2"),
        ("3,7,-2,1", "the clip starts before the video, at -2"),
        ("3,400,420,1", "the clip starts at 400, behind the video's 400 frames"),
        ("3,1,5", "not class,start,end,confidence: '3,1,5'"),
        ("3,1,5,", "not class,start,end,confidence"),
        ("3,1,5, ", "not class,start,end,confidence"),
        ("3,1,5,1,1", "not class,start,end,confidence"),
        ("3,1.0,5,1", "not class,start,end,confidence"),
        ("3,1e2,5,1", "not class,start,end,confidence"),
        ("3 1 5 1", "not class,start,end,confidence"),
        ("3,1_0,50,1", "not class,start,end,confidence"),
        ("3,1,99999999999999999999,1", "not class,start,end,confidence"),
        ("three,1,5,1", "not class,start,end,confidence"),
    ],
)
def test_labels_that_are_no_clip_are_refused(line, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        parse_label(line.encode(), 51, 400)


def test_labels_are_read_and_repaired_by_rule():
    assert parse_label(b" 3 ,\t0 , 400 , 2 ", 51, 400) == (3, 0, 400, [])
    assert parse_label(b"1,4925,4036,1", 51, 5000) == (1, 4036, 4925, ["the ends 4925, 4036 are reversed: swapped"])
    assert parse_label(b"51,399,401,0", 51, 400)[1:3] == (399, 400)
    assert parse_label(b"51,399,401,0", 51, None) == (51, 399, 401, [])


@pytest.mark.parametrize("subfolder", [".", "split", "Split", "..", "../split"])
@pytest.mark.parametrize("file", ["cross_subject_v2.txt", "cross-subject_v2.txt", "cross-subject-v2.txt"])
def test_split_files_are_found(file, subfolder, tmp_path):
    (tmp_path / "raw" / "v2").mkdir(parents=True)
    (tmp_path / "raw" / "v2" / "cross_view_v2.txt").touch()
    where = tmp_path / "raw" / "v2" / subfolder
    where.mkdir(exist_ok=True)
    (where / file).touch()
    found = find_split(tmp_path / "raw" / "v2", "cross_subject_v2")
    assert found.samefile(where / file)
    with pytest.raises(FileNotFoundError, match=r"no split file cross_subject.txt in .*v2, .*split"):
        find_split(tmp_path / "raw" / "v2", "cross_subject")


def test_part_iis_own_folder_may_leave_out_its_suffix_but_beside_it_that_is_part_is(tmp_path):
    raw = tmp_path / "v2"
    raw.mkdir()
    (tmp_path / "cross-subject.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"no split file cross_subject_v2.txt"):
        find_split(raw, "cross_subject_v2")
    (raw / "cross-subject.txt").touch()
    assert find_split(raw, "cross_subject_v2") == raw / "cross-subject.txt"
    (tmp_path / "cross_subject_v2.txt").touch()
    assert find_split(raw, "cross_subject_v2") == tmp_path / "cross_subject_v2.txt"


def test_two_spellings_of_a_split_file_in_one_folder_are_refused(tmp_path):
    for name in ("cross-view.txt", "cross_view.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"holds both cross-view.txt and cross_view.txt: remove one of them"):
        find_split(tmp_path, "cross_view")


@pytest.mark.parametrize(
    "text, message",
    [
        ("T\n0002-L\n0003-L\nV\n0004-L\n", "line 3: videos should stand on lines 2 and 4 only"),
        ("T\n0002-L\nV\n0003-L\n0004-L\n", "line 5: videos should stand on lines 2 and 4 only"),
        ("0002-L\n0003-L\n", "line 1: videos should stand"),
        ("T\n0002-L\nV\n", "line 4 lists no video of this part"),
        ("T\n0002-L\nV", "ends on line 3; the videos should stand on lines 2 and 4"),
        ("T\n,\nV\n0003-L\n", "line 2 lists no video"),
        ("", "ends on line 1; the videos should"),
        ("T\n" + "0002-L," * 160_000 + "\nV\n0003-L", "larger than 1 MiB"),
    ],
)
def test_split_files_of_another_layout_are_refused(text, message, tmp_path):
    (tmp_path / "cross_view.txt").write_text(text)
    with pytest.raises(UserError, match=f"cross_view.txt: {message}"):
        read_split(tmp_path / "cross_view.txt", PKU[0].video)


@pytest.mark.parametrize("change", [None, "crlf", "cr", "bom", "unended", "blank end"])
def test_split_files_are_read_whatever_ends_their_lines(change, tmp_path):
    text = b"Training:\n0002-L, 0002-M,\nValidation:\n0003-L,0003-L,\n"
    text = {
        None: text,
        "crlf": text.replace(b"\n", b"\r\n"),
        "cr": text.replace(b"\n", b"\r"),
        "bom": b"\xef\xbb\xbf" + text,
        "unended": text[:-2],
        "blank end": text + b"\n \n",
    }[change]
    (tmp_path / "s.txt").write_bytes(text)
    split = read_split(tmp_path / "s.txt", PKU[0].video)
    assert split.side == {"0002-L": "train", "0002-M": "train", "0003-L": "val"} and not split.bad
    assert split.line == {"0002-L": 2, "0002-M": 2, "0003-L": 4}


def test_entries_of_a_split_file_that_cannot_be_used_are_left_out_and_named(tmp_path):
    path = tmp_path / "s.txt"
    path.write_bytes(b"T\n0002-L,0002-M 0002-R,../0004-M,\xff,0005-L\nV\n0003-L,0002-L\n")
    split = read_split(path, PKU[0].video)
    assert split.side == {"0005-L": "train", "0003-L": "val"}
    assert split.bad == {
        f"{path}: line 2: '0002-M 0002-R'": "not the name of a video of this part",
        f"{path}: line 2: '../0004-M'": "not the name of a video of this part",
        f"{path}: line 2: '\\xef\\xbf\\xbd'": "not the name of a video of this part",
        f"{path}: line 4: '0002-L'": "on line 2 too, but a video belongs to one side",
    }


def video(folder):
    files = [Recording("0002-L", str(folder / f"{kind}.txt")) for kind in ("skeleton", "label")]
    return Video("0002-L", *files, 51, "cross_view.txt, line 2,")


def test_clips_that_overlap_many_times_are_refused(tmp_path, monkeypatch):
    (tmp_path / "skeleton.txt").write_text(video_text(video_frames(np.random.default_rng(0), 60)))
    (tmp_path / "label.txt").write_text("1,0,60,1\n" * 5)
    assert len(cut_video(video(tmp_path)).clips) == 5
    monkeypatch.setattr(pku_files, "MAX_CUT", 200)
    cut = cut_video(video(tmp_path))
    assert len(cut.clips) == 3
    assert cut.bad == {
        f"{tmp_path / 'label.txt'}: line {n}": f"with this clip the video's have {60 * n} frames, more than 200"
        for n in (4, 5)
    }


def test_files_that_are_not_there_loop_or_are_too_large(tmp_path, monkeypatch):
    (tmp_path / "skeleton.txt").symlink_to(tmp_path / "skeleton.txt")
    assert cut_video(video(tmp_path)).bad == {
        str(tmp_path / "skeleton.txt"): "cannot be read (Too many levels of symbolic links)",
        str(tmp_path / "label.txt"): "no such file, but cross_view.txt, line 2, lists the video",
    }
    (tmp_path / "skeleton.txt").unlink()
    with open(tmp_path / "skeleton.txt", "wb") as file:
        file.truncate(2**40)
    (tmp_path / "label.txt").write_bytes(b" " * 2**20 + b"1,1,5,1")
    assert cut_video(video(tmp_path)).bad == {
        str(tmp_path / "skeleton.txt"): "larger than 128 MiB: too large for what it should be",
        str(tmp_path / "label.txt"): "larger than 1 MiB: too large for what it should be",
    }
