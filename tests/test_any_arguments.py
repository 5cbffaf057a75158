"""Programs with arguments and files at random: none crashes, each says in a line what is wrong, nothing gets lost."""

from __future__ import annotations

import os
import random
import re
import shutil
from contextlib import contextmanager, suppress

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests import mutations
from tests.lab import CALLS, ONE
from tests.odd_values import put_odd_value
from tests.programs import call

# Left out: what never ends, what decides where to compute, and where files go if nothing is said.
KEPT = set("--help --watch --follow --device --compile --workers --out --data-root --checkpoint-path".split())
WITH_COMMANDS = ("tools.figures", "data_gen.import_dataset", "data_gen.export_dataset")
WORDS = [
    *("", "a" * 300, "9" * 30, "\xe9", "\udce9", "$x^{$", "../x", ONE),
    *"0 1 2 -1 7 1e-3 0.5 1e30 1e300 nan inf x all joint+bone joint+x xsub none auto demo ntu60 tuned".split(),
    *"kfold:2 a=kfold:3 runs/demo runs/demo/checkpoint_0000.pth.tar runs/demo/action_recognition.json".split(),
    *"runs/f.npz data data/demo data/demo/dataset.json data/demo/joints.npy raw a.pkl /proc/version .".split(),
]
CONTENTS = [b"", b"{}", b"[]", b"null", b"[" * 10**5, b"\x00" * 1000, b"\x1b[31m", b'{"task": 1}']


@contextmanager
def chdir(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def flags_of(program: str, command: list[str]) -> list[str]:
    """The flags that a program has."""
    found = re.findall(r"(?<![\w-])--[a-z][a-z-]+", call(program, *command, "--help").out)
    return sorted(set(found) - KEPT)


def change_arguments(rng: random.Random, program: str, args: list[str]) -> list[str]:
    """Leave out an argument, put another in its place, or add a flag."""
    free = [i for i, arg in enumerate(args) if arg not in KEPT and args[i - 1] != "--device"]
    how, place = rng.randrange(4), rng.choice(free)
    if how == 0 and args[place - 1] not in KEPT:
        return args[:place] + args[place + 1 :]
    if how == 1:
        command = args[:1] if program in WITH_COMMANDS else []
        return [*args, rng.choice(flags_of(program, command) or ["--x"]), *rng.choices(WORDS, k=rng.randrange(3))]
    return args[:place] + [rng.choice(WORDS)] + args[place + 1 :]


def damage(rng: random.Random, folder, args: list[str]) -> None:
    """Change a file, mostly one that is named: a few bytes, all of it, or put another one or a folder in its place."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = [path for path in files if any(arg and path.is_relative_to(folder / arg) for arg in args)]
    path, how = rng.choice(named if named and rng.random() < 0.8 else files), rng.randrange(9)
    if how > 5 and put_odd_value(rng, path):
        return
    if how == 0:
        path.write_bytes(rng.choice(CONTENTS))
    elif how == 1:
        path.write_bytes(rng.choice(files).read_bytes())
    elif how == 2:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(mutations.apply(path.read_bytes(), mutations.draw(rng)))


def contents(folder) -> dict:
    """Every file but logs, and config.json, which tells of the last start that trained."""
    kept = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("events"))
    return {path: path.read_bytes() for path in kept if path.suffix not in (".log", ".jsonl") and path.stem != "config"}


def attempt(lab, folder, right: tuple[str, ...], seed: int) -> int:
    """Call a program in a copy of the lab, with arguments and files changed at random; returns its exit status."""
    rng = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(lab, folder)
    program, *args = right
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        args = change_arguments(rng, program, args)
    for _ in range(rng.choice((0, 0, 1, 1, 3))):
        with suppress(Exception):  # the file was damaged before
            damage(rng, folder, args)
    before = contents(folder)
    with chdir(folder):
        ended = call(program, *args)
    said = (program, args, ended)
    assert ended.status in (0, 1, 2) and "Traceback" not in ended.err and "\x1b" not in ended.out, said
    assert not [path for path in folder.rglob("*") if ".partial" in path.name], said
    if ended.status:
        after = contents(folder)
        assert "error: " in ended.err and not [path for path in before if after.get(path) != before[path]], said
    return ended.status


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [40, pytest.param(4000, marks=pytest.mark.slow)])
def test_whatever_a_program_is_given_it_ends_in_words(lab, tmp_path, examples):
    statuses = []

    @settings(max_examples=examples, phases=[Phase.generate], deadline=None, database=None, derandomize=True)
    @given(st.sampled_from(CALLS), st.integers(0, 2**32))
    def try_one(right, seed):
        statuses.append(attempt(lab, tmp_path / "lab", right, seed))

    try_one()
    assert min(map(statuses.count, (0, 1, 2))) > examples / 20
