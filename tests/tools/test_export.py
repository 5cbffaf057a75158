import importlib.util
import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from tools.evaluation.features import FrozenEncoder
from tools.utils.errors import UserError

import action_recognition
from data_gen.class_names import class_names
from data_gen.packed.reader import PackedDataset
from models import load_encoder
from tests.helpers import GOLDEN
from tests.programs import call
from tools import export
from tools.evaluation import linear_classifier
from tools.inference import exporting


@pytest.fixture(scope="module")
def evaluated(demo_root, tmp_path_factory):
    """The published checkpoint with a classifier beside it, which tests leave alone."""
    folder = tmp_path_factory.mktemp("evaluated") / "demo_published"
    folder.mkdir()
    shutil.copy(GOLDEN / "official_h8.pth.tar", folder / "checkpoint_0450.pth.tar")
    data = ("--data-root", demo_root, "--device", "cpu")
    ended = call("action_recognition", "--pretrained", folder, *data, "--epochs", 5, "--modality", "joint+motion")
    assert ended.status == 0, ended
    return folder


@pytest.fixture(scope="module")
def both(evaluated, tmp_path_factory):
    """The folder of both, exported in both formats, and what the program said."""
    out = tmp_path_factory.mktemp("both") / "out"
    classifier = evaluated / "action_recognition_joint+motion.pth.tar"
    ended = call("tools.export", "--pretrained", evaluated, "--out", out, "--classifier", classifier)
    assert ended.status == 0, ended
    return out, ended.out


def centred(clips):
    """Clips (B, T, 2, 25, 3) minus the first person's spine."""
    return clips - clips[:, :, :1, 1:2]


@pytest.fixture
def without_onnx(monkeypatch):
    """Have onnxscript missing."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "onnxscript" else find(n, *a))


def exported(published, out, *more):
    export.main(["--pretrained", str(published), "--out", str(out), *map(str, more)])
    return json.loads((out / "export.json").read_text())


def outputs_of(folder, clips, formats=("onnx", "torch")):
    """What the files give for clips, by format, in the order of the outputs."""
    found = {}
    if "onnx" in formats:
        session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
        found["onnx"] = session.run(None, {"clips": clips})
    program = torch.export.load(folder / "encoder.pt2").module()
    with torch.no_grad():
        return found | {"torch": [o.numpy() for o in program(torch.tensor(clips))]}


def test_both_formats_give_the_features_and_scores_at_any_batch_and_length(evaluated, both, demo_root):
    path, (out, said) = evaluated / "action_recognition_joint+motion.pth.tar", both
    card = json.loads((out / "export.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == ["encoder.onnx", "encoder.pt2", "export.json"]
    assert card["modality"] == "joint+motion" and card["outputs"] == ["feature", "logits"] and card["hidden_size"] == 8
    assert card["classes"] == list(class_names("demo"))
    assert card["input"] == {"clips": ["batch", "frames", 2, 25, 3]}
    assert "encoder.onnx: within" in said and "encoder.pt2: within" in said
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
        for found in outputs_of(out, clips).values():
            np.testing.assert_allclose(found[0], feature, atol=1e-5, rtol=0)
            np.testing.assert_allclose(found[1], logits, atol=1e-5, rtol=0)


def test_one_format_without_a_classifier_or_the_packages_of_the_other(published, tmp_path, without_onnx):
    with pytest.raises(UserError, match="ONNX needs onnxscript: pip install .*, or give --format torch"):
        exported(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    card = exported(published, tmp_path / "out", "--format", "torch", "--modality", "bone")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["encoder.pt2", "export.json"]
    assert (card["modality"], card["outputs"]) == ("bone", ["feature"]) and "classes" not in card
    clips = centred(torch.randn(3, 64, 2, 25, 3))
    (feature,) = torch.export.load(tmp_path / "out" / "encoder.pt2").module()(clips)
    torch.testing.assert_close(feature, load_encoder(published, "bone", "cpu")(clips))
    assert not torch.allclose(feature, load_encoder(published, "joint", "cpu")(clips), atol=1e-3)


def test_clips_that_are_not_centred_come_out_as_nan(both, demo_root):
    out, _ = both
    card = json.loads((out / "export.json").read_text())
    assert "the first person's spine_middle is at the origin" in card["preparation"]
    assert "that person's left_shoulder and right_shoulder lie along +x" in card["preparation"] and card["centred"]
    clips = np.stack([PackedDataset(demo_root / "demo").recording(3)] * 4)
    clips[1] += 0.1
    clips[2] = 0  # nobody
    clips[3, :5] = 0  # nobody at first
    for feature, logits in outputs_of(out, clips).values():
        for values in (feature, logits):
            assert np.isnan(values).all(1).tolist() == [False, True, False, False]
            assert np.isfinite(values[[0, 2, 3]]).all()


@pytest.mark.no_cover  # it would take twice as long
@pytest.mark.parametrize(
    "modality, flag, kind, formats",
    [
        ("ensemble", "--standardise", "ensemble_standardised", ("onnx", "torch")),
        ("all", "--centre", "all_centred", ("torch",)),
    ],
)
def test_the_classifier_of_another_representation_is_exported(
    modality, flag, kind, formats, published, demo_root, tmp_path
):
    checkpoint = published / "checkpoint_0450.pth.tar"  # two modalities, as an export takes long
    torch.save(torch.load(checkpoint) | {"args": {"pretrain_modalities": ["joint", "bone"]}}, checkpoint)
    data = ["--data-root", str(demo_root), "--device", "cpu", "--modality", modality, flag]
    action_recognition.main(["--pretrained", str(published), *data, "--epochs", "5"])
    path = published / linear_classifier.file_of(kind)
    card = exported(published, tmp_path / "out", "--classifier", path, "--format", *formats)
    assert card["modality"] == ("ensemble" if modality == "ensemble" else "joint+bone")
    clips = PackedDataset(demo_root / "demo").recording(3)[None]
    encoder = FrozenEncoder.open(published, torch.device("cpu"))
    parts = ("all", "joint", "bone") if modality == "ensemble" else ("all",)
    plain = torch.cat([load_encoder(published, part, "cpu")(torch.tensor(clips)) for part in parts], 1)
    scores = linear_classifier.load_classifier(path, encoder).scores(plain)
    for feature, logits in outputs_of(tmp_path / "out", clips, formats).values():
        np.testing.assert_allclose(feature, plain, atol=1e-5, rtol=0)
        np.testing.assert_allclose(logits, scores, atol=1e-4 * max(1, scores.abs().max()), rtol=0)


def test_a_modality_that_is_not_the_classifiers_is_refused(evaluated, tmp_path):
    path = evaluated / "action_recognition_joint+motion.pth.tar"
    with pytest.raises(UserError, match="--modality bone: .* takes features of joint\\+motion"):
        exported(evaluated, tmp_path / "out", "--classifier", path, "--modality", "bone")
    with pytest.raises(UserError, match="no classifier at .*nowhere"):
        exported(evaluated, tmp_path / "out", "--classifier", tmp_path / "nowhere")


def test_an_export_that_differs_is_not_left_behind(published, tmp_path, monkeypatch):
    def inexact(model, path, outputs):
        path.write_text("inexact")
        return lambda clips: [output.numpy() + 2e-5 for output in model(torch.from_numpy(clips))]

    monkeypatch.setattr(torch.export, "export", lambda model, *_, **__: model)
    monkeypatch.setattr(exporting, "_write_torch", inexact)
    with pytest.raises(UserError, match="encoder.pt2 differs from the encoder by 2e-05, more than 1e-05"):
        exported(published, tmp_path / "out", "--format", "torch")
    assert not (tmp_path / "out").exists()
