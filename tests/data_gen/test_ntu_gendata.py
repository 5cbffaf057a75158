import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_gen import ntu_gendata
from data_gen.datasets import DATASETS, ROOT
from data_gen.ntu_gendata import convert, main
from data_gen.packed.reader import PackedDataset
from data_gen.raw import conversion
from tests.helpers import GOLDEN, moving_body, skeleton_text, tiny_dataset, write_recordings
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
        for split in ("train", "val"):
            rows, key = packed.split(protocol, split), f"{protocol}_{split}"
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


DAMAGE = {
    "S001C001P001R009A001": (lambda t: b"", "empty"),
    "S001C001P001R009A002": (lambda t: t[: len(t) // 3], "line"),
    "S001C001P001R009A003": (lambda t: b"0\n", "line 1: "),
    "S001C001P001R009A004": (lambda t: t.replace(b"0.2", b"x.2", 1), "'19x.2'"),
    "notes": (lambda t: t, "name"),
    "S001C001P001R009A000": (lambda t: t, "000"),
    "S001C001P001R009A121": (lambda t: t, "action 121"),
}  # fmt: skip


@pytest.fixture
def damaged_raw(tmp_path):
    write_recordings(tmp_path / "raw")
    text = skeleton_text(moving_body(np.random.default_rng(1), 5))
    for stem, (damage, _) in DAMAGE.items():
        path = tmp_path / "raw" / f"{stem}.skeleton"
        path.write_bytes(damage(text))
    return tmp_path / "raw"


def test_bad_recordings_stop_the_conversion_and_are_all_listed(damaged_raw, tmp_path):
    with pytest.raises(UserError) as caught:
        convert(DATASETS["demo"], [damaged_raw], tmp_path / "out")
    lines = {line.strip() for line in str(caught.value).splitlines()[1:-1]}
    assert len(lines) == len(DAMAGE)
    for stem, (_, reason) in DAMAGE.items():
        assert any(line.startswith(f"{damaged_raw / stem}.skeleton: ") and reason in line for line in lines)
    assert not (tmp_path / "out").exists()


def test_skip_bad_goes_on_without_them_and_records_them(damaged_raw, tmp_path, capsys):
    arguments = ["--dataset", "demo", "--raw", str(damaged_raw), "--out", str(tmp_path / "out")]
    assert status_of(main, arguments) == 1
    assert "7 recordings" in capsys.readouterr().err
    assert status_of(main, [*arguments, "--skip-bad", "--workers", "2"]) == 0
    assert "7 bad recordings" in capsys.readouterr().out
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
    with pytest.raises(UserError, match="(?s)1 recording.*official.zip:"):
        convert(DATASETS["demo"], [path], tmp_path / "out")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dataset", "ntu60", "--raw", "nowhere"], "nowhere"),
        (["--raw", "."], "--dataset"),
        (["--dataset", "ntu60", "--raw", "README.md"], "README.md"),
        (["--dataset", "ntu60", "--raw", "docs"], "docs"),
        (["--dataset", "ntu60", "--raw", "tests/golden", "--missing", "README.md"], "README.md"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_mistakes_are_explained(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert status_of(main, [*arguments, "--out", str(tmp_path / "out")]) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_it_runs_from_its_own_folder_and_explains_what_is_missing(tmp_path):
    for package in ("data_gen", "utils"):
        shutil.copytree(ROOT / package, tmp_path / package)
    command = [sys.executable, "ntu_gendata.py"]
    result = subprocess.run(command, cwd=tmp_path / "data_gen", capture_output=True, text=True)
    assert result.returncode == 1 and "no raw recordings at" in result.stderr and "Traceback" not in result.stderr
    write_recordings(tmp_path / "data" / "nturgbd_raw" / "nturgb+d_skeletons")
    result = subprocess.run(command, cwd=tmp_path / "data_gen", capture_output=True, text=True)
    assert result.returncode == 0 and "NTU RGB+D 60: 24 recordings" in result.stdout, result.stderr
    assert "no list of missing skeletons" in result.stdout
    assert len(PackedDataset(tmp_path / "data" / "ntu60")) == 24


def test_the_table_knows_the_published_splits():
    assert [len(p.train) for p in DATASETS["ntu60"].protocols] == [20, 2]
    xsub, xsetup = DATASETS["ntu120"].protocols
    assert len(xsub.train) == 53 and xsetup.train == set(range(2, 33, 2))


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ntu_gendata, "convert_all", interrupt)
    write_recordings(tmp_path / "raw", subjects=(1, 3), actions=(1,), cameras=(1,))
    arguments = ["--dataset", "demo", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert status_of(main, arguments) == 130
    assert not (tmp_path / "out").exists()


def test_every_data_set_that_lies_there_is_converted_beside_the_published_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conversion, "DATA_ROOT", tmp_path)
    assert status_of(main, []) == 1
    assert str(tmp_path / "nturgbd_raw") in capsys.readouterr().err
    assert status_of(main, ["--dataset", "ntu120"]) == 1
    assert str(tmp_path / "nturgbd_raw_120") in capsys.readouterr().err
    write_recordings(tmp_path / "nturgbd_raw", cameras=(1,))
    write_recordings(tmp_path / "demo_raw", cameras=(1,))
    assert status_of(main, ["--out", str(tmp_path / "out")]) == 1
    assert "--out needs --dataset" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert status_of(main, ["--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "cross_subject (xsub): 6 train, 6 val (published: 40,091 / 16,487)" in said
    assert said.count("no list of missing skeletons") == 1  # the demo has none by nature
    assert len(PackedDataset(tmp_path / "ntu60")) == len(PackedDataset(tmp_path / "demo")) == 12
