"""Damage for files of every kind: a list of `Change`s turns genuine bytes into hostile ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.helpers import skeleton_text

# What may come to stand in a text: counts, spellings of numbers, what looks like one, blanks, other bytes.
WORDS = (
    *(b"0 1 2 7 24 25 26 -3 1000000 1000000000 999999999999999999 9999999999999999999".split()),
    *(b"1e-3 -2.5E+2 1e999 -1e38 999999.9 1e6 1e-400 4.9e-324 .5 -7. +1.5 -0".split()),
    *(b"0.30000000000000004 123456789.123456789 nan -inf Infinity -1.#IND 1.#QNAN -nan(ind)".split()),
    *(b". - + -. e 1e e5 1e+ 2nan inf7 1-2 1e5-3 --1 1.2.3 0x1F 1_0 1,5 abc".split()),
    *(b"7" * 400, b"1" * 5000 + b"e", b"0 0 0 0 0 0 0 0 0 0", b"\n1\n"),
    *(b"", b" ", b"   ", b"\t", b"\n", b"\n\n", b"\r", b"\r\n", b"\v", b"\f", b"\x00", b"\x1c"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xd9\xa1", b"\xc2\xa0", b"\xe2\x80\xa8"),
)


@dataclass(frozen=True)
class Change:
    """Do `how` at the places `at` and `to`, given as parts (0..1) of the whole, with `word`."""

    how: str
    at: float
    to: float
    word: bytes

    def __call__(self, content: bytes) -> bytes:
        return HOW[self.how](content, self.at, self.to, self.word)


def apply(content: bytes, changes: list[Change]) -> bytes:
    """`content` after one change after another."""
    for change in changes:
        content = change(content)
    return content


def draw(rng: random.Random, words: tuple[bytes, ...] = WORDS) -> list[Change]:
    """A few changes at random."""
    return [
        Change(rng.choice(list(HOW)), rng.random(), rng.random(), rng.choice(words))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6)))
    ]


def skeleton_texts() -> list[bytes]:
    """Small genuine recordings: bodies that come and go, nobody, one frame, five bodies, other line ends and blanks."""
    rng = np.random.default_rng(0)

    def text(*counts: int, newline: str = "\n") -> bytes:
        return skeleton_text([[rng.normal(size=(25, 3)) for _ in range(n)] for n in counts], newline)

    return [
        text(1, 1, 1),
        text(0, 2, 1, 0, 3),
        text(0, 0),
        text(1),
        text(5, 1),
        text(1, 2, newline="\r\n"),
        text(2, 1).replace(b" ", b"  "),
        text(1, 0).replace(b"250.1", b"nan").replace(b" 0.3 ", b" -inf "),
    ]


def _index(part: float, count: int) -> int:
    return min(int(part * count), count - 1)


def _in_list(separator: bytes) -> dict[str, Callable[[bytes, float, float, bytes], bytes]]:
    """Changes to the list of items between separators."""

    def on_items(change):
        def changed(content: bytes, at: float, to: float, word: bytes) -> bytes:
            items = content.split(separator)
            change(items, _index(at, len(items)), _index(to, len(items)), word)
            return separator.join(items)

        return changed

    def delete(items, i, j, word):
        del items[i]

    def repeat(items, i, j, word):
        items.insert(j, items[i])

    def swap(items, i, j, word):
        items[i], items[j] = items[j], items[i]

    def replace(items, i, j, word):
        items[i] = word

    def prefix(items, i, j, word):
        items[i] = word + items[i]

    def suffix(items, i, j, word):
        items[i] += word

    def shorten(items, i, j, word):
        items[i] = items[i][: len(items[i]) // 2]

    kind = {b"\n": "line", b" ": "token"}[separator]
    functions = (delete, repeat, swap, replace, prefix, suffix, shorten)
    return {f"{function.__name__} {kind}": on_items(function) for function in functions}


def _change_count(content: bytes, at: float, to: float, word: bytes) -> bytes:
    lines = content.split(b"\n")
    counts = [i for i, line in enumerate(lines) if line.strip().isdigit()]
    if counts:
        lines[counts[_index(at, len(counts))]] = word
    return b"\n".join(lines)


def _insert(content: bytes, at: float, to: float, word: bytes) -> bytes:
    i = int(at * (len(content) + 1))
    return content[:i] + word + content[i:]


def _overwrite(content: bytes, at: float, to: float, word: bytes) -> bytes:
    i = int(at * len(content)) // 4 * 4  # numbers in arrays begin there
    return content[:i] + word + content[i + len(word) :]


def _delete_span(content: bytes, at: float, to: float, word: bytes) -> bytes:
    i, j = sorted((int(at * len(content)), int(to * len(content))))
    return content[:i] + content[j:]


def _cut(content: bytes, at: float, to: float, word: bytes) -> bytes:
    return content[: int(at * len(content))]


def _flip(content: bytes, at: float, to: float, word: bytes) -> bytes:
    i = int(at * len(content))
    return content[:i] + bytes(b ^ 1 << int(to * 8) for b in content[i : i + 1]) + content[i + 1 :]


def _change_line_ends(content: bytes, at: float, to: float, word: bytes) -> bytes:
    ends = (b"\r\n", b"\r", b" \n", b"\n ", b"\n\n", b"\t\n", b" \r\n", word)
    return content.replace(b"\n", ends[_index(at, len(ends))])


def _change_blanks(content: bytes, at: float, to: float, word: bytes) -> bytes:
    blanks = (b"  ", b"\t", b"\v", b" \t ", word)
    return content.replace(b" ", blanks[_index(at, len(blanks))])


HOW: dict[str, Callable[[bytes, float, float, bytes], bytes]] = {
    **_in_list(b"\n"),
    **_in_list(b" "),
    "change count": _change_count,
    "insert": _insert,
    "overwrite": _overwrite,
    "delete span": _delete_span,
    "cut": _cut,
    "flip": _flip,
    "change line ends": _change_line_ends,
    "change blanks": _change_blanks,
}
