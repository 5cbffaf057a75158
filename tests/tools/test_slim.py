import json
import struct
import sys

import numpy as np
import pytest
import torch
from feeder.layout import NTU_LAYOUT
from tools.utils.errors import UserError

import action_recognition
import action_retrieval
from data_gen.packed.reader import PackedDataset
from models import CheckpointError, checkpoint_files, load_encoder, loading
from tests.helpers import GOLDEN
from tools import extract, predict, slim
from tools.inference.model_card import card_text

CPU = ["--device", "cpu"]


def slimmed(source, out):
    slim.main(["--pretrained", str(source), "--out", str(out)])
    return out / "encoder.safetensors" if out.suffix != ".safetensors" else out


def features(source, data, out):
    extract.main(["--pretrained", str(source), *CPU, "--data", str(data), "--out", str(out)])
    with np.load(out) as file:
        return dict(file)


def test_slim_weights_give_bit_identical_features(published, demo_root, tmp_path):
    path = slimmed(published, tmp_path / "mine" / "weights.safetensors")
    folder = slimmed(path, tmp_path / "again").parent  # of slim weights, into a folder that can be named itself
    expected = features(published, demo_root / "demo", tmp_path / "a.npz")
    for source in (path, folder):
        found = features(source, demo_root / "demo", tmp_path / "b.npz")
        assert found.keys() == expected.keys()
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key])
    clips = [PackedDataset(demo_root / "demo").recording(5)]
    torch.testing.assert_close(
        load_encoder(folder, device="cpu")(clips), load_encoder(published, device="cpu")(clips), rtol=0, atol=0
    )
    keys = set(loading.load(path)["state_dict"])
    assert keys == {k.removeprefix("module.") for k in loading.load(checkpoint_files.newest(published))["state_dict"]
                    if "projector" not in k}  # fmt: skip


def test_the_card_tells_what_the_run_was_and_how_it_scored(pretrain, demo_root, tmp_path):
    run = pretrain.run("--epochs", "2", "--protocol", "xview", "--lr", "1e-3")
    data = ["--pretrained", str(run), "--data-root", str(demo_root), *CPU]
    action_recognition.main([*data, "--epochs", "5", "--modality", "all", "bone"])
    action_retrieval.main(data)
    of_other_weights = json.loads((run / "action_retrieval.json").read_text()) | {"encoder": "other"}
    (run / "action_retrieval_joint.json").write_text(json.dumps(of_other_weights))
    (run / "action_damaged.json").write_text("{")
    path = slimmed(run, tmp_path / "slim")
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["dataset"], card["protocol"], card["recordings"], card["epoch"]) == ("demo", "xview", 12, 2)
    assert (card["hidden_size"], card["modalities"]) == (8, ["joint", "bone", "motion"])
    assert card["args"]["lr"] == 1e-3 and card["args"]["batch_size"] == 5
    assert "checkpoint_path" not in card["args"] and str(tmp_path) not in path.with_suffix(".json").read_text()
    tasks = ["action_recognition", "action_recognition_bone", "action_retrieval"]
    assert sorted(card["scores"]) == tasks and card["versions"]["torch"] == torch.__version__
    for task in tasks:
        result = json.loads((run / f"{task}.json").read_text())
        scores = card["scores"][task]
        assert scores["dataset"] == "demo" and scores["val"] == 12 and "history" not in scores
        if task == "action_retrieval":
            assert (scores["top1"], scores["knn"], scores["map"]) == (result["top1"], result["knn"], result["map"])
        else:
            assert scores["last"]["top1"] == result["last"]["top1"] and "per_class" not in scores["last"]
    assert card["scores"]["action_recognition"]["best"]["top1"]["mean"] >= 0
    assert json.loads(slimmed(path, tmp_path / "again").with_suffix(".json").read_text())["scores"] == card["scores"]


def test_slim_weights_are_evaluated_and_predicted_with(pretrain, demo_root, tmp_path, capsys):
    run = pretrain.run("--epochs", "1", "--protocol", "xview")
    data = ["--data-root", str(demo_root), *CPU]
    action_recognition.main(["--pretrained", str(run), *data, "--epochs", "5"])
    path = slimmed(run, tmp_path / "demo_slim")
    for program, task in ((action_recognition, "recognition"), (action_retrieval, "retrieval")):
        program.main(["--pretrained", str(path), *data])
        assert json.loads((path.parent / f"action_{task}.json").read_text())["protocol"] == "xview"
    recording = min((demo_root / "raw").glob("*.skeleton"))
    answers = []
    for source in (run, path):
        capsys.readouterr()
        classifier = str(run / "action_recognition.pth.tar")
        predict.main(["--pretrained", str(source), "--classifier", classifier, *CPU, "--json", str(recording)])
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] and recording.stem in answers[0]


def test_a_published_checkpoint_takes_its_data_set_from_its_folder(published, tmp_path):
    card = json.loads(slimmed(published, tmp_path / "slim").with_suffix(".json").read_text())
    assert (card["dataset"], card["protocol"], card["epoch"], card["scores"]) == ("demo", "xsub", 451, {})
    assert (
        card["body"] == json.loads(json.dumps(NTU_LAYOUT.to_json())) and len(card["body"]["skeleton"]["joints"]) == 25
    )


def test_damaged_or_other_files_are_refused(published, tmp_path):
    path = slimmed(published, tmp_path)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match="no weights at .*nowhere.safetensors"):
        load_encoder(tmp_path / "nowhere.safetensors")
    header = json.dumps({"__metadata__": {"card": "[1]"}}).encode()
    for damaged, message in (
        (content[:5000], "cannot be read as slim weights"),
        (b"", "cannot be read as slim weights"),
        (struct.pack("<Q", len(header)) + header, "its card is no object"),
        (content.replace(b'\\"epoch\\": 451', b'\\"epoch\\":"451"'), "cannot be read|its 'epoch' is '451'"),
        (content.replace(b"backbone.pe", b"backbone.xx").replace(b"mm_fusion", b"mm_fusiom"), "is of another model"),
    ):
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=message):
            load_encoder(path)


def test_without_the_package_the_remedy_is_named(published, tmp_path, monkeypatch):
    path = slimmed(published, tmp_path / "slim")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(CheckpointError, match="needs the package safetensors: pip install safetensors"):
        load_encoder(path)
    with pytest.raises(UserError, match="tools.slim needs the package safetensors: pip install safetensors"):
        slimmed(GOLDEN / "official_h8.pth.tar", tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())


def test_a_card_is_text_whatever_the_arguments_were():
    assert json.loads(card_text({"path": "\udce9"})) == {"path": "?"}
