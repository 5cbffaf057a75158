import time
import tracemalloc

import numpy as np
import pytest

from data_gen.datasets import parse_name
from data_gen.raw.normalise import normalise
from data_gen.raw.skeleton_file import MAX_BYTES, MAX_FRAMES, parse_skeleton
from tests.helpers import moving_body, skeleton_text
from utils.errors import UserError


def plain_parse(text: bytes) -> np.ndarray:
    """The same, value by value with float()."""
    lines = iter(text.decode().split("\n"))
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            next(lines), next(lines)
            bodies.append([[float(v) for v in next(lines).split()[:3]] for _ in range(25)])
        frames.append(bodies)
    result = np.zeros((len(frames), min(4, max(map(len, frames))), 25, 3))
    for t, bodies in enumerate(frames):
        for s, body in enumerate(bodies[:4]):
            result[t, s] = body
    return result


def frames(rng, counts):
    return [[rng.normal(size=(25, 3)) * 10.0 ** rng.integers(-4, 3) for _ in range(n)] for n in counts]


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_float(seed):
    rng = np.random.default_rng(seed)
    text = skeleton_text(frames(rng, rng.integers(0, 6, size=12)))
    np.testing.assert_array_equal(parse_skeleton(text), plain_parse(text))


@pytest.mark.parametrize(
    "spelling", ["0.1234567890123456789", "1e-3", "-2.5E+2", "7", "-7.", ".5", "-0", "+1.5", "0.30000000000000004"]
)
def test_every_spelling_of_a_number(spelling):
    text = skeleton_text(moving_body(np.random.default_rng(0), 2)).split(b"\n")
    text[6] = spelling.encode() + b" " + text[6].split(b" ", 1)[1]
    assert parse_skeleton(b"\n".join(text))[0, 0, 2, 0] == float(spelling)


@pytest.mark.parametrize("sign", ["", "-", "+"])
def test_numbers_of_every_length_with_the_point_anywhere(sign):
    """Above 8 and above 15 digits and point they are read in other ways; 9s carry the farthest, 0s may be lost."""
    rng = np.random.default_rng(0)
    spellings = [
        sign + digits[:point][-5:] + "." + digits[point:]
        for length in range(2, 24)
        for point in range(length + 1)
        for digits in ("9" * length, "0" * length, "".join(map(str, rng.integers(0, 10, length))))
    ] + [sign + "12345"[:length] for length in range(1, 6)]
    numbers = np.resize(spellings, (len(spellings) // 75 + 1, 25, 3))
    text = skeleton_text([[np.zeros((25, 3))]] * len(numbers)).replace(b"0 0 0 250.1", b"%s %s %s 250.1")
    bodies = parse_skeleton(text % tuple(word.encode() for word in numbers.ravel()))
    np.testing.assert_array_equal(bodies[:, 0], numbers.astype(float))
    np.testing.assert_array_equal(np.signbit(bodies[:, 0]), np.char.startswith(numbers, "-"))


def test_counts_may_be_written_in_unusual_ways():
    text = skeleton_text(moving_body(np.random.default_rng(0), 3))
    expected = parse_skeleton(text)
    for variant in (b"0" + text, text.replace(b"\n25\n", b"\n0025\n", 2), text.replace(b"\n1\n", b"\n01\n", 1)):
        np.testing.assert_array_equal(parse_skeleton(variant), expected)
    crowd = frames(np.random.default_rng(0), [2, 12, 1])
    np.testing.assert_array_equal(parse_skeleton(skeleton_text(crowd)), plain_parse(skeleton_text(crowd)))


def test_layout_does_not_matter():
    text = skeleton_text(moving_body(np.random.default_rng(0), 3))
    expected = parse_skeleton(text)
    for variant in (
        text.replace(b"\n", b"\r\n"),
        text.rstrip(),
        text + b"\n \n",
        b"\xef\xbb\xbf" + text,
        text.replace(b" ", b"   "),
        text.replace(b" ", b"\t"),
        text.replace(b"\n", b" \n  "),
        text.replace(b"\n", b" \r\n"),
    ):
        np.testing.assert_array_equal(parse_skeleton(variant), expected)


def test_nan_and_inf_count_only_in_x_y_z():
    text = skeleton_text(moving_body(np.random.default_rng(0), 2))
    for word in (b"nan", b"-nan", b"inf", b"-Infinity", b"-1.#IND", b"-nan(ind)"):
        np.testing.assert_array_equal(parse_skeleton(text.replace(b"250.1", word)), parse_skeleton(text))
        lines = text.split(b"\n")
        lines[8] = word + b" " + lines[8].split(b" ", 1)[1]
        with pytest.raises(UserError, match="line 9: x, y or z is not a finite number"):
            parse_skeleton(b"\n".join(lines))


def edit(line: int, new: str | None, count: int = 1):
    """A change of `count` lines from (1-based) `line` to `new`, or their removal."""

    def change(text: bytes) -> bytes:
        lines = text.split(b"\n")
        lines[line - 1 : line - 1 + count] = [] if new is None else [new.encode()]
        return b"\n".join(lines)

    return change


JOINT = "0.1 0.2 0.3 250.1 190.2 1000.3 500.4 -0.1 0.2 0.3 0.4 2"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda t: b"", "empty"),
        (lambda t: b" \n\n", "empty"),
        (lambda t: b"\x00" * 3000, "line 1: the number of frames should stand here"),
        (lambda t: bytes(range(256)) * 20, "line 1: the number of frames should stand here"),
        (edit(1, "0"), "line 1: the recording has zero frames"),
        (edit(1, "1000000000"), "line 1: 1000000000 frames are announced"),
        (edit(1, "-3"), "line 1: the number of frames should stand here"),
        (edit(1, "3.5"), "line 1: the number of frames should stand here"),
        (edit(1, "2"), "line 58: text goes on after the last of 2 frames"),
        (edit(1, "4"), "line 85: the file ends where the number of bodies of frame 4 of 4 should stand"),
        (edit(2, "1000000"), "line 85: frame 1 is cut short: 1000000 bodies, 83 lines"),
        (edit(2, "2"), "a body has 10 values"),
        (edit(4, "24"), "line 4: a body has 25 joints, this one 24"),
        (edit(4, "26"), "line 4: a body has 25 joints, this one 26"),
        (edit(10, None), "line 29: a joint has 12 values, this line has 1"),
        (edit(10, JOINT.rsplit(" ", 1)[0]), "line 10: a joint has 12 values, this line has 11"),
        (edit(10, JOINT + " 4"), "line 10: a joint has 12 values, this line has 13"),
        (edit(10, JOINT.replace("0.1", "abc", 1)), "line 10: not a number: 'abc'"),
        (edit(10, JOINT.replace("250.1", "25O.1")), "line 10: not a number: '25O.1'"),
        (edit(10, JOINT.replace("250.1", "2.5.1")), "line 10: not a number: '2.5.1'"),
        (edit(10, JOINT.replace("250.1", "25-0.1")), "line 10: not a number: '25-0.1'"),
        (edit(10, JOINT.replace("0.2", "1-0.2", 1)), "line 10: not a number: '1-0.2'"),
        (edit(10, JOINT.replace("0.2", ".", 1)), "line 10: not a number: '.'"),
        (edit(10, JOINT.replace("0.1", "1e999", 1)), "line 10: x, y or z is not a finite number"),
        (edit(10, JOINT.replace("0.1", "-1e38", 1)), "line 10: x, y or z is not a finite number of metres"),
        (edit(10, JOINT.replace("250.1", "-")), "line 10: not a number: '-'"),
        (edit(10, JOINT.replace("250.1", "-.")), "line 10: not a number: '-.'"),
        (edit(10, JOINT.replace("250.1", "e5")), "line 10: not a number: 'e5'"),
        (edit(10, JOINT.replace("250.1", "1e+")), "line 10: not a number: '1e\\+'"),
        (edit(10, JOINT.replace("250.1", "2nan")), "line 10: not a number: '2nan'"),
        (edit(10, JOINT.replace("250.1", "1e5-3")), "line 10: not a number: '1e5-3'"),
        (edit(10, JOINT.replace("250.1", "-1.#IND7 -1.#")), "line 10: a joint has 12 values, this line has 13"),
        (edit(10, JOINT.replace("250.1", "-1.#")), "line 10: not a number: '-1.#'"),
        (edit(10, JOINT.replace("250.1", "1_0")), "line 10: not a number: '1_0'"),
        (edit(10, JOINT.replace("250.1", "1\x1c2")), "line 10: not a number: "),
        (edit(3, "1 2 3 4 5 6 7 8 9 x"), "line 3: not a number: 'x'"),
        (edit(10, JOINT + " 0" * 1000), "line 10: a joint has 12 values, this line has 1012"),
        (edit(10, JOINT + " " * 20_000 + "0"), "line 10: 20056 bytes are too long a line"),
        (edit(10, ""), "line 10: a joint has 12 values, this line has 0"),
        (lambda t: b"\n" + t, "line 1: the number of frames should stand here, found ''"),
        (lambda t: t.replace(b"\n", b"\r"), "line 1: the number of frames should stand here"),
        (lambda t: t.decode().encode("utf-16"), "line 1: the number of frames should stand here"),
        (lambda t: t.replace(b"3", "٣".encode(), 1), "line 1: the number of frames should stand here"),
        (lambda t: t[: len(t) // 2], "cut short|a joint has 12 values"),
        (lambda t: t.replace(b"\n", b" "), "line 1"),
    ],
)  # fmt: skip
def test_damage_is_refused_with_line_and_reason(damage, message):
    text = damage(skeleton_text(moving_body(np.random.default_rng(0), 3)))
    with pytest.raises(UserError, match=message):
        parse_skeleton(text)


def test_cut_anywhere_it_is_refused_or_only_its_last_digits_are_gone():
    text = skeleton_text(moving_body(np.random.default_rng(0), 2)).rstrip()
    whole = parse_skeleton(text)
    for length in range(len(text) - 1):
        with pytest.raises(UserError):
            np.testing.assert_array_equal(parse_skeleton(text[:length]), whole)


def test_names():
    name = parse_name("S018C003P103R002A120")
    assert (name.setup, name.camera, name.subject, name.replication, name.label) == (18, 3, 103, 2, 119)
    for bad in ("S1C003P103R002A120", "S018C003P103R002A120x", "s018c003p103r002a120", "S018C003P103R002A000", ""):
        with pytest.raises(ValueError, match="name"):
            parse_name(bad)


def test_of_several_faults_the_first_line_is_named():
    lines = skeleton_text(moving_body(np.random.default_rng(0), 3)).split(b"\n")
    for line in (7, 20, 40):
        lines[line] = bytes([97 + line]) * line
    with pytest.raises(UserError, match="line 8: a joint has 12 values, this line has 1"):
        parse_skeleton(b"\n".join(lines))


def test_a_single_frame_is_a_recording():
    people = normalise(parse_skeleton(skeleton_text(moving_body(np.random.default_rng(0), 1))))
    assert people.shape == (1, 2, 25, 3) and people[0, 0].any() and not people[0, 1].any()


@pytest.mark.parametrize(
    "text, message",
    [
        (b"1" * (MAX_BYTES + 1), "larger than 32 MiB"),
        (b"%d\n" % (MAX_FRAMES + 1) + b"0\n" * (MAX_FRAMES + 1), "line 1: 20001 frames are announced"),
        (b"1" + b"\n" * (MAX_BYTES - 2) + b"1", "its lines are too many and too short"),
        (b"1 " * (MAX_BYTES // 2), "line 1: 33554431 bytes are too long a line"),
        (b" " * MAX_BYTES, "the file is empty"),
        (b"\n" * MAX_BYTES, "the file is empty"),
        (bytes(range(256)) * 2**17, "line 1: the number of frames should stand here"),
        (b"1\n1\n" + b"1234567890123456789012 " * (2**32 // 23 // 128), "line 3: "),
        (b"20000\n" + b"1\n" + b"1 " * 9 + b"1\n25\n" + (b"1 " * 11 + b"1\n") * 10**6, "line 30: the number of bodies"),
        (b"0\n" * (MAX_BYTES // 2), "its lines are too many and too short"),
        (
            skeleton_text([[np.ones((25, 3))]]).replace(b"1 1 1 250", b"1" * 2**20 + b"e 1 1 250"),
            "line 5: 1048625 bytes are too long a line",
        ),
        (
            skeleton_text([[np.ones((25, 3))]]).replace(b"1 1 1 250", b"1" * 2**20 + b" 1 1 250"),
            "line 5: 1048624 bytes are too",
        ),
    ],
    ids=[
        "bytes",
        "frames",
        "empty lines",
        "one line",
        "blanks",
        "line feeds",
        "binary",
        "wide",
        "joints",
        "short lines",
        "digits and more",
        "digits",
    ],
)
def test_large_nonsense_is_refused_in_little_time(text, message):
    start = time.process_time()
    with pytest.raises(UserError, match=message):
        parse_skeleton(text)
    assert time.process_time() - start < 5  # a fifth of a second on an idle core


def test_the_longest_recording_is_read():
    assert parse_skeleton(b"%d\n" % MAX_FRAMES + b"0\n" * MAX_FRAMES).shape == (MAX_FRAMES, 0, 25, 3)


@pytest.mark.parametrize("bodies, frames", [([4], 20_000), ([1] * 1000, 1000), ([4] * 200, 200)])
def test_memory_stays_within_the_multiple_of_the_file_that_is_stated(bodies, frames):
    """docs/reliability.md has these bounds; the shortest numbers take the most."""
    body = b"1 0 1 1 1 1 0 0 0 2\n25\n" + b"0 0 1 0 0 0 0 0 0 0 0 2\n" * 25
    text = b"%d\n" % frames + b"".join(b"%d\n" % count + body * count for count in bodies)
    text += b"0\n" * (frames - len(bodies))
    for read, more in ((parse_skeleton, 48), (lambda text: normalise(parse_skeleton(text)), 132)):
        tracemalloc.start()
        read(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 12 * len(text) + 1e6 * more
