"""The rooms and the way of the imports, as CONTRIBUTING.md has them."""

import ast
from pathlib import Path

import pytest

from data_gen.datasets import ROOT

ROOMS = ("data_gen", "feeder", "models", "tools")
ROOMS_OF_TOOLS = ("utils", "training", "evaluation", "inference", "figures", "detection", "benchmark")
TABLES = {f"data_gen.{name}" for name in ("datasets", "skeletons", "class_names", "recipes")}
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
PROGRAMS = {p.stem for p in ROOT.glob("*.py")} | {
    f"{room}.{p.stem}" for room in ("data_gen", "tools") for p in (ROOT / room).glob("*.py") if p.stem != "__init__"
} - TABLES  # fmt: skip


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; of `from x import y` both x and x.y, as y may be a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_the_imports_are_found():
    assert len(FILES) > 100 and "tools.training.pretraining" in imports_of(ROOT / "pretrain.py")
    assert {"pretrain", "tools.predict", "data_gen.ntu_gendata"} <= PROGRAMS


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    imported = {name.split(".")[0] for name in imports_of(path)}
    assert not imported & {"tests", *ROOMS[ROOMS.index(room) + 1 :]}
    assert room != "data_gen" or "torch" not in imported
    if module_of(path).count(".") > 1 and room == "tools":
        later = ROOMS_OF_TOOLS[ROOMS_OF_TOOLS.index(path.parent.name) + 1 :]
        assert not {name.split(".")[1] for name in imports_of(path) if name.startswith("tools.")} & set(later)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_library_and_no_program_imports_a_program(path):
    assert not imports_of(path) & PROGRAMS
