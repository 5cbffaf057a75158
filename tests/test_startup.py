"""What happens before a program works: its modules are found, and arguments are read without PyTorch."""

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
        assert end.code == 0, program
    assert "torch" not in sys.modules, program
"""


def test_programs_run_as_files_from_any_folder_without_pytorch_before_their_arguments_are_read():
    assert len(PROGRAMS) > 20
    done = run_python("-c", HELP, *(ROOT / program for program in PROGRAMS), env={"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr
