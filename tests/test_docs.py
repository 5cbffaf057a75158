"""README and docs: each command parses, each link, picture and file exists, and the examples in Python are Python."""

import argparse
import importlib
import os
import re
import shlex
import subprocess

import pytest

from data_gen.datasets import ROOT

DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
WITH_TESTS_OF_THEIR_OWN = {"./script_cross_validate.sh", "./script_demo.sh", "./script_test.sh"}
ADDED_BY_RECIPES = {"gru", "utd"}  # names that pages tell how to add; tests/test_contributing.py follows them


def commands_of(text):
    """Commands of the project's programs and scripts, in code blocks and between backticks, as lists of words."""
    lines = [line for _, block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    starts = r"(\w+=\S+ )?(python |\./script_|torchrun |srun )"
    commands = [shlex.split(line, comments=True) for line in lines if re.match(starts, line)]
    return [words[next(i for i, word in enumerate(words) if is_program(word)) :] for words in commands]


def is_program(word):
    return word == "-m" or word.endswith(".py") or word.startswith("./script_")


COMMANDS = [
    pytest.param(words, id=f"{doc.relative_to(ROOT)}: {' '.join(words)}")
    for doc in DOCS
    if doc.name != "CHANGELOG.md"  # which tells of the past
    for words in commands_of(doc.read_text())
    if not ADDED_BY_RECIPES & set(words)
]


class ParsedError(Exception):
    """The program has accepted its arguments."""


@pytest.fixture
def check_program(monkeypatch, capsys):
    """Start a program and stop it as soon as it has accepted its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise ParsedError

    def check(words):
        name, *args = words[1:] if words[0] == "-m" else [words[0].removesuffix(".py").replace("/", "."), *words[1:]]
        program = importlib.import_module(name)
        if hasattr(program, "__path__"):
            program = importlib.import_module(f"{name}.__main__")
        try:
            program.main(args)
        except ParsedError:
            pass
        except SystemExit as end:
            assert not end.code, capsys.readouterr().err  # none of --help
        else:
            pytest.fail(f"{name} did not parse its arguments")

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    return check


@pytest.fixture(scope="module")
def fake_python(tmp_path_factory):
    """A folder with a `python` that has all packages, and prints a line with its arguments instead of running them."""
    python = tmp_path_factory.mktemp("bin") / "python"
    python.write_text('#!/bin/sh\n[ "$1" = - ] && exit 0\nprintf "%s\\037" "$@"\necho\n')
    python.chmod(0o755)
    return python.parent


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_parse(words, check_program, fake_python):
    if words[0].startswith("./"):
        assert os.access(ROOT / words[0], os.X_OK)
        if words[0] in WITH_TESTS_OF_THEIR_OWN:
            return
        environment = os.environ | {"PATH": f"{fake_python}{os.pathsep}{os.environ['PATH']}", "NPROC": "1"}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        words = done.stdout.removesuffix("\n").split("\037")[:-1]
    check_program(words)


def test_the_commands_are_found():
    commands = {" ".join(command.values[0]) for command in COMMANDS}
    assert {"./script_demo.sh", "data_gen/ntu_gendata.py", "-m tools.results"} < commands and len(commands) > 50
    text = "```\nNPROC=2 ./script_a.sh x \\\n  --y 1  # z\n```\n`python -m a.b c` `python`"
    assert commands_of(text) == [["./script_a.sh", "x", "--y", "1"], ["-m", "a.b", "c"]]


def test_a_command_that_does_not_parse_is_noticed(check_program):
    with pytest.raises(AssertionError, match="--nonsense"):
        check_program(["-m", "tools.results", "--nonsense"])
    with pytest.raises(ModuleNotFoundError, match="tools.nothing"):
        check_program(["-m", "tools.nothing"])


def slugs(text):
    """The anchors of a document's headings."""
    titles = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))
def test_links_pictures_and_files_exist_and_examples_compile(doc):
    text = doc.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", BLOCK.sub("", text)):
        path, _, anchor = "".join(link).partition("#")
        if not path.startswith("http"):
            target = doc.parent / path if path else doc
            assert target.exists(), link
            assert not anchor or anchor in slugs(target.read_text()), link
    if doc.name != "CHANGELOG.md":
        for path in re.findall(r"`((?:utils|data_gen|feeder|models|tools|tests)/[\w/]+\.py)`", BLOCK.sub("", text)):
            assert (ROOT / path).exists(), path
    for language, block in BLOCK.findall(text):
        if language == "python":
            compile(block, str(doc), "exec")
