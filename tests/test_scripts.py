"""The scripts themselves, in a copy of the project, on a small simulated data set."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_gen.datasets import ROOT
from tests.helpers import GOLDEN, write_recordings
from utils.files import read_results

CODE = ("utils", "data_gen", "feeder", "models", "tools", "requirements.txt")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with recordings that its program has packed, whose scripts find the running Python."""
    root = tmp_path_factory.mktemp("project") / "a folder"
    root.mkdir()
    for name in (*CODE, *[p.name for p in ROOT.glob("*.py")], *[p.name for p in ROOT.glob("script_*.sh")]):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    write_recordings(root / "data" / "demo_raw", cameras=(1,))
    done = run(root, sys.executable, "data_gen/ntu_gendata.py")
    assert done.returncode == 0 and "simulated demo: 12 recordings" in done.stdout, done.stderr
    return root


def run(copy: Path, *command: str, **env: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NPROC": "1", "PATH": path, **env}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)


SMALL = ("--hidden-size", "8", "--batch-size", "4", "--epochs", "2", "--device", "cpu")


def test_from_recordings_to_scores(copy):
    done = run(copy, "./script_pretrain.sh", "demo_small", *SMALL, NPROC="2")
    assert done.returncode == 0 and "2 processes" in done.stdout, done.stderr
    assert done.stderr == ""  # quiet: no bars, no warnings
    folder = copy / "checkpoints" / "demo_small"
    assert (folder / "checkpoint_0001.pth.tar").is_file()
    for task in ("recognition", "retrieval"):
        done = run(copy, f"./script_action_{task}.sh", "demo_small", "--modality", "bone", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        result = read_results(folder)[-1]
        assert (result["task"], result["modality"], result["epoch"]) == (f"action_{task}", "bone", 2)
    done = run(copy, sys.executable, "-m", "tools.results", "demo_small")
    assert re.search(r"\| demo_small \| demo xsub \| 2 +\| bone", done.stdout), done.stdout


@pytest.mark.slow
def test_cross_validation_ends_with_the_mean_over_folds(copy):
    run(copy, sys.executable, "-m", "data_gen.add_protocol", "data/demo", "--split", "fold=kfold:2")
    done = run(copy, "./script_cross_validate.sh", "demo_fold", *SMALL[:-4], "--epochs", "1", "--device=cpu")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    folds = [read_results(copy / f"checkpoints/demo_fold{k}")[-1]["metrics"]["top1"] for k in (1, 2)]
    (mean,) = [line for line in done.stdout.splitlines() if "demo_fold* (2 runs)" in line and "bone" not in line][-1:]
    assert f"{sum(folds) / 2:.1f} ± " in done.stdout and mean
    done = run(copy, "./script_action_retrieval.sh", "checkpoints/demo_fold1", "--device", "cpu")  # a path, too
    assert done.returncode == 0, done.stderr
    done = run(copy, "./script_cross_validate.sh", "demo_fodl")
    assert done.returncode == 1 and "demo_fodl" in done.stderr and "demo_fold" in done.stderr


def test_fine_tuning_scripts(copy):
    folder = copy / "checkpoints" / "demo_labels"
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / "official_h8.pth.tar", folder / "checkpoint_0450.pth.tar")
    packed = copy / "data" / "ntu60"
    shutil.copytree(copy / "data" / "demo", packed)
    info = json.loads((packed / "dataset.json").read_text()) | {"dataset": "ntu60", "classes": 60}
    (packed / "dataset.json").write_text(json.dumps(info))
    short = ("--epochs", "1", "--schedule", "--device", "cpu")
    for script, flags in (
        ("semi_supervised", ("--seed", "0")),
        ("finetune", ("--modality", "bone", "--from-scratch")),
        ("transfer", ("--finetune-dataset=ntu60",)),
    ):
        done = run(copy, f"./script_{script}.sh", "demo_labels", *short, *flags)
        assert done.returncode == 0, done.stderr
        results = [result for result in read_results(folder) if result["task"] == script]
        fractions = [result["settings"].get("label_fraction") for result in results]
        assert fractions == ([0.01, 0.02, 0.05, 0.1, 0.2] if script == "semi_supervised" else [None])


def test_from_long_recordings_to_a_timeline(copy):
    untrained = ("pretrain.py", "--checkpoint-path", "checkpoints/demo_long", *SMALL, "--epochs", "0")
    assert run(copy, sys.executable, *untrained).returncode == 0
    done = run(copy, sys.executable, "data_gen/demo_gendata.py", "--long", "4")
    assert "4 long recordings with 32 segments in" in done.stdout, done.stderr
    folder = "data/demo_untrimmed_raw"
    done = run(copy, sys.executable, "-m", "data_gen.import_dataset", "long", "--name", "demo_untrimmed", folder)
    assert "cross_subject (xsub): 2 train, 2 val" in done.stdout, done.stderr
    done = run(copy, "./script_detection.sh", "demo_long", "--epochs", "1", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    (result,) = read_results(copy / "checkpoints" / "demo_long")
    assert result["task"] == "detection" and 0 <= result["metrics"]["f1"] <= 100
    detector = ("--detector", f"checkpoints/demo_long/{result['files']['detector']}", "--device", "cpu")
    out = (*detector, "--out", "timelines", f"{folder}/long_001.skeleton")
    done = run(copy, sys.executable, "-m", "tools.timeline", "--pretrained", "demo_long", *out)
    suffixes = sorted(path.suffix for path in (copy / "timelines").iterdir())
    assert done.returncode == 0 and suffixes == [".csv", ".json", ".png"], done.stderr


@pytest.mark.parametrize(
    "command, place",
    [
        (("./script_pretrain.sh", "--device", "cpu"), "ntu120"),
        (("./script_action_recognition.sh", "demo_nothing"), "demo_nothing"),
        (("./script_action_retrieval.sh",), "ntu120_xsub"),
        (("./script_transfer.sh", "demo_x", "--protocol", "xsub"), "--finetune-dataset"),
        (("./script_finetune.sh", "demo_nothing"), "demo_nothing"),
        (("./script_detection.sh", "demo_nothing"), "demo_nothing"),
        (("./script_pretrain.sh", "demo_x", "--nonsense"), "--nonsense"),
    ],
)
def test_a_failing_program_fails_its_script(copy, command, place):
    done = run(copy, *command)
    assert done.returncode != 0 and place in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("nproc", ["abc", "-1", ""])
def test_a_wrong_number_of_processes_is_refused(copy, nproc):
    done = run(copy, "./script_pretrain.sh", "demo_x", "--nonsense", NPROC=nproc)
    assert done.returncode == 2 and (f"NPROC={nproc}" if nproc else "--nonsense") in done.stderr


def test_without_the_packages_the_way_out_is_named(copy, tmp_path):
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname", "env"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    done = run(copy, "./script_pretrain.sh", "demo", PATH=str(tmp_path / "bin"))
    assert done.returncode == 1 and "pip install -r requirements.txt" in done.stderr


@pytest.fixture(scope="module")
def small_project(tmp_path_factory):
    """A project of the same layout and configuration with next to nothing in it, which all checks accept."""
    root = tmp_path_factory.mktemp("small")
    for name in ("utils", "data_gen", "feeder", "models", "tools", "tests"):
        (root / name).mkdir()
        (root / name / "__init__.py").touch()
    for name in ("script_test.sh", "tools/common.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for name in ("pretrain.py", "action_recognition.py", "action_retrieval.py"):
        (root / name).touch()
    code = "A = 1\n" * 60 + "\n\ndef half(x: int) -> float:\n    return x / 2\n"
    (root / "models" / "half.py").write_text(code)
    test = "from models.half import half\n\n\ndef test_half():\n    assert half(3) == 1.5\n"
    (root / "tests" / "test_half.py").write_text(test)
    return root


@pytest.mark.slow
def test_all_checks_of_a_sound_project_pass(small_project):
    done = run(small_project, "./script_test.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All checks passed!" in done.stdout and "Success: no issues found" in done.stdout
    assert "1 passed" in done.stdout


@contextmanager
def also(project: Path, files: dict[str, str]):
    """Have more files in the project, of these texts."""
    for file, text in files.items():
        (project / file).write_text(text)
    try:
        yield
    finally:
        for file in files:
            (project / file).unlink()


def test_each_check_that_fails_makes_the_script_fail_and_the_tests_run_all_the_same(small_project):
    files = {
        "feeder/bad.py": "import os\n",
        "feeder/ugly.py": "NUMBER   = 1\n",
        "tests/test_bad.py": "def test_bad():\n    assert len([]) == 1\n",
        "tools/bad.py": "def twice(x):\n    return 2 * x\n",
    }
    with also(small_project, files):
        done = run(small_project, "./script_test.sh")
    assert done.returncode == 1 and "1 passed" in done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    failed = ["ruff check", "ruff format", "mypy", "pytest"]
    assert errors == [f"error: failed: {name}" for name in failed], done.stdout + done.stderr


def test_with_arguments_the_tests_run_alone(small_project):
    with also(small_project, {"feeder/bad.py": "import   os\n"}):
        done = run(small_project, "./script_test.sh", "-k", "half")
    assert done.returncode == 0 and "1 passed" in done.stdout and done.stderr == ""
    assert "bad.py" not in done.stdout
