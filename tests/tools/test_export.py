import importlib.util
import json

import numpy as np
import onnxruntime
import pytest
import torch

import action_recognition
from data_gen.class_names import class_names
from data_gen.packed.reader import PackedDataset
from models import load_encoder
from tools import export
from tools.evaluation import linear_classifier
from tools.evaluation.features import FrozenEncoder
from tools.inference import exporting
from tools.utils.errors import UserError


@pytest.fixture
def evaluated(published, demo_root):
    data = ["--data-root", str(demo_root), "--device", "cpu"]
    action_recognition.main(["--pretrained", str(published), *data, "--epochs", "5", "--modality", "joint+motion"])
    return published


def centred(clips):
    """Clips (B, T, 2, 25, 3) minus the first person's spine."""
    return clips - clips[:, :, :1, 1:2]


def exported(published, out, *more):
    export.main(["--pretrained", str(published), "--out", str(out), *map(str, more)])
    return json.loads((out / "export.json").read_text())


def outputs_of(folder, clips):
    """What both files give for clips, in the order of the outputs."""
    session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(folder / "encoder.pt2").module()
    with torch.no_grad():
        return {"onnx": session.run(None, {"clips": clips}), "torch": [o.numpy() for o in program(torch.tensor(clips))]}


def test_both_formats_give_the_features_and_scores_at_any_batch_and_length(evaluated, demo_root, tmp_path, capsys):
    path = evaluated / "action_recognition_joint+motion.pth.tar"
    card = exported(evaluated, tmp_path / "out", "--classifier", path)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["encoder.onnx", "encoder.pt2", "export.json"]
    assert card["modality"] == "joint+motion" and card["outputs"] == ["feature", "logits"] and card["hidden_size"] == 8
    assert card["classes"] == list(class_names("demo"))
    assert card["input"] == {"clips": ["batch", "frames", 2, 25, 3]}
    assert "encoder.onnx: within" in (said := capsys.readouterr().out) and "encoder.pt2: within" in said
    encoder, saved = load_encoder(evaluated, "joint+motion", "cpu"), torch.load(path, weights_only=True)
    dataset = PackedDataset(demo_root / "demo")
    rng = np.random.default_rng(0)
    for clips in (
        dataset.recording(3)[None],
        centred(rng.normal(size=(1, 64, 2, 25, 3))),
        centred(rng.normal(size=(3, 64, 2, 25, 3))),
        centred(rng.normal(size=(5, 301, 2, 25, 3))),
        centred(rng.normal(size=(2, 1, 2, 25, 3))),
    ):
        clips = np.array(clips, np.float32)
        feature = encoder(torch.from_numpy(clips))
        logits = feature @ saved["weight"].T + saved["bias"]
        for found in outputs_of(tmp_path / "out", clips).values():
            np.testing.assert_allclose(found[0], feature, atol=1e-5, rtol=0)
            np.testing.assert_allclose(found[1], logits, atol=1e-5, rtol=0)


def test_one_format_without_a_classifier(published, tmp_path):
    card = exported(published, tmp_path / "out", "--format", "torch", "--modality", "bone")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["encoder.pt2", "export.json"]
    assert (card["modality"], card["outputs"]) == ("bone", ["feature"]) and "classes" not in card
    clips = centred(torch.randn(3, 64, 2, 25, 3))
    (feature,) = torch.export.load(tmp_path / "out" / "encoder.pt2").module()(clips)
    torch.testing.assert_close(feature, load_encoder(published, "bone", "cpu")(clips))
    assert not torch.allclose(feature, load_encoder(published, "joint", "cpu")(clips), atol=1e-3)


def test_clips_that_are_not_centred_come_out_as_nan(evaluated, demo_root, tmp_path):
    card = exported(evaluated, tmp_path, "--classifier", evaluated / "action_recognition_joint+motion.pth.tar")
    assert "the first person's spine_middle is at the origin" in card["preparation"]
    assert "that person's left_shoulder and right_shoulder lie along +x" in card["preparation"] and card["centred"]
    clips = np.stack([PackedDataset(demo_root / "demo").recording(3)] * 4)
    clips[1] += 0.1
    clips[2] = 0  # nobody
    clips[3, :5] = 0  # nobody at first
    for feature, logits in outputs_of(tmp_path, clips).values():
        for values in (feature, logits):
            assert np.isnan(values).all(1).tolist() == [False, True, False, False]
            assert np.isfinite(values[[0, 2, 3]]).all()


@pytest.mark.parametrize("kind", ["ensemble_centred", "all_standardised"])
def test_the_classifier_of_another_representation_is_exported(kind, published, demo_root, tmp_path):
    modality, flag = {"ensemble_centred": ("ensemble", "--centre"), "all_standardised": ("all", "--standardise")}[kind]
    data = ["--data-root", str(demo_root), "--device", "cpu", "--modality", modality, flag]
    action_recognition.main(["--pretrained", str(published), *data, "--epochs", "5"])
    path = published / linear_classifier.file_of(kind)
    assert exported(published, tmp_path / "out", "--classifier", path)["modality"] in ("ensemble", "joint+bone+motion")
    clips = PackedDataset(demo_root / "demo").recording(3)[None]
    encoder = FrozenEncoder.open(published, torch.device("cpu"))
    parts = ("all", "joint", "bone", "motion") if modality == "ensemble" else ("all",)
    plain = torch.cat([load_encoder(published, part, "cpu")(torch.tensor(clips)) for part in parts], 1)
    scores = linear_classifier.load_classifier(path, encoder).scores(plain)
    for feature, logits in outputs_of(tmp_path / "out", clips).values():
        np.testing.assert_allclose(feature, plain, atol=1e-5, rtol=0)
        np.testing.assert_allclose(logits, scores, atol=1e-4 * max(1, scores.abs().max()), rtol=0)


def test_a_modality_that_is_not_the_classifiers_is_refused(evaluated, tmp_path):
    path = evaluated / "action_recognition_joint+motion.pth.tar"
    with pytest.raises(UserError, match="--modality bone: .* takes features of joint\\+motion"):
        exported(evaluated, tmp_path / "out", "--classifier", path, "--modality", "bone")
    with pytest.raises(UserError, match="no classifier at .*nowhere"):
        exported(evaluated, tmp_path / "out", "--classifier", tmp_path / "nowhere")


def test_without_the_packages_onnx_is_refused_and_torch_is_not(published, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "onnxscript" else find(n, *a))
    with pytest.raises(UserError, match="ONNX needs onnxscript: pip install .*, or give --format torch"):
        exported(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exported(published, tmp_path / "out", "--format", "torch")


def test_an_export_that_differs_is_not_left_behind(published, tmp_path, monkeypatch):
    write = exporting._write_torch

    def inexact(*args):
        written = write(*args)
        return lambda clips: [output + 2e-5 for output in written(clips)]

    monkeypatch.setattr(exporting, "_write_torch", inexact)
    with pytest.raises(UserError, match="encoder.pt2 differs from the encoder by 2e-05, more than 1e-05"):
        exported(published, tmp_path / "out", "--format", "torch")
    assert not (tmp_path / "out").exists()
