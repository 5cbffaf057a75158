"""Odd arguments, names and files: each ends in a line that says what to do."""

import errno
import json
import logging
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from data_gen.packed.atomic import lock, locked
from tools.utils import logs, result_files
from tools.utils.distributed import find_processes, processes
from tools.utils.errors import UserError
from tools.utils.kept_results import set_aside
from tools.utils.logs import read_lines, start_log
from tools.utils.options import check_schedule
from torch.utils.tensorboard import SummaryWriter

from data_gen.add_protocol import main as add_protocol
from data_gen.datasets import ROOT
from data_gen.export_dataset import main as export_dataset
from data_gen.import_dataset import main as import_dataset
from data_gen.ntu_gendata import main as ntu_gendata
from data_gen.packed.reader import DataSetError, PackedDataset
from data_gen.raw.recordings import Recording, find_recordings
from models import checkpoint_files
from tests.helpers import own_dataset, write_recordings
from tests.programs import assert_refused, call


def test_a_protocol_name_that_grows_too_long_is_refused(tmp_path, capsys):
    own_dataset(tmp_path / "mine", "kinect_v2", 2, 3)
    assert add_protocol([str(tmp_path / "mine"), "--split", f"{'a' * 64}=kfold:2"]) == 1
    assert "choose a shorter name" in capsys.readouterr().err
    PackedDataset(tmp_path / "mine")


def test_nothing_is_imported_into_its_own_folder(tmp_path, capsys):
    (tmp_path / "recordings.csv").write_text("name,label\njoints,0\n")
    assert import_dataset(["folder", "--name", "mine", "--out", str(tmp_path), str(tmp_path)]) == 1
    assert "is what is imported" in capsys.readouterr().err and len([*tmp_path.iterdir()]) == 1


def test_nothing_is_converted_over_another_data_set_or_other_arrays(tmp_path, capsys):
    own = own_dataset(tmp_path / "mine", "kinect_v2", 2, 3, splits=("fold=kfold:2", "rest=subject:s1"))
    write_recordings(tmp_path / "raw", subjects=(1, 3))
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "joints.npy", np.zeros(3))
    convert = ["--dataset", "demo", "--raw", str(tmp_path / "raw"), "--out"]
    for folder, message in (("mine", "holds the data set mine"), ("arrays", "no data set")):
        before = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        assert ntu_gendata([*convert, str(tmp_path / folder)]) == 1 and message in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == before
    table = [f"{name},{label}" for name, label in zip(own.names, own.label)]
    export_dataset(["folder", "--data", str(own.path), "--as", "csv", "--out", str(tmp_path / "csv")])
    (tmp_path / "csv" / "recordings.csv").write_text("\n".join(["name,label", *table]))
    again = ["folder", "--name", "mine", "--out", str(own.path), str(tmp_path / "csv")]
    assert import_dataset(again) == 1 and "--replace" in capsys.readouterr().err
    assert import_dataset([*again, "--replace"]) == 0
    assert not list(own.path.glob("fold*")) and not list(own.path.glob("rest*"))  # the earlier one's
    assert not PackedDataset(own.path).info["protocols"]


@pytest.mark.parametrize("name", ["a\u2028b", "a\x1b[31mb"])
def test_control_characters_in_names_of_classes_are_refused(tmp_path, capsys, name):
    (tmp_path / "recordings.csv").write_text("name,label\na,0\n")
    (tmp_path / "a.csv").write_text(",".join(["0"] * 75))
    (tmp_path / "classes.txt").write_text(f"{name}\nother\n", encoding="utf-8")
    assert import_dataset(["folder", "--name", "mine", "--out", str(tmp_path / "out"), str(tmp_path)]) == 1
    assert "control characters" in capsys.readouterr().err


def test_a_run_folder_has_one_writer_at_a_time(pretrain):
    folder = pretrain.run("--epochs", "1")
    with locked(folder), pytest.raises(DataSetError, match=f"another program is writing here .process {os.getpid()}"):
        pretrain.run("--epochs", "2")


def test_an_evaluation_of_a_run_is_done_by_one_program_at_a_time(pretrain, demo_root):
    folder = pretrain.run("--epochs", "0")
    flags = ("--pretrained", folder, "--data-root", demo_root, "--device", "cpu")
    with open(folder / "action_retrieval.log", "a") as log:
        lock(log.fileno(), folder)
        holder = f"action_retrieval.log: another program is writing here (process {os.getpid()})"
        assert_refused(call("action_retrieval", *flags), holder)
        assert not (folder / "action_retrieval.json").exists()
        assert call("action_recognition", *flags, "--epochs", 1, "--schedule").status == 0  # writes other files
    assert call("action_retrieval", *flags).status == 0


def test_odd_lines_of_a_log_are_passed_over(tmp_path):
    path, huge = tmp_path / "log.jsonl", b'{"epoch": 2, "lr": 1%s}\n' % (b"0" * 400)
    path.write_bytes(b'{"epoch": 0, "lr": 1}\n{"lr": 2}\n[1]\n{"epoch": "x"}\n\xff\n{"epoch": 1}\n' + huge + b'{"epo')
    assert read_lines(path) == [{"epoch": 0, "lr": 1}, {"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 0, "lr": 1e308}\n{"epoch": 1, "lr": -1e308}\n{"epoch": 1e308}\n')
    assert read_lines(path) == [{"epoch": 0}, {"epoch": 1}]


STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    "env",
    [
        {"RANK": "abc", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"SLURM_STEP_NUM_TASKS": "2"},
        {"SLURM_STEP_NUM_TASKS": "two"},
        {**STEP, "SLURM_STEP_NODELIST": ""},
        {**STEP, "SLURM_STEP_NODELIST": "n[1-2]", "PATH": ""},
    ],
)
def test_variables_of_launchers_are_checked(monkeypatch, env):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError):
        find_processes()


def test_an_address_where_processes_cannot_meet_is_told(monkeypatch):
    for key, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": "abc"}.items():
        monkeypatch.setenv(key, str(value))
    with pytest.raises(UserError, match="MASTER_PORT"), processes("cpu"):
        pass


def test_an_epoch_that_stands_twice_in_a_schedule_is_refused():
    with pytest.raises(UserError, match="twice"):
        check_schedule([1, 1], 5)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_of_one_name_are_read_each_by_itself_and_suffixes_in_any_case(tmp_path):
    with zipfile.ZipFile(tmp_path / "B.ZIP", "w") as archive:
        for name, text in (("a", "first"), ("a", "second"), ("b", "same")):
            archive.writestr(f"{name}.SKELETON", text)
    found = [Recording("a", str(tmp_path / "B.ZIP"), "a.SKELETON", place) for place in range(2)]
    assert [recording.read() for recording in found] == [b"first", b"second"]
    with pytest.raises(ValueError, match=r"B.ZIP:a.SKELETON and .*B.ZIP:a.SKELETON differ: leave out one"):
        find_recordings([tmp_path])
    (tmp_path / "c").mkdir()
    for name in "bc":
        (tmp_path / "c" / f"{name}.SKELETON").write_text("same")
    (tmp_path / "a.skeleton").write_text("other")
    with pytest.raises(ValueError, match="differ"):
        find_recordings([tmp_path / "a.skeleton", tmp_path / "B.ZIP"])
    with zipfile.ZipFile(tmp_path / "D.ZIP", "w") as archive:
        archive.writestr("b.SKELETON", "same")
    found, repeated = find_recordings([tmp_path / "c", tmp_path / "D.ZIP"])
    assert [recording.stem for recording in found] == ["b", "c"] and repeated == 1


def test_scripts_say_what_is_wrong_with_their_surroundings(tmp_path):
    (tmp_path / "link.sh").symlink_to(ROOT / "script_pretrain.sh")
    for nproc in ("abc", "-1", "9" * 30, ""):
        env = {**os.environ, "NPROC": nproc or "1", "PYTHONSAFEPATH": "1"}
        done = subprocess.run([tmp_path / "link.sh", "x", "--nonsense"], env=env, capture_output=True, text=True)
        expected = f"error: NPROC={nproc}: give a number" if nproc else "unrecognized arguments: --nonsense"
        assert done.returncode == 2 and expected in done.stderr.splitlines()[-1]


def test_a_gone_reader_ends_a_program_quietly():
    code = "from tools.utils.errors import run\nrun(lambda: [print('x' * 1000) for _ in range(10**5)])"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=-1, stderr=-1) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_any_name_can_be_printed_in_any_locale():
    code = "from tools.utils.errors import run\nrun(lambda: print('\\u00b1 \\udce9'))"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xb1 \\udce9\n", "")


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_a_program_whose_output_is_closed_works_and_prints_into_no_file(tmp_path, closed):
    work = "[print(1, flush=True), open('a', 'w').write('own'), os.system('echo 2'), open('b', 'w').write('own')]"
    code = f"import os\nfrom tools.utils.errors import run\nos.chdir({str(tmp_path)!r})\nrun(lambda: {work})"

    def close():
        for number in closed:
            os.close(number)

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, preexec_fn=close).returncode == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "own"


def test_logs_and_curves_that_cannot_be_written_stop_no_work_and_hide_no_error(demo_root, tmp_path, monkeypatch):
    def full(*args, **flags):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    monkeypatch.setattr(logging.FileHandler, "flush", full)
    monkeypatch.setattr(logs, "open", lambda *args, **flags: open("/dev/full", "a", buffering=1), raising=False)
    folder, data = tmp_path / "demo", ("--data-root", demo_root, "--device", "cpu")
    run = ("pretrain", "--checkpoint-path", folder, *data, "--hidden-size", 8, "--schedule", "--epochs", 2)
    ended = call(*run)
    assert ended.status == 0 and checkpoint_files.newest(folder).name == "checkpoint_0001.pth.tar"
    assert "log.jsonl cannot be written" in ended.err and "TensorBoard's log cannot be written" in ended.err
    assert call("action_retrieval", "--pretrained", folder, *data).status == 0
    assert_refused(call(*run, "--resume", "none", "--lr", "1e30"), "not finite")


def test_any_name_stands_in_the_log(tmp_path):
    start_log(tmp_path, "a").info("\udce9 is no character")
    assert "\\udce9 is no character" in (tmp_path / "a.log").read_text()


def test_a_result_that_an_evaluation_renames_is_passed_over_meanwhile(tmp_path, monkeypatch):
    def read(path):
        if path.name == "a.json":
            path.rename(tmp_path / "a_2026.json")
        return right(path)

    right = result_files.read_result
    monkeypatch.setattr(result_files, "read_result", read)
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert [path.name for path, _ in result_files.results_in(tmp_path)] == ["b.json"]


def test_results_of_weights_with_any_name_are_kept_beside_each_other(tmp_path):
    for epoch in (1, 2, 3):
        path = tmp_path / "action_retrieval_of_a[1].json"
        path.write_text(json.dumps({"epoch": epoch}))
        os.utime(path, (0, 0))
        set_aside(tmp_path, path.stem, {})
    assert sorted(json.loads(path.read_text())["epoch"] for path in tmp_path.iterdir()) == [1, 2, 3]
