"""tools.detect and tools.timeline, from the command line on, on small recordings."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from models.inference import load_encoder
from tools.utils.errors import UserError

import action_recognition
import pretrain
from data_gen.datasets import PKU, ROOT
from data_gen.packed.reader import PackedDataset
from data_gen.pku_gendata import convert, untrimmed_row
from data_gen.raw.normalise import normalise
from tests.data_gen.test_pku_gendata import write_part
from tests.helpers import skeleton_text
from tests.long_helpers import CLASSES, CYCLE, long_frames, pack_long_folder, write_long
from tools import detect, results, timeline
from tools.detection import timelines
from tools.detection.decoding import decode

COMMON = ["--device", "cpu"]


@pytest.fixture(scope="module")
def long_root(tmp_path_factory):
    """A data root with `mine_untrimmed`, and its folder `raw`."""
    root = tmp_path_factory.mktemp("long")
    pack_long_folder(write_long(root / "raw"), root / "mine_untrimmed", "mine_untrimmed")
    return root


@pytest.fixture
def evaluated(published, demo_root):
    """The published checkpoint with a classifier beside it."""
    action_recognition.main(["--pretrained", str(published), *COMMON, "--data-root", str(demo_root), "--epochs", "7"])
    return published


@pytest.fixture(scope="module")
def trained(tmp_path_factory, demo_root, long_root):
    """The folder of an untrained encoder and of a detector that was fine-tuned on it."""
    folder = tmp_path_factory.mktemp("runs") / "demo_small"
    flags = ["--checkpoint-path", str(folder), "--data-root", str(demo_root), "--hidden-size", "32", "--epochs", "0"]
    pretrain.main([*flags, *COMMON])
    flags = ["--finetune-dataset", "mine", "--data-root", str(long_root), "--epochs", "25", "--batch-size", "16"]
    detect.main(["--pretrained", str(folder), *COMMON, *flags, "--finetune"])
    return folder


@pytest.fixture
def detected(trained, tmp_path):
    """A copy of it, with `detection_finetune.pth.tar`."""
    return shutil.copytree(trained, tmp_path / "demo_small")


def lines_of(capsys, *flags):
    capsys.readouterr()
    timeline.main([*COMMON, "--json", *map(str, flags)])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_detector_finds_what_it_was_trained_to_find(detected):
    result = json.loads((detected / "detection_finetune.json").read_text())
    assert (result["dataset"], result["protocol"], result["task"]) == ("mine_untrimmed", "easy", "detection_finetune")
    assert result["mAP"]["0.5"]["by_action"] > 80 and result["f1"] > 80 and result["segments"] == 12
    assert result["loss"][-1] < 0.5 * result["loss"][0] and list(result["mAP"])[0] == "0.1"
    assert "overlap 0.5: mAP by action" in (detected / "detection_finetune.log").read_text()


def test_a_frozen_encoder_is_not_kept_and_a_fine_tuned_one_is(detected, long_root, capsys):
    flags = ["--finetune-dataset", "mine_untrimmed", "--protocol", "easy", "--data-root", str(long_root)]
    detect.main(["--pretrained", str(detected), *COMMON, *flags, "--epochs", "2", "--modality", "joint"])
    frozen, tuned = (
        torch.load(detected / f"{name}.pth.tar", weights_only=True)["weights"]
        for name in ("detection_joint", "detection_finetune")
    )
    before = load_encoder(detected, device="cpu").clip_encoder.backbone.state_dict()
    key = "ma_encoder.t_tr.layers.0.linear1.weight"
    assert set(frozen) == {"linear.weight", "linear.bias"}
    assert not torch.equal(tuned[f"backbone.{key}"], before[key])
    for name in ("detection_joint", "detection_finetune"):
        flags = ["--detector", detected / f"{name}.pth.tar", long_root / "raw" / "rec1.skeleton"]
        (line,) = lines_of(capsys, "--pretrained", detected, *flags)
        assert line["recording"] == "rec1" and line["frames"] == 4 * CYCLE
    truth = [(s["start"], s["end"], s["label"]) for s in line["truth"]]
    assert truth == [(i * CYCLE + 60, i * CYCLE + 130, CLASSES[(1 + i) % 3]) for i in range(4)]


def test_the_table_of_results_has_its_scores(detected, monkeypatch, tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    detected.rename(tmp_path / "checkpoints" / "demo_small")
    monkeypatch.setattr(results, "RUNS", tmp_path / "checkpoints")
    results.main([])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| demo_small | mine_untrimmed easy | 0      | all      | fine-tuned | "), row


def test_detection_on_pku_mmd_by_the_name_of_its_part(published, tmp_path):
    raw = write_part(tmp_path / "raw")
    convert(untrimmed_row(PKU[0]), raw, tmp_path / "pku1_untrimmed", untrimmed=True)
    flags = ["--finetune-dataset", "pku1", "--protocol", "cross_view", "--data-root", str(tmp_path), "--epochs", "1"]
    detect.main(["--pretrained", str(published), *COMMON, *flags])
    result = json.loads((published / "detection.json").read_text())
    assert (result["dataset"], result["protocol"], result["segments"]) == ("pku1_untrimmed", "xview", 6)
    assert list(result["mAP"]) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]
    classes = torch.load(published / "detection.pth.tar", weights_only=True)["classes"]
    assert len(classes) == 51 and classes[0] == "bow"


def test_the_same_seed_gives_the_same_detector(published, long_root):
    flags = ["--finetune-dataset", "mine", "--data-root", str(long_root), "--epochs", "2"]
    kept = []
    for _ in range(2):
        detect.main(["--pretrained", str(published), *COMMON, *flags])
        kept.append(torch.load(published / "detection.pth.tar", weights_only=True)["weights"])
    torch.testing.assert_close(kept[0], kept[1], rtol=0, atol=0)


def test_another_detector_replaces_none(published, long_root):
    flags = ["--finetune-dataset", "mine_untrimmed", "--protocol", "easy", "--data-root", str(long_root), "--epochs"]
    detect.main(["--pretrained", str(published), *COMMON, *flags, "1"])
    first = [(published / f"detection{end}").read_bytes() for end in (".json", ".pth.tar")]
    detect.main(["--pretrained", str(published), *COMMON, *flags, "2"])
    (kept,) = published.glob("detection_20*.json")
    assert [path.read_bytes() for path in (kept, kept.with_suffix(".pth.tar"))] == first
    names = [row.cells[0] for row in results.detection_rows("run", results.read_results(published))]
    assert names == ["run", f"run (kept {kept.stem.removeprefix('detection_')})"]


def test_a_timeline_is_what_the_windows_features_and_the_classifier_give(evaluated, long_root, capsys):
    """Against windows cut by hand, prepared by the clips' own conversion and averaged frame by frame."""
    (line,) = lines_of(
        capsys, "--pretrained", evaluated, "--window", "70", "--stride", "20", "--threshold", "0.1",
        long_root / "raw" / "rec0.skeleton",
    )  # fmt: skip
    packed = PackedDataset(long_root / "mine_untrimmed")
    frames, encoder = packed.recording(0), load_encoder(evaluated, device="cpu")
    saved = torch.load(evaluated / "action_recognition.pth.tar", weights_only=True)
    total, weight = np.zeros((len(frames), len(saved["bias"]))), np.zeros((len(frames), 1))
    for start in [*range(0, len(frames) - 69, 20), len(frames) - 70]:
        feature = encoder([normalise(frames[start : start + 70].astype(float))])
        probability = (feature @ saved["weight"].T + saved["bias"]).softmax(1).numpy()
        for i in range(70):
            importance = min(i, 69 - i) + 1
            total[start + i] += importance * probability[0]
            weight[start + i] += importance
    expected = list(decode([total / weight], 0.1, 15))
    assert [(s["start"], s["end"]) for s in line["segments"]] == [(d.start, d.end) for d in expected] != []
    assert [s["label"] for s in line["segments"]] == [saved["classes"][d.label] for d in expected]
    np.testing.assert_allclose([s["confidence"] for s in line["segments"]], [d.confidence for d in expected], atol=1e-4)
    assert line["segments"][0]["end_seconds"] == pytest.approx(line["segments"][0]["end"] / 30, abs=1e-3)


def test_files_folders_and_data_sets_give_the_same_timelines(detected, long_root, capsys):
    flags = ["--pretrained", detected, "--detector", detected / "detection_finetune.pth.tar"]
    packed = lines_of(capsys, *flags, long_root / "mine_untrimmed")
    assert [line["recording"] for line in packed] == [f"rec{i}" for i in range(6)]
    assert lines_of(capsys, *flags, long_root / "raw") == packed
    found = [s["label"] for s in packed[2]["segments"]]  # it was trained on
    assert found == [s["label"] for s in packed[2]["truth"]] == ["jump", "wave", "sit", "jump"]


def test_a_gallery_votes(published, demo_root, long_root, capsys):
    flags = ["--pretrained", published, "--gallery", demo_root / "demo", "-k", 3, "--modality", "joint"]
    (line,) = lines_of(capsys, *flags, "--threshold", "0.5", long_root / "raw" / "rec0.skeleton")
    assert line["segments"] and {s["label"] for s in line["segments"]} <= {
        "raise an arm",
        "lower an arm",
        "wave a hand",
    }
    assert all(0.5 <= s["confidence"] <= 1 for s in line["segments"])


def test_outputs(detected, long_root, tmp_path, capsys):
    flags = ["--pretrained", str(detected), "--detector", str(detected / "detection_finetune.pth.tar"), *COMMON]
    timeline.main([*flags, str(long_root / "raw" / "rec0.skeleton"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    result = json.loads((tmp_path / "out" / "rec0.json").read_text())
    with open(tmp_path / "out" / "rec0.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["start", "end", "label", "confidence"] and len(rows) == len(result["segments"]) > 0
    for row, segment in zip(rows, result["segments"]):
        assert (int(row["start"]), int(row["end"]), row["label"]) == tuple(
            segment[k] for k in ("start", "end", "label")
        )
    assert (tmp_path / "out" / "rec0.png").read_bytes().startswith(b"\x89PNG")
    assert said.out.startswith("rec0, 0:20.0\n| start") and f"| {rows[0]['label']}" in said.out


def test_a_recording_shorter_than_a_window_is_one_window_and_nobody_is_background(evaluated, tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "short.skeleton").write_bytes(skeleton_text(long_frames(rng, [0])[60:85]))
    (tmp_path / "none.skeleton").write_bytes(skeleton_text([[]] * 200))
    gap = long_frames(rng, [0])[60:130]
    (tmp_path / "gap.skeleton").write_bytes(skeleton_text(gap + [[]] * 200 + gap))
    flags = ["--pretrained", evaluated, "--threshold", "0.05"]
    lines = {line["recording"]: line for line in lines_of(capsys, *flags, tmp_path)}
    assert [(s["start"], s["end"]) for s in lines["short"]["segments"]] == [(0, 25)]
    assert lines["none"]["segments"] == [] and lines["none"]["frames"] == 200
    for segment in lines["gap"]["segments"]:
        assert segment["end"] <= 70 or segment["start"] >= 270


def test_a_growing_file_is_followed_until_ctrl_c(detected, tmp_path):
    text = skeleton_text(long_frames(np.random.default_rng(7), [0, 1, 2, 0]))
    lines = text.splitlines(keepends=True)
    path = tmp_path / "growing.skeleton"
    path.write_bytes(lines[0])
    command = [sys.executable, "-m", "tools.timeline", "--pretrained", detected, "--follow", path, "--json", *COMMON]
    command += ["--detector", detected / "detection_finetune.pth.tar", "--out", tmp_path / "out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*map(str, command)], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        with open(path, "ab") as file:
            for start in range(1, len(lines), 28 * 20):
                file.write(b"".join(lines[start : start + 28 * 20]))
                file.flush()
        first = json.loads(process.stdout.readline())  # told while it is followed
        assert first["label"] == "wave" and abs(first["start"] - 60) < 20
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert process.returncode == 0, err
        rest = [json.loads(line) for line in out.splitlines()]
        assert [s["label"] for s in (first, *rest)] == ["wave", "sit", "jump", "wave"]
        assert json.loads((tmp_path / "out" / "growing.json").read_text())["frames"] == 4 * CYCLE
    finally:
        timer.cancel()
        process.kill()


def test_wrong_options_end_with_a_message(detected, evaluated, demo_root, long_root, tmp_path):
    raw = long_root / "raw"
    detector = ["--detector", detected / "detection_finetune.pth.tar"]
    np.save(tmp_path / "flat.npy", np.zeros((10, 25, 2), np.float32))
    for flags, message in (
        ([], "which recordings"),
        ([raw, "--follow", raw / "rec0.skeleton"], "which recordings"),
        ([*detector, tmp_path / "nothing.skeleton"], "no such file"),
        ([*detector, tmp_path / "flat.npy"], "holds kinect_v2 with 2 coordinates"),
        ([*detector, raw, "--stride", "100", "--window", "50"], "leaves some between windows"),
        ([*detector, raw, raw], "two recordings are called rec0"),
        ([*detector, demo_root / "demo"], "holds clips, no long recordings: use tools.predict"),
        ([raw, "--modality", "joint"], "--modality goes with --gallery"),
        ([raw, "--detector", raw / "rec0.skeleton"], "train one by python -m tools.detect"),
        ([raw, "--detector", raw / "none"], "no detector at"),
        ([raw, "--detector", evaluated / "action_recognition.pth.tar"], "is not a detector"),
        ([raw, "--gallery", long_root / "mine_untrimmed"], "mine_untrimmed holds long recordings, not clips"),
    ):
        with pytest.raises((UserError, ValueError, OSError), match=message):
            timeline.main(["--pretrained", str(detected), *COMMON, *map(str, flags)])
    path = detected / "checkpoint_untrained.pth.tar"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["module.backbone.mm_fusion.t_fusion.0.weight"].mul_(2)
    torch.save(state, path)
    with pytest.raises(UserError, match="whose weights are not those of"):
        timeline.main(["--pretrained", str(detected), *COMMON, *map(str, detector), str(raw)])


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "s", "0s", "1m", "", "1" + "0" * 400 + "s"])
def test_a_wrong_length_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        timeline.parse_args(["--pretrained", "x", "--window", text])
    assert "is not a length" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "1e-30", "1e30", "nan"])
def test_a_frame_rate_that_no_camera_has_is_refused(rate, capsys):
    with pytest.raises(SystemExit):
        timeline.parse_args(["--pretrained", "x", "--frame-rate", rate])
    assert "is not from 0.01 to a million" in capsys.readouterr().err


def test_lengths_are_in_seconds_or_frames():
    assert [timelines.in_frames(text, 30) for text in ("2.5s", "75", "0.001s")] == [75, 75, 1]


def test_detection_refuses_clips_and_unknown_data(published, demo_root, long_root):
    for flags, message in (
        (["--finetune-dataset", "demo", "--data-root", demo_root], "holds clips; detection takes long recordings"),
        (["--data-root", demo_root], "on which data set"),
        (["--finetune-dataset", "nothing", "--data-root", long_root], "unknown data set 'nothing'"),
        (["--finetune-dataset", "mine", "--protocol", "xsub", "--data-root", long_root], "has no protocol 'xsub'"),
        (["--finetune-dataset", "mine", "--stride", "200", "--data-root", long_root], "leaves frames between windows"),
    ):
        with pytest.raises(UserError, match=message):
            detect.main(["--pretrained", str(published), *COMMON, *map(str, flags)])
    flags = ["--checkpoint-path", str(published), "--pre-dataset", "mine_untrimmed", "--protocol", "easy"]
    with pytest.raises(UserError, match="holds long recordings, not clips"):
        pretrain.main([*flags, "--data-root", str(long_root), *COMMON])
