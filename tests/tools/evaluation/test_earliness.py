import json

import numpy as np
import pytest
import torch
from models.inference import load_encoder
from tools.utils.errors import UserError

import action_recognition
from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset
from tools.figures import __main__ as figures

OBSERVED = ("1", "0.3", "0.01", "0.3")


def recognise(folder, demo_root, *flags):
    action_recognition.main(
        ["--pretrained", str(folder), "--data-root", str(demo_root), "--device", "cpu", "--epochs", "7", *flags]
    )


def test_scores_are_those_of_clips_cut_by_hand(published, demo_root, capsys):
    recognise(published, demo_root, "--observed", *OBSERVED, "--seed", "0", "1", "--modality", "all", "joint")
    packed = PackedDataset(demo_root / "demo")
    val = packed.split("xsub", "val")
    for modality, suffix in (("all", ""), ("joint", "_joint")):
        result = json.loads((published / f"earliness{suffix}.json").read_text())
        probe = json.loads((published / f"action_recognition{suffix}.json").read_text())
        assert (result["task"], result["modality"]) == (f"earliness{suffix}", modality)
        assert [score["observed"] for score in result["scores"]] == [0.01, 0.3, 1]
        assert result["scores"][-1]["top1"] == probe["last"]["top1"] and "top5" in result["scores"][0]
        saved = torch.load(published / f"action_recognition{suffix}.pth.tar", weights_only=True)
        encoder = load_encoder(published, modality, "cpu")
        for score in result["scores"]:
            clips = [packed.recording(i)[: int(np.ceil(packed.num_frame[i] * score["observed"]))] for i in val]
            predicted = (encoder(clips) @ saved["weight"].T + saved["bias"]).argmax(1).numpy()
            assert score["top1"]["per_seed"][0] == pytest.approx(100 * (predicted == packed.label[val]).mean())
    said = capsys.readouterr().out
    assert "| observed | all" in said and "| 1 % " in said and "| 100 % " in said
    figures.main(["earliness", str(published)])
    assert (published / "figures" / "earliness.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_has_at_least_a_frame_and_the_whole_all_of_them(demo_root):
    packed = PackedDataset(demo_root / "demo")
    source = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
    assert source.first_part(1e-6).num_frame.tolist() == [1] * len(packed)
    assert torch.equal(source.first_part(1.0).num_frame, source.num_frame)
    assert source.first_part(0.5).num_frame.tolist() == [-(-n // 2) for n in packed.num_frame.tolist()]


def test_what_does_not_fit_is_refused(published, demo_root):
    with pytest.raises(UserError, match="--observed is for the linear probe"):
        recognise(published, demo_root, "--observed", "0.5", "--finetune")
    with pytest.raises(SystemExit):
        recognise(published, demo_root, "--observed", "1.5")
    with pytest.raises(UserError, match="earliness.json: run action_recognition.py"):
        figures.main(["earliness", str(published)])
    (published / "earliness.json").write_text("{}")
    with pytest.raises(UserError, match="earliness.json is damaged"):
        figures.main(["earliness", str(published)])
