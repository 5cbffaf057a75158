import numpy as np
import pytest

from data_gen.raw.skeleton_file import parse_skeleton
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


@pytest.mark.parametrize("counts", [[1, 0, 2], [0, 6, 4, 12, 1], [0, 0]])
def test_values_are_those_of_float(counts):
    text = skeleton_text(frames(np.random.default_rng(0), counts))
    np.testing.assert_array_equal(parse_skeleton(text), plain_parse(text))


@pytest.mark.parametrize("spelling", ["0.1234567890123456789", "-2.5E+2", "-7.", ".5", "-0", "0.30000000000000004"])
def test_every_spelling_of_a_number(spelling):
    text = skeleton_text(moving_body(np.random.default_rng(0), 2)).split(b"\n")
    text[6] = spelling.encode() + b" " + text[6].split(b" ", 1)[1]
    assert parse_skeleton(b"\n".join(text))[0, 0, 2, 0] == float(spelling)


def test_layout_does_not_matter():
    text = skeleton_text(moving_body(np.random.default_rng(0), 3))
    expected = parse_skeleton(text)
    for variant in (
        text.replace(b"\n", b"\r\n"),
        text.rstrip(),
        text + b"\n \n",
        b"\xef\xbb\xbf" + text,
        text.replace(b" ", b" \t "),
        text.replace(b"\n", b" \r\n  "),
    ):
        np.testing.assert_array_equal(parse_skeleton(variant), expected)


def test_nan_and_inf_count_only_in_x_y_z():
    text = skeleton_text(moving_body(np.random.default_rng(0), 2))
    for word in (b"nan", b"-nan", b"inf", b"-Infinity", b"-1.#IND", b"-nan(ind)"):
        np.testing.assert_array_equal(parse_skeleton(text.replace(b"250.1", word)), parse_skeleton(text))
        lines = text.split(b"\n")
        lines[8] = word + b" " + lines[8].split(b" ", 1)[1]
        with pytest.raises(UserError, match="line 9: "):
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
    "damage, line",
    [
        (lambda t: b" \n\n", None),
        (edit(1, "0"), 1),
        (edit(1, "1000000000"), 85),
        (edit(1, "-3"), 1),
        (edit(1, "2"), 58),
        (edit(1, "4"), 85),
        (edit(2, "1000000"), 30),
        (edit(2, "2"), 30),
        (edit(4, "24"), 4),
        (edit(10, None), 29),
        (edit(10, JOINT.rsplit(" ", 1)[0]), 10),
        (edit(10, JOINT + " 4"), 10),
        (edit(10, ""), 10),
        (edit(10, JOINT.replace("0.1", "1e999", 1)), 10),
        (edit(3, "1 2 3 4 5 6 7 8 9 x"), 3),
        (lambda t: t.decode().encode("utf-16"), 1),
    ],
)
def test_damage_is_refused_with_its_line(damage, line):
    text = damage(skeleton_text(moving_body(np.random.default_rng(0), 3)))
    with pytest.raises(UserError) as caught:
        parse_skeleton(text)
    assert caught.value.line == line and caught.value.reason


@pytest.mark.parametrize("word", ["25O.1", "2.5.1", "25-0.1", ".", "2nan", "-1.#", "1_0", "1\x1c2"])
def test_words_that_are_no_numbers_are_refused_with_their_line(word):
    for place in ("0.1", "250.1"):
        text = edit(10, JOINT.replace(place, word, 1))(skeleton_text(moving_body(np.random.default_rng(0), 3)))
        with pytest.raises(UserError, match="line 10: .*number"):
            parse_skeleton(text)


def test_cut_anywhere_it_is_refused_or_only_its_last_digits_are_gone():
    text = skeleton_text(moving_body(np.random.default_rng(0), 2)).rstrip()
    whole = parse_skeleton(text)
    for length in range(len(text) - 1):
        with pytest.raises(UserError):
            np.testing.assert_array_equal(parse_skeleton(text[:length]), whole)


def test_of_several_faults_the_first_line_is_named():
    lines = skeleton_text(moving_body(np.random.default_rng(0), 3)).split(b"\n")
    for line in (7, 20, 40):
        lines[line] = bytes([97 + line]) * line
    with pytest.raises(UserError, match="line 8: "):
        parse_skeleton(b"\n".join(lines))


def test_an_hour_is_read_whole():
    frames = 108_000
    assert parse_skeleton(b"%d\n" % frames + b"0\n" * frames).shape == (frames, 0, 25, 3)
