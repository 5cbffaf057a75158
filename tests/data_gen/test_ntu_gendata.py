import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from data_gen import ntu_gendata
from data_gen.datasets import DATASETS, ROOT, from_test_name
from data_gen.ntu_gendata import convert, main
from data_gen.packed.reader import PackedDataset
from data_gen.packed.writer import locked
from tests.helpers import GOLDEN, is_running, moving_body, skeleton_text, tiny_dataset, write_recordings
from tests.programs import status_of
from utils.errors import UserError


@pytest.fixture
def golden_raw(tmp_path):
    with zipfile.ZipFile(GOLDEN / "skeletons.zip") as archive:
        archive.extractall(tmp_path / "raw")
    return tmp_path / "raw"


def assert_golden(packed: PackedDataset) -> None:
    golden = np.load(GOLDEN / "converted.npz")
    for protocol in ("xsub", "xsetup"):
        for side in ("train", "val"):
            rows, key = packed.split(protocol, side), f"{protocol}_{side}"
            names = [str(n).removesuffix(".skeleton") for n in golden[f"{key}_names"]]
            assert packed.names[rows].tolist() == names
            np.testing.assert_array_equal(packed.label[rows], golden[f"{key}_labels"])
            np.testing.assert_array_equal(packed.num_frame[rows], golden[f"{key}_num_frame"])
            if protocol == "xsub":
                for row, padded in zip(rows, golden[f"{key}_data"]):
                    people = packed.recording(row)
                    np.testing.assert_allclose(people.transpose(3, 0, 2, 1), padded[:, : len(people)], atol=1e-5)


def test_golden_folder_gives_the_golden_data_set(golden_raw, tmp_path):
    info = convert(DATASETS["ntu120"], [golden_raw], tmp_path / "out", workers=2)
    assert info["on_missing_list"] == 1 and info["recordings"] == 13
    assert info["without_a_body"] == ["S002C003P010R001A001"]
    assert_golden(PackedDataset(tmp_path / "out"))


def test_an_archive_gives_the_same_bytes_as_its_folder(golden_raw, tmp_path):
    shutil.make_archive(str(tmp_path / "official"), "zip", golden_raw)
    missing = golden_raw / "samples_with_missing_skeletons.txt"
    convert(DATASETS["ntu120"], [golden_raw], tmp_path / "a")
    convert(DATASETS["ntu120"], [tmp_path / "official.zip"], tmp_path / "b", missing)
    for path in (tmp_path / "a").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_workers_and_the_order_of_files_change_nothing(tmp_path):
    write_recordings(tmp_path / "raw")
    paths = sorted((tmp_path / "raw").iterdir())
    (tmp_path / "second").mkdir()
    for path in paths[::2]:
        path.rename(tmp_path / "second" / path.name)
    convert(DATASETS["demo"], [tmp_path / "raw", tmp_path / "second"], tmp_path / "a", workers=3)
    convert(DATASETS["demo"], [tmp_path / "second", tmp_path / "raw"], tmp_path / "b", workers=1)
    for path in (tmp_path / "a").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_recordings_of_the_larger_data_set_are_passed_over(golden_raw, tmp_path):
    info = convert(DATASETS["ntu60"], [golden_raw], tmp_path / "out")
    assert info["of_another_data_set"] == 5 and info["recordings"] == 8
    packed = PackedDataset(tmp_path / "out")
    assert packed.label.max() < 60
    cameras = np.array([int(name[5:8]) for name in packed.names])
    np.testing.assert_array_equal(packed.split("xview", "train"), np.flatnonzero(cameras > 1))


def test_missing_list_with_prose_and_suffixes(golden_raw, tmp_path):
    (golden_raw / "samples_with_missing_skeletons.txt").unlink()
    (tmp_path / "list.txt").write_text(
        "The following\n\n names: \nS001C002P003R001A007.skeleton\r\n S002C001P003R001A056 \nS00"
    )
    info = convert(DATASETS["ntu120"], [golden_raw], tmp_path / "out", tmp_path / "list.txt")
    assert info["on_missing_list"] == 2
    assert "S001C002P003R001A007" not in PackedDataset(tmp_path / "out").names


DAMAGE = {
    "S001C001P001R009A001": (lambda t: b"", "the file is empty"),
    "S001C001P001R009A002": (lambda t: t[: len(t) // 3], "line"),
    "S001C001P001R009A003": (lambda t: b"0\n", "line 1: the recording has zero frames"),
    "S001C001P001R009A004": (lambda t: t.replace(b"0.2", b"x.2", 1), "not a number: '19x.2'"),
    "notes": (lambda t: t, "the name is not of the form"),
    "S001C001P001R009A000": (lambda t: t, "000"),
    "S001C001P001R009A121": (lambda t: t, "no data set has setup 1 with action 121"),
    "S001C001P001R009A005": (None, "cannot be read (not a regular file)"),
}  # fmt: skip


@pytest.fixture
def damaged_raw(tmp_path):
    write_recordings(tmp_path / "raw")
    text = skeleton_text(moving_body(np.random.default_rng(1), 5))
    for stem, (damage, _) in DAMAGE.items():
        path = tmp_path / "raw" / f"{stem}.skeleton"
        path.mkdir() if damage is None else path.write_bytes(damage(text))
    return tmp_path / "raw"


def test_bad_recordings_stop_the_conversion_and_are_all_listed(damaged_raw, tmp_path):
    with pytest.raises(UserError) as caught:
        convert(DATASETS["demo"], [damaged_raw], tmp_path / "out")
    assert len(caught.value.bad) == len(DAMAGE)
    for stem, (_, reason) in DAMAGE.items():
        assert reason in caught.value.bad[str(damaged_raw / f"{stem}.skeleton")]
        assert f"{stem}.skeleton: " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_skip_bad_goes_on_without_them_and_records_them(damaged_raw, tmp_path, capsys):
    arguments = ["--dataset", "demo", "--raw", str(damaged_raw), "--out", str(tmp_path / "out")]
    assert status_of(main, arguments) == 1
    assert "8 recordings cannot be converted, nothing was written" in capsys.readouterr().err
    assert status_of(main, [*arguments, "--skip-bad", "--workers", "2"]) == 0
    assert "8 bad recordings skipped" in capsys.readouterr().out
    skipped = json.loads((tmp_path / "out" / "dataset.json").read_text())["skipped"]
    assert {Path(name).stem for name in skipped} == set(DAMAGE)
    assert len(PackedDataset(tmp_path / "out")) == 24


def test_a_failed_conversion_leaves_the_earlier_data_set(tmp_path):
    before = tiny_dataset(tmp_path).joints.copy()
    (tmp_path / "raw" / "S001C001P001R009A001.skeleton").write_bytes(b"1\n")
    with pytest.raises(UserError):
        convert(DATASETS["demo"], [tmp_path / "raw"], tmp_path / "demo")
    np.testing.assert_array_equal(PackedDataset(tmp_path / "demo").joints, before)


def test_a_damaged_archive_entry_is_a_bad_recording(tmp_path):
    write_recordings(tmp_path / "raw")
    path = Path(shutil.make_archive(str(tmp_path / "official"), "zip", tmp_path / "raw"))
    content = bytearray(path.read_bytes())
    content[300:310] = b"0123456789"
    path.write_bytes(content)
    with pytest.raises(UserError, match="(?s)1 recording cannot be converted.*cannot be read"):
        convert(DATASETS["demo"], [path], tmp_path / "out")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dataset", "ntu60", "--raw", "nowhere"], "no such file, folder or archive: nowhere"),
        (["--raw", "."], "--raw needs --dataset"),
        (["--dataset", "ntu60", "--raw", "README.md"], "README.md is not a zip archive"),
        (
            ["--dataset", "ntu60", "--raw", "docs", "--out", "{tmp}/o"],
            "no recordings of NTU RGB+D 60 to convert in docs",
        ),
        (["--dataset", "ntu60", "--raw", "tests/golden", "--missing", "nowhere.txt"], "nowhere.txt"),
        (["--dataset", "ntu60", "--raw", "tests/golden", "--missing", "README.md"], "README.md names no recording"),
    ],
)
def test_mistakes_are_explained(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert status_of(main, [a.replace("{tmp}", str(tmp_path)) for a in arguments]) == 1
    assert message in capsys.readouterr().err


def test_only_one_conversion_at_a_time(tmp_path):
    write_recordings(tmp_path / "raw")
    with locked(tmp_path / "out"), pytest.raises(UserError, match="another program"):
        convert(DATASETS["demo"], [tmp_path / "raw"], tmp_path / "out")
    convert(DATASETS["demo"], [tmp_path / "raw"], tmp_path / "out")


def test_a_killed_conversion_leaves_nothing_that_opens_and_its_rerun_succeeds(tmp_path):
    write_recordings(tmp_path / "raw")
    script = (
        "import os, sys; from pathlib import Path\n"
        "from data_gen import ntu_gendata as n\n"
        "from data_gen.packed.writer import PackedWriter\n"
        "PackedWriter.finish = lambda *a: os._exit(9)\n"
        f"n.convert(n.get_dataset('demo'), [Path({str(tmp_path / 'raw')!r})], Path({str(tmp_path / 'out')!r}))\n"
    )
    file = tmp_path / "killed.py"
    file.write_text(
        f"if __name__ == '__main__':\n    import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        + "".join("    " + line + "\n" for line in script.splitlines())
    )
    assert subprocess.run([sys.executable, file]).returncode == 9
    with pytest.raises(UserError, match="not a packed data set"):
        PackedDataset(tmp_path / "out")
    convert(DATASETS["demo"], [tmp_path / "raw"], tmp_path / "out")
    assert len(PackedDataset(tmp_path / "out")) == 24
    assert ".partial" not in os.listdir(tmp_path / "out")


def test_workers_end_with_a_killed_conversion(tmp_path):
    write_recordings(tmp_path / "raw")
    os.mkfifo(tmp_path / "fifo")  # a parent that waits for ever, with its workers started
    file = tmp_path / "waiting.py"
    file.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from data_gen.raw.recordings import convert_all, find_recordings\n"
        "if __name__ == '__main__':\n"
        f"    found = find_recordings([{str(tmp_path / 'raw')!r}])[0]\n"
        "    results = convert_all(found, 2)\n"
        "    next(results)\n"
        "    print('started', flush=True)\n"
        f"    open({str(tmp_path / 'fifo')!r}).read()\n"
    )
    process = subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    workers = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [*filter(is_running, workers)]


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("dataset.json", "{}", "cannot be read"),
        ("dataset.json", '{"format": 99}', "format 99"),
        ("joints.npy", b"\x93NUMPY", "joints.npy: cannot be read"),
        ("label.npy", np.array([99] * 24), "a label lies outside 0..11"),
        ("label.npy", np.zeros(3, np.int64), "holds int64"),
        ("num_frame.npy", np.full(24, 7), "adds up to 168 frames"),
        ("xsub_train.npy", np.array([0, 24]), "an index lies outside"),
        ("xsub_train.npy", np.arange(24), "on both sides"),
        ("name.npy", np.array([{}] * 24), "name.npy: cannot be read"),  # a pickle
    ],
)
def test_damaged_data_sets_are_refused(file, content, message, tmp_path):
    path = tiny_dataset(tmp_path).path / file
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        PackedDataset(tmp_path / "demo")


def test_not_finite_frames_are_refused(tmp_path):
    path = tiny_dataset(tmp_path).path / "joints.npy"
    joints = np.load(path)
    joints[:] = np.nan
    np.save(path, joints)
    with pytest.raises(UserError, match="not finite"):
        PackedDataset(tmp_path / "demo")


def test_it_runs_from_its_own_folder_and_explains_what_is_missing(tmp_path):
    shutil.copytree(ROOT / "data_gen", tmp_path / "data_gen")
    command = [sys.executable, "ntu_gendata.py"]
    result = subprocess.run(command, cwd=tmp_path / "data_gen", capture_output=True, text=True)
    assert result.returncode == 1 and "no raw recordings at" in result.stderr and "Traceback" not in result.stderr
    write_recordings(tmp_path / "data" / "nturgbd_raw" / "nturgb+d_skeletons")
    result = subprocess.run(command, cwd=tmp_path / "data_gen", capture_output=True, text=True)
    assert result.returncode == 0 and "NTU RGB+D 60: 24 recordings" in result.stdout, result.stderr
    assert "no list of missing skeletons" in result.stdout
    assert len(PackedDataset(tmp_path / "data" / "ntu60")) == 24


def test_a_long_recording_is_converted_whole(tmp_path):
    (tmp_path / "raw").mkdir()
    for subject in (1, 3):
        text = skeleton_text(moving_body(np.random.default_rng(0), 700))
        (tmp_path / "raw" / f"S001C001P{subject:03d}R001A001.skeleton").write_bytes(text)
    convert(DATASETS["demo"], [tmp_path / "raw"], tmp_path / "out")
    assert PackedDataset(tmp_path / "out").num_frame.tolist() == [700, 700]


def test_the_table_knows_the_published_splits():
    ntu120 = DATASETS["ntu120"].protocols
    assert [len(p.train) for p in DATASETS["ntu60"].protocols] == [20, 2]
    assert len(ntu120[0].train) == 53 and ntu120[1].train == set(range(2, 33, 2))
    assert from_test_name("ntu120_xsetup_lr1")[1].name == "xsetup"
    assert from_test_name("ntu60_xsub")[1].recipe.batch_size == 512
    assert from_test_name("ntu60_xview")[1].recipe.batch_size == 1024
    assert from_test_name("demo_untrained")[0].name == "demo"
    assert from_test_name("demo")[1].name == "xsub" and from_test_name("demo_xview")[1].name == "xview"
    for name in ("mine", "ntu60", "ntu60_xsub2", "demo2", "demo_xview2"):  # a name is read whole
        assert from_test_name(name) is None


def test_of_many_bad_recordings_the_first_hundred_are_listed():
    error = UserError({f"{i:03}.skeleton": "the file is empty" for i in range(150)})
    lines = str(error).splitlines()
    assert lines[0].startswith("150 recordings cannot be converted") and len(error.bad) == 150
    assert "  099.skeleton: the file is empty" in lines and "  ... and 50 more" in lines
    assert not any("100.skeleton" in line for line in lines)


@pytest.mark.parametrize(
    "error, status, message",
    [
        (BrokenProcessPool(), 1, "error: a worker was killed"),
        (KeyboardInterrupt(), 130, "interrupted; nothing half-written is left"),
        (PermissionError(13, "Permission denied", "out"), 1, "error: [Errno 13] Permission denied: 'out'"),
    ],
)
def test_what_ends_a_conversion_from_outside_has_a_status_and_no_traceback(
    error, status, message, tmp_path, monkeypatch, capsys
):
    def fails(*args):
        raise error

    monkeypatch.setattr(ntu_gendata, "convert_all", fails)
    write_recordings(tmp_path / "raw", subjects=(1, 3), actions=(1,), cameras=(1,))
    arguments = ["--dataset", "demo", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert status_of(main, arguments) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_data_set_that_lies_there_is_converted_beside_the_published_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ntu_gendata, "DATA_ROOT", tmp_path)
    assert status_of(main, []) == 1
    assert f"no raw recordings at {tmp_path / 'nturgbd_raw'}, " in capsys.readouterr().err
    assert status_of(main, ["--dataset", "ntu120"]) == 1
    assert f"no raw recordings at {tmp_path / 'nturgbd_raw_120'}; name their place" in capsys.readouterr().err
    write_recordings(tmp_path / "nturgbd_raw", cameras=(1,))
    write_recordings(tmp_path / "demo_raw", cameras=(1,))
    assert status_of(main, ["--out", str(tmp_path / "out")]) == 1
    assert "--out needs --dataset" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert status_of(main, ["--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "cross_subject (xsub): 6 train, 6 val (published: 40,091 / 16,487)" in said
    assert said.count("no list of missing skeletons") == 1  # the demo has none by nature
    assert len(PackedDataset(tmp_path / "ntu60")) == len(PackedDataset(tmp_path / "demo")) == 12


def test_workers_must_be_positive(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--workers", "0"])
    assert stopped.value.code == 2 and "is not a number of processes, from 1" in capsys.readouterr().err
