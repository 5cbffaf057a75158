import importlib.util
import json

import numpy as np
import onnxruntime
import pytest
import torch

from data_gen.datasets import DATASETS
from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import SKELETONS
from models import FrozenEncoder, checkpoints, load_encoder
from tests.helpers import own_dataset
from tests.programs import assert_refused, call
from tools.evaluation.classifier import load_classifier
from tools.inference import exporting
from utils.errors import UserError

CPU = torch.device("cpu")


def export(pretrained, out, *more):
    ended = call("tools.export", "--pretrained", pretrained, "--out", out, *more)
    assert ended.status == 0, ended
    return json.loads((out / "export.json").read_text())


CLASSIFIER = "action_recognition_ensemble_standardised.pth.tar"


@pytest.fixture(scope="module")
def every(evaluated, tmp_path_factory):
    """The published checkpoint with the classifier of the standardised ensemble, in every format."""
    out = tmp_path_factory.mktemp("every") / "out"
    formats = ("--format", "torch", "onnx", "safetensors")
    return out, export(evaluated, out, "--classifier", evaluated / CLASSIFIER, *formats)


def outputs_of(folder, clips):
    """What the graphs in a folder make of clips, by format, in the order of the outputs."""
    outputs = {}
    if (folder / "encoder.onnx").exists():
        session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
        outputs["onnx"] = session.run(None, {"clips": clips})
    if (folder / "encoder.pt2").exists():
        program = torch.export.load(folder / "encoder.pt2").module()
        with torch.no_grad():
            outputs["torch"] = [output.numpy() for output in program(torch.tensor(clips))]
    return outputs


def test_graphs_give_features_and_logits_at_any_batch_and_length(evaluated, every, demo_root):
    out, info = every
    assert {path.suffix for path in out.iterdir()} == {".onnx", ".pt2", ".safetensors", ".json"}
    assert info["inputs"] == {"clips": ["batch", "frames", 2, 25, 3]}
    assert info["outputs"] == {"feature": ["batch", 4 * 16], "logits": ["batch", 12]}
    assert (info["modality"], info["hidden_size"], info["centred"]) == ("ensemble", 8, True)
    assert (info["dataset"], info["protocol"], info["epoch"]) == ("demo", "xsub", 451)  # by the name of the folder
    assert info["classes"] == list(DATASETS["demo"].class_names) and info["versions"]["torch"] == torch.__version__
    encoders = [load_encoder(evaluated, part, "cpu") for part in ("all", "joint", "bone", "motion")]
    classifier = load_classifier(evaluated / CLASSIFIER, encoders[0])
    rng = np.random.default_rng(0)
    sizes = ((1, 64), (3, 64), (5, 301), (2, 1))
    random = [rng.normal(size=(*size, 2, 25, 3)) for size in sizes]
    recording = PackedDataset(demo_root / "demo").recording(3)[None]
    for clips in (recording, *(clips - clips[:, :, :1, 1:2] for clips in random)):
        clips = np.array(clips, np.float32)
        feature = torch.cat([encoder(torch.from_numpy(clips)) for encoder in encoders], 1)
        logits = classifier.logits(feature)
        outputs = outputs_of(out, clips)
        assert outputs.keys() == {"onnx", "torch"}
        for output in outputs.values():
            np.testing.assert_allclose(output[0], feature, atol=1e-5, rtol=0)
            np.testing.assert_allclose(output[1], logits, atol=1e-5 * max(1, logits.abs().max()), rtol=0)


def test_safetensors_are_a_checkpoint_with_the_classifier(evaluated, every, demo_root, answers):
    out, _ = every
    path, before = out / "encoder.safetensors", load_encoder(evaluated, device="cpu")
    clips = [PackedDataset(demo_root / "demo").recording(5)]
    for place in (path, out):
        assert torch.equal(load_encoder(place, device="cpu")(clips), before(clips))
    after = FrozenEncoder.open(path, CPU)
    assert after.weights_hash == before.weights_hash and after.layout == before.layout
    state = checkpoints.load(path)
    assert (state["dataset"], state["protocol"], state["epoch"]) == ("demo", "xsub", 451)
    assert not [key for key in state["state_dict"] if not key.startswith("encoder.")]
    recording = min((demo_root / "raw").glob("*.skeleton"))
    classifier = ("--classifier", evaluated / CLASSIFIER)
    (expected,) = answers("predict", "--pretrained", evaluated, *classifier, recording).values()
    for more in (classifier, ()):  # its own by default
        (rows,) = answers("predict", "--pretrained", out, *more, recording).values()
        assert [row["action"] for row in rows] == [row["action"] for row in expected]
        np.testing.assert_allclose([r["probability"] for r in rows], [r["probability"] for r in expected], atol=1e-6)
    damaged = out.parent / "damaged.safetensors"
    for broken in (path.read_bytes()[:5000], path.read_bytes().replace(b"encoder.fusion", b"encoder.fusiom")):
        damaged.write_bytes(broken)
        with pytest.raises(UserError, match="damaged.safetensors: "):
            load_encoder(damaged)


def test_safetensors_keep_what_pre_training_recorded_and_are_evaluated(pretrain, demo_root, tmp_path):
    run = pretrain.run("--epochs", 2, "--protocol", "xview", "--lr", "1e-3")
    export(run, tmp_path / "out", "--format", "safetensors")
    state, before = (checkpoints.load(checkpoints.newest(folder)) for folder in (tmp_path / "out", run))
    assert state["args"]["lr"] == 1e-3
    plain = before.keys() - {"state_dict", "optimizer"}
    assert {key: state[key] for key in plain} == {key: json.loads(json.dumps(before[key])) for key in plain}
    flags = ("--data-root", demo_root, "--device", "cpu")
    results = []
    for pretrained in (run, tmp_path / "out"):
        assert call("action_retrieval", "--pretrained", pretrained, *flags).status == 0
        (line,) = map(json.loads, (pretrained / "results.jsonl").read_text().splitlines())
        results.append({key: line[key] for key in ("dataset", "protocol", "epoch", "settings", "metrics")})
    assert results[0] == results[1] and results[0]["protocol"] == "xview"


def test_a_fine_tuned_model_is_exported_with_its_classifier(published, demo_root, tmp_path):
    flags = ("--finetune", "--modality", "bone", "--epochs", 1, "--schedule", "--batch-size", 12)
    ended = call("action_recognition", "--pretrained", published, *flags, "--data-root", demo_root, "--device", "cpu")
    assert ended.status == 0, ended
    line = json.loads((published / "results.jsonl").read_text().splitlines()[-1])
    path = published / line["files"]["model"]
    clips = PackedDataset(demo_root / "demo").recording(3)[None]
    info = export(path, tmp_path / "out", "--format", "torch", "safetensors")
    assert list(info["outputs"]) == ["feature", "logits"] and info["modality"] == "all"  # of fine-tuning
    encoder = FrozenEncoder.open(path, CPU)
    feature = encoder(torch.tensor(clips))
    classifier = load_classifier(None, encoder)
    (output,) = outputs_of(tmp_path / "out", clips).values()
    expected = [feature, classifier.logits(feature)]
    torch.testing.assert_close([torch.from_numpy(o) for o in output], expected, atol=1e-5, rtol=0)
    again = FrozenEncoder.open(tmp_path / "out", CPU)
    assert again.modalities == ("bone",) and torch.equal(again(torch.tensor(clips)), feature)
    assert torch.equal(load_classifier(None, again).weight, classifier.weight)


def test_another_encoder_of_another_skeleton_is_exported(pretrain, tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    run = tmp_path / "mine_fold1"
    flags = ("--checkpoint-path", run, "--data-root", packed.path, "--epochs", 1, "--batch-size", 6)
    pretrain.run(*flags, "--encoder", "stgcn", "--pre-dataset", "mine", "--protocol", "fold1")
    info = export(run, tmp_path / "out", "--format", "torch", "onnx", "safetensors")
    loaded, clips = load_encoder(run, device="cpu"), packed.recording(4)[None]
    assert info["inputs"]["clips"][2:] == [1, 17, 2] and info["skeleton"] == "coco"
    assert info["outputs"] == {"feature": ["batch", loaded.feature_size]} and "classes" not in info
    feature = loaded(torch.tensor(clips))
    for (output,) in outputs_of(tmp_path / "out", clips).values():
        np.testing.assert_allclose(output, feature, atol=1e-5, rtol=0)
    again = load_encoder(tmp_path / "out", device="cpu")
    assert again.layout.skeleton == SKELETONS["coco"] and torch.equal(again(torch.tensor(clips)), feature)


def test_a_modality_or_file_that_does_not_fit_the_classifier_is_refused(evaluated, tmp_path):
    path, out = evaluated / CLASSIFIER, tmp_path / "out"
    for more in (("--classifier", path, "--modality", "bone"), ("--classifier", tmp_path / "nowhere")):
        ended = call("tools.export", "--pretrained", evaluated, "--out", out, *more)
        assert_refused(ended, str(more[1]))
        assert not out.exists()


def test_a_missing_package_is_named(published, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("tools.export.find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    ended = call("tools.export", "--pretrained", published, "--out", tmp_path / "out")
    assert_refused(ended, "pip install onnxscript")
    assert not (tmp_path / "out").exists()


def test_an_export_that_differs_is_not_left_behind(published, tmp_path, monkeypatch):
    def inexact(graph, path):
        path.write_text("inexact")
        return lambda clips: [output.numpy() + 2e-5 for output in graph(clips)]

    monkeypatch.setitem(exporting.FORMATS, "torch", ("encoder.pt2", inexact))
    ended = call("tools.export", "--pretrained", published, "--out", tmp_path / "out", "--format", "torch")
    assert_refused(ended, "encoder.pt2")
    assert not (tmp_path / "out").exists()
