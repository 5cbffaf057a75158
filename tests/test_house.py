"""The rooms and the way of the imports, as CONTRIBUTING.md has them."""

import ast
from pathlib import Path

from data_gen.datasets import ROOT
from tests.helpers import run_python

ROOMS = ("utils", "data_gen", "feeder", "models", "tools")
TABLES = {"data_gen.datasets", "data_gen.skeletons", "data_gen.class_names"}
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
# A file directly in tools/ or data_gen/ is a program or a table.
PROGRAMS = {p.stem for p in ROOT.glob("*.py")} | {
    f"{room}.{p.stem}" for room in ("data_gen", "tools") for p in (ROOT / room).glob("*.py") if p.stem != "__init__"
} - TABLES  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; of `from x import y` both x and x.y, as y may be a module."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    return modules


def test_imports_go_one_way():
    assert len(FILES) > 60 and "tools.training.trainer" in imports_of(ROOT / "pretrain.py")
    for path in FILES:
        room = path.relative_to(ROOT).parts[0]
        rooms = {name.split(".")[0] for name in imports_of(path)}
        assert not rooms & {"tests", *ROOMS[ROOMS.index(room) + 1 :]}, path
        assert room != "data_gen" or "torch" not in rooms, path


def test_no_library_and_no_program_imports_a_program():
    assert {"pretrain", "tools.predict", "data_gen.ntu_gendata"} <= PROGRAMS
    for path in [*FILES, *ROOT.glob("*.py")]:
        assert not imports_of(path) & PROGRAMS, path


def test_no_file_is_long():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 320}
    assert not long


HELP = """
import runpy, sys
for program in sys.argv[1:]:
    sys.argv[:] = [program, "--help"]
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{program}: {end.code}")
    if "torch" in sys.modules:
        sys.exit(f"{program} imports torch")
"""


def test_help_is_answered_without_pytorch():
    packages = {f"tools.{p.parent.name}" for p in (ROOT / "tools").glob("*/__main__.py")}
    done = run_python("-c", HELP, *sorted(PROGRAMS - {"hubconf"} | packages))
    assert done.returncode == 0, done.stderr
