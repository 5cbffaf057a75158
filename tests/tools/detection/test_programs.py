"""tools.detect and tools.timeline, from the command line on, on small recordings."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import normalise
from feeder.modalities import derive
from models import checkpoints, load_encoder
from models.frozen import Representation
from models.published import new_key
from models.transformer import Transformer
from tests.helpers import GOLDEN, skeleton_text
from tests.long_helpers import CLASSES, CYCLE, long_frames, pack_long_folder, write_long
from tests.programs import assert_refused, call
from tools.detection.detector import read_detector
from tools.detection.scoring import by_gallery, decode
from tools.inference.gallery import Gallery
from utils.files import read_results


@pytest.fixture(scope="module")
def long_root(tmp_path_factory):
    """A data root with `mine_untrimmed`, and its folder `raw`."""
    root = tmp_path_factory.mktemp("long")
    pack_long_folder(write_long(root / "raw"), root / "mine_untrimmed", "mine_untrimmed")
    return root


@pytest.fixture
def evaluated(published, demo_root):
    """The published checkpoint with a classifier beside it."""
    flags = ("--data-root", demo_root, "--device", "cpu", "--epochs", 7, "--schedule")
    assert call("action_recognition", "--pretrained", published, "--finetune-dataset", "demo", *flags).status == 0
    return published


@pytest.fixture(scope="module")
def trained(tmp_path_factory, demo_root, long_root):
    """The folder of an untrained encoder and of a detector that was fine-tuned on it."""
    folder = tmp_path_factory.mktemp("runs") / "demo_small"
    flags = ("--data-root", demo_root, "--hidden-size", 32, "--epochs", 0, "--schedule", "--device", "cpu")
    assert call("pretrain", "--checkpoint-path", folder, *flags).status == 0
    detect(folder, long_root, "--epochs", 25, "--batch-size", 16, "--finetune")
    return folder


@pytest.fixture
def detected(trained, tmp_path):
    """A copy of it, with `detection.pth.tar`."""
    return shutil.copytree(trained, tmp_path / "demo_small")


def detect(folder, root, *flags, dataset="mine"):
    """Train and measure a detector; return the line of results.jsonl."""
    ended = call("tools.detect", "--pretrained", folder, "--device", "cpu", "--finetune-dataset", dataset,
                 "--data-root", root, *flags)  # fmt: skip
    assert ended.status == 0, ended
    return read_results(folder)[-1]


def timelines(folder, *flags):
    ended = call("tools.timeline", "--pretrained", folder, "--device", "cpu", "--json", *flags)
    assert ended.status == 0, ended
    return [json.loads(line) for line in ended.out.splitlines()]


def test_a_detector_finds_what_it_was_trained_to_find(detected):
    (result,) = read_results(detected)
    assert (result["task"], result["modality"], result["dataset"], result["protocol"]) == (
        "detection", "all", "mine_untrimmed", "easy",
    )  # fmt: skip
    assert result["metrics"]["map_by_action"] > 80 and result["metrics"]["f1"] > 80
    recipe = {"window": 64, "stride": 16, "threshold": 0.2, "shortest": 15, "lr": 1e-3, "epochs": 25, "batch_size": 16}
    assert result["settings"] | recipe | {"seed": 0, "finetune": True} == result["settings"]
    assert result["settings"]["encoder"] == load_encoder(detected, device="cpu").weights_hash
    assert result["files"] == {"detector": "detection.pth.tar"}
    assert "f1: " in (detected / "detection.log").read_text()


def test_a_frozen_encoder_is_not_written_and_a_fine_tuned_one_is(detected, long_root):
    result = detect(detected, long_root, "--epochs", 2, "--modality", "joint")
    assert (result["files"], result["modality"]) == ({"detector": "detection_2.pth.tar"}, "joint")
    frozen, tuned = (checkpoints.load_tensors(detected / f"detection{n}.pth.tar")["weights"] for n in ("_2", ""))
    before = load_encoder(detected, device="cpu").encoder.state_dict()
    key = "layers.temporal.linear1.weight"
    assert set(frozen) == {"linear.weight", "linear.bias"}
    assert not torch.equal(tuned[f"encoder.{key}"], before[key])
    for name in ("detection_2", "detection"):
        flags = ("--detector", detected / f"{name}.pth.tar", long_root / "raw" / "rec1.skeleton")
        (line,) = timelines(detected, *flags)
        assert line["recording"] == "rec1" and line["frames"] == 4 * CYCLE
    truth = [(s["start"], s["end"], s["label"]) for s in line["truth"]]
    assert truth == [(i * CYCLE + 60, i * CYCLE + 130, CLASSES[(1 + i) % 3]) for i in range(4)]


def test_the_data_is_part_of_the_settings(published, long_root, tmp_path):
    first, again = (detect(published, long_root, "--epochs", 1, "--protocol", "easy") for _ in range(2))
    assert again["settings"] == first["settings"] and again["metrics"] == first["metrics"]
    raw = write_long(tmp_path / "raw")
    table = (raw / "segments.csv").read_text().replace("rec0,60,130", "rec0,60,131")
    (raw / "segments.csv").write_text(table)
    pack_long_folder(raw, tmp_path / "mine_untrimmed", "mine_untrimmed")
    other = detect(published, tmp_path, "--epochs", 1, "--protocol", "easy")
    assert other["settings"]["data"] != first["settings"]["data"]


def test_a_detector_of_an_earlier_version_is_read(published, long_root):
    """Such files name the encoder's weights as published checkpoints do."""
    detect(published, long_root, "--protocol", "easy", "--epochs", 1, "--finetune")
    path = published / "detection.pth.tar"
    flags = ("--threshold", 0.01, "--shortest", 1, "--detector", path, long_root / "raw" / "rec0.skeleton")
    before, state = timelines(published, *flags), checkpoints.load_tensors(path)
    keys = torch.load(GOLDEN / "official_h8.pth.tar", weights_only=True)["state_dict"]
    old_keys = {new_key(key): key for key in (key.removeprefix("module.") for key in keys)}
    weights = {old_keys.get(key, key): value for key, value in state["weights"].items()}
    assert sum(key.startswith("backbone.") for key in weights) == len(weights) - 2
    checkpoints.write(path, {k: state[k] for k in ("classes", "window", "modality", "encoder")} | {"weights": weights})
    assert timelines(published, *flags) == before and before[0]["segments"]


def test_frame_logits_of_any_length_are_interpolated_to_the_frames(tmp_path, demo_root, long_root):
    flags = ("--data-root", demo_root, "--hidden-size", 8, "--epochs", 0, "--schedule", "--device", "cpu")
    folder = tmp_path / "demo_stgcn"
    assert call("pretrain", "--encoder", "stgcn", "--checkpoint-path", folder, *flags).status == 0
    assert detect(folder, long_root, "--epochs", 2, "--finetune")["files"]["detector"] == "detection.pth.tar"
    encoder = load_encoder(folder, device="cpu")
    detector = read_detector(folder / "detection.pth.tar", encoder)
    clips = torch.randn(3, 64, 2, 25, 3)
    with torch.no_grad():
        logits = detector.linear(detector.encoder.frame_features(derive(clips, encoder.modalities, encoder.parents)))
        assert logits.shape == (3, 16, 4)
        middles = np.arange(16) * 4 + 1.5  # of every four frames
        expected = [[np.interp(np.arange(64), middles, logits[b, :, c]) for c in range(4)] for b in range(3)]
        np.testing.assert_allclose(detector(clips).mT, expected, atol=1e-5)


def test_an_encoder_without_frame_features_is_named(published, long_root, monkeypatch):
    monkeypatch.delattr(Transformer, "frame_features")
    flags = ("--finetune-dataset", "mine", "--protocol", "easy", "--data-root", long_root, "--device", "cpu")
    assert_refused(call("tools.detect", "--pretrained", published, *flags), "Transformer has no frame_features")


def test_a_timeline_is_what_the_windows_features_and_the_classifier_give(evaluated, long_root):
    """Against windows cut by hand, prepared by the clips' own conversion and averaged frame by frame."""
    flags = ("--window", "2.33s", "--stride", 20, "--threshold", 0.1, long_root / "raw" / "rec0.skeleton")
    (line,) = timelines(evaluated, *flags)
    packed = PackedDataset(long_root / "mine_untrimmed")
    frames, encoder = packed.recording(0), load_encoder(evaluated, device="cpu")
    saved = checkpoints.load_tensors(evaluated / "action_recognition.pth.tar")
    total, weight = np.zeros((len(frames), len(saved["bias"]))), np.zeros((len(frames), 1))
    for start in [*range(0, len(frames) - 69, 20), len(frames) - 70]:
        feature = encoder([normalise(frames[start : start + 70].astype(float))])
        probability = (feature @ saved["weight"].T + saved["bias"]).softmax(1).numpy()
        for i in range(70):
            importance = min(i, 69 - i) + 1
            total[start + i] += importance * probability[0]
            weight[start + i] += importance
    expected = decode(total / weight, 0.1, 15)
    assert [(s["start"], s["end"]) for s in line["segments"]] == [(d.start, d.end) for d in expected] != []
    assert [s["label"] for s in line["segments"]] == [saved["classes"][d.label] for d in expected]
    np.testing.assert_allclose([s["confidence"] for s in line["segments"]], [d.confidence for d in expected], atol=1e-4)
    assert line["segments"][0]["end_seconds"] == pytest.approx(line["segments"][0]["end"] / 30, abs=1e-3)


def test_files_folders_and_data_sets_give_the_same_timelines(detected, long_root):
    flags = ("--detector", detected / "detection.pth.tar")
    packed = timelines(detected, *flags, long_root / "mine_untrimmed")
    assert [line["recording"] for line in packed] == [f"rec{i}" for i in range(6)]
    assert timelines(detected, *flags, long_root / "raw") == packed
    labels = [s["label"] for s in packed[2]["segments"]]  # of a recording of the train split
    assert labels == [s["label"] for s in packed[2]["truth"]] == ["jump", "wave", "sit", "jump"]


def test_a_class_has_the_cosines_of_its_clips_among_the_nearest(published):
    """Against the neighbours of each window, found by hand."""
    encoder = load_encoder(published, "joint", "cpu")
    gallery_clips, windows = torch.randn(12, 64, 2, 25, 3), torch.randn(5, 64, 2, 25, 3)
    labels = torch.tensor([0, 1, 2] * 4)
    features = encoder.encode(gallery_clips, encoder.streams)[0]
    represent = Representation.fit(encoder, "centred", features)
    gallery = Gallery(encoder, represent, represent(features), [""] * 12, labels.tolist(), list("abc"))
    scores = by_gallery(gallery, 4).score(windows)
    cosines = F.cosine_similarity(
        represent(encoder.encode(windows, encoder.streams)[0])[:, None], represent(features), 2
    )
    for window, row in enumerate(cosines.tolist()):
        expected = [0.0, 0.0, 0.0]
        for i in sorted(range(12), key=lambda i: -row[i])[:4]:
            expected[labels[i]] += max(0, row[i]) / 4
        assert scores[window, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_gallery_votes(published, demo_root, long_root):
    flags = ("--gallery", demo_root / "demo", "-k", 3, "--modality", "joint", "--threshold", 0.5)
    (line,) = timelines(published, *flags, long_root / "raw" / "rec0.skeleton")
    names = {"raise an arm", "lower an arm", "wave a hand"}
    assert line["segments"] and {s["label"] for s in line["segments"]} <= names
    assert all(0.5 <= s["confidence"] <= 1 for s in line["segments"])


def test_outputs(detected, long_root, tmp_path):
    raw, out = long_root / "raw" / "rec0.skeleton", tmp_path / "out"
    flags = ("--pretrained", detected, "--detector", detected / "detection.pth.tar", "--device", "cpu", raw)
    said = call("tools.timeline", *flags, "--out", out)
    result = json.loads((out / "rec0.json").read_text())
    with open(out / "rec0.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["start", "end", "label", "confidence"] and len(rows) == len(result["segments"]) > 0
    for row, segment in zip(rows, result["segments"]):
        assert [int(row["start"]), int(row["end"]), row["label"]] == [segment[k] for k in ("start", "end", "label")]
    assert (out / "rec0.png").read_bytes().startswith(b"\x89PNG")
    assert said.out.startswith("rec0, 0:20.0\n| start") and f"| {rows[0]['label']}" in said.out
    assert call("tools.timeline", *flags, "--out", out).status == 0  # a timeline may replace a timeline
    for name in ("rec0.csv", "rec0.json"):  # but no recording, nor another program's file
        other = tmp_path / name
        other.write_text("{}" if name.endswith("json") else "1,2\n")
        assert_refused(call("tools.timeline", *flags, "--out", tmp_path), str(other))
        other.unlink()


def test_a_recording_shorter_than_a_window_is_one_window_and_nobody_is_background(evaluated, tmp_path):
    rng = np.random.default_rng(0)
    gap = long_frames(rng, [0])[60:130]
    for name, frames in (("short", gap[:25]), ("none", [[]] * 200), ("gap", gap + [[]] * 200 + gap)):
        (tmp_path / f"{name}.skeleton").write_bytes(skeleton_text(frames))
    lines = {line["recording"]: line for line in timelines(evaluated, "--threshold", 0.05, tmp_path)}
    assert [(s["start"], s["end"]) for s in lines["short"]["segments"]] == [(0, 25)]
    assert lines["none"]["segments"] == [] and lines["none"]["frames"] == 200
    for segment in lines["gap"]["segments"]:
        assert segment["end"] <= 70 or segment["start"] >= 270


def test_wrong_options_end_with_a_message(detected, evaluated, demo_root, long_root, tmp_path):
    raw, probe = long_root / "raw", evaluated / "action_recognition.pth.tar"
    detector = ("--detector", detected / "detection.pth.tar")
    flat, bad = tmp_path / "flat.npy", tmp_path / "bad.pth.tar"
    np.save(flat, np.zeros((10, 25, 2), np.float32))
    checkpoints.write(bad, checkpoints.load_tensors(detector[1]) | {"weights": {}})
    for flags, message in (
        ((), "RECORDING"),
        ((*detector, tmp_path / "nothing.skeleton"), "nothing.skeleton"),
        ((*detector, flat), str(flat)),
        ((*detector, raw, "--stride", 100, "--window", 50), "--stride 100"),
        ((*detector, raw, long_root / "mine_untrimmed"), "rec0"),
        ((*detector, demo_root / "demo"), str(demo_root / "demo")),
        ((raw, "--modality", "joint"), "--modality"),
        ((raw, "--window", "0s"), "--window"),
        ((raw, "--detector", raw / "rec0.skeleton"), str(raw / "rec0.skeleton")),
        ((raw, "--detector", bad), str(bad)),
        ((raw, "--detector", probe), str(probe)),
    ):
        assert_refused(call("tools.timeline", "--pretrained", detected, "--device", "cpu", *flags), message)
    ended = call("tools.timeline", "--pretrained", evaluated, "--device", "cpu", *detector, raw)
    assert_refused(ended, str(detector[1]))  # another encoder's


def test_detection_refuses_clips_and_unknown_data(published, demo_root, long_root):
    for flags, message in (
        (("--finetune-dataset", "demo", "--data-root", demo_root), str(demo_root / "demo")),
        (("--data-root", demo_root), "--finetune-dataset"),
        (("--finetune-dataset", "nothing", "--data-root", long_root), "nothing"),
        (("--finetune-dataset", "mine", "--protocol", "xsub", "--data-root", long_root), "xsub"),
        (("--finetune-dataset", "mine", "--stride", 200, "--data-root", long_root), "--stride 200"),
    ):
        assert_refused(call("tools.detect", "--pretrained", published, "--device", "cpu", *flags), message)
    flags = ("--checkpoint-path", published, "--pre-dataset", "mine_untrimmed", "--protocol", "easy", "--device", "cpu")
    assert_refused(call("pretrain", *flags, "--data-root", long_root), str(long_root / "mine_untrimmed"))
