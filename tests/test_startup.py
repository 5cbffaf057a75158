"""What happens before a program works: its modules are found, and arguments are read without PyTorch."""

import pytest

from data_gen.datasets import ROOT
from tests.helpers import run_python

PROGRAMS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "data_gen", ROOT / "tools", *(ROOT / "tools").glob("*/"))
    for path in folder.glob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text()
)
HELP = """
import runpy, sys
path, ours = [*sys.path], {"data_gen", "feeder", "models", "tools"}
for program in sys.argv[1:]:
    sys.argv[:] = [program, "--help"]
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        del sys.modules[name]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"{program}: {end.code}")
    if "torch" in sys.modules:
        sys.exit(f"{program} imports torch")
"""


@pytest.mark.parametrize("optimised", [(), ("-OO",)], ids=["", "without docstrings"])
def test_programs_run_as_files_from_any_folder_without_pytorch_before_their_arguments_are_read(optimised):
    assert len(PROGRAMS) > 20
    programs = [ROOT / program for program in PROGRAMS]
    done = run_python(*optimised, "-c", HELP, *programs, env={"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr
