"""The linear probe and retrieval as programs, and the results they leave."""

import csv
import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import action_recognition
import action_retrieval
from data_gen.datasets import DATASETS, open_dataset
from data_gen.packed.reader import PackedDataset
from models import checkpoints
from models.checkpoints import newest
from models.frozen import load_encoder
from tests.helpers import tiny_dataset
from tests.programs import assert_refused, call
from utils.errors import UserError
from utils.files import read_results


def flags(folder, root, *more):
    return ["--pretrained", str(folder), "--data-root", str(root), "--device", "cpu", *map(str, more)]


def last_results(folder, count=1):
    return read_results(folder)[-count:]


def columns_of(folder, file):
    with open(folder / file) as lines:
        table = list(csv.DictReader(lines))
    return {name: [line[name] for line in table] for name in table[0]}


def test_recognition_reports_best_and_last_of_every_seed(published, demo_root):
    action_recognition.main(flags(published, demo_root, "--seed", 0, 1, 2, 1, "--epochs", 12))
    (result,) = read_results(published)
    assert (result["task"], result["modality"], result["dataset"], result["protocol"]) == (
        "action_recognition",
        "all",
        "demo",
        "xsub",
    )
    assert (result["checkpoint"], result["epoch"]) == ("checkpoint_0450.pth.tar", 451)
    settings = {key: result["settings"][key] for key in ("lr", "epochs", "milestones", "batch_size", "seed")}
    assert settings == {"lr": 0.03, "epochs": 12, "milestones": [120, 140], "batch_size": 512, "seed": [0, 1, 2]}
    curve = columns_of(published, result["files"]["curve"])
    assert curve["epoch"] == ["5", "10", "12"]
    for number, seed in enumerate((0, 1, 2)):
        top1 = [float(value) for value in curve[f"top1_seed{seed}"]]
        assert result["metrics"]["last_top1"]["values"][number] == pytest.approx(top1[-1])
        assert result["metrics"]["best_top1"]["values"][number] == pytest.approx(max(top1))
    events = EventAccumulator(str(published)).Reload().Scalars("recognition/top1_seed1")
    assert [(e.step, pytest.approx(e.value)) for e in events] == [
        (int(epoch), float(value)) for epoch, value in zip(curve["epoch"], curve["top1_seed1"])
    ]


def test_several_learning_rates_run_in_one_pass(published, demo_root):
    for lrs in ([0.03], [0.3], [0.3, 0.03]):
        action_recognition.main(flags(published, demo_root, "--seed", 0, 1, "--epochs", 12, "--lr", *lrs))
    alone, other, *both = read_results(published)
    assert [result["settings"]["lr"] for result in both] == [0.3, 0.03]
    for single, result in zip((other, alone), both):
        for metric, value in result["metrics"].items():
            assert value["values"] == pytest.approx(single["metrics"][metric]["values"])


def test_nothing_that_an_evaluation_left_is_replaced(published, demo_root):
    contents = {}
    for program, more in ((action_recognition, ("--epochs", 5)), (action_retrieval, ())):
        for _ in range(2):
            program.main(flags(published, demo_root, *more))
            assert all((published / name).read_bytes() == content for name, content in contents.items())
            files = [name for result in read_results(published) for name in result["files"].values()]
            assert len(files) == len(set(files))
            contents |= {name: (published / name).read_bytes() for name in files}
    assert len(read_results(published)) == 4


def test_predictions_are_those_of_the_scores(published, demo_root):
    action_recognition.main(flags(published, demo_root, "--epochs", 5))
    action_retrieval.main(flags(published, demo_root))
    for result, metric, more in zip(
        read_results(published),
        ("last_top1", "top1"),
        (["probability"], ["nearest", "average_precision"]),
    ):
        table = columns_of(published, result["files"]["predictions"])
        assert list(table) == ["name", "label", "predicted", "label_name", "predicted_name", *more]
        hits = 100 * np.mean([label == predicted for label, predicted in zip(table["label"], table["predicted"])])
        value = result["metrics"][metric]
        assert hits == pytest.approx(value["mean"] if isinstance(value, dict) else value)
        assert all(name.endswith(f"A{int(label) + 1:03d}") for name, label in zip(table["name"], table["label"]))


def test_protocol_comes_from_flags_then_checkpoint_then_name(pretrain, published, demo_root):
    trained = pretrain.run("--epochs", "1", "--protocol", "xview")
    for folder, more, expected in (
        (trained, (), "xview"),
        (trained, ("--finetune-dataset", "demo"), "xview"),
        (trained, ("--protocol", "xsub"), "xsub"),
        (published, (), "xsub"),
        (published, ("--finetune-dataset", "demo", "--protocol", "cross_view"), "xview"),
    ):
        action_retrieval.main(flags(folder, demo_root, *more))
        assert last_results(folder)[0]["protocol"] == expected


@pytest.mark.parametrize("program", [action_recognition, action_retrieval])
def test_a_missing_or_damaged_checkpoint_is_an_error(program, published, demo_root, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        program.main(flags(tmp_path / "nowhere", demo_root))
    (tmp_path / "demo_empty").mkdir()
    with pytest.raises(UserError, match="demo_empty"):
        program.main(flags(tmp_path / "demo_empty", demo_root))
    path = published / "checkpoint_0450.pth.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=path.name):
        program.main(flags(published, demo_root))
    assert [p.name for p in published.iterdir()] == [path.name]  # no log, either


def test_a_checkpoint_that_pretraining_replaces_meanwhile_gives_way_to_the_newer_one(published, monkeypatch):
    def load(path):
        if path.name == "checkpoint_0450.pth.tar" and path.exists():
            path.rename(published / "checkpoint_0500.pth.tar")  # as with --keep 1
        return right(path)

    right = checkpoints.load
    monkeypatch.setattr(checkpoints, "load", load)
    assert load_encoder(published, device="cpu").path.name == "checkpoint_0500.pth.tar"
    with pytest.raises(UserError, match="checkpoint_0450.pth.tar"):
        load_encoder(published / "checkpoint_0450.pth.tar")  # a file is read, or not


@pytest.mark.parametrize(
    "program, more, place",
    [
        ("action_retrieval", ("--knn-neighbours", 13), "--knn-neighbours 13"),
        ("action_retrieval", ("--modality", "joints"), "joints"),
        ("action_retrieval", ("--modality", "joint+all"), "all"),
        ("action_recognition", ("--label-fraction", 0.1), "--label-fraction"),
        ("action_recognition", ("--from-scratch",), "--from-scratch"),
        ("action_recognition", ("--amp", "off"), "--amp"),
        ("action_recognition", ("--compile", "on"), "--compile"),
        ("action_recognition", ("--schedule", 150), "--schedule 150"),
        ("action_recognition", ("--finetune", "--lr", 0.1, 0.3), "--lr 0.1 0.3"),
        ("action_recognition", ("--finetune", "--observed", 0.5), "--observed"),
        ("action_recognition", ("--finetune", "--standardise"), "--standardise"),
        ("action_recognition", ("--finetune", "--modality", "ensemble"), "ensemble"),
        ("action_recognition", ("--finetune", "--amp", "fp16"), "--amp fp16"),
        ("action_recognition", ("--finetune", "--finetune-dataset", "ntu60"), "ntu60"),
        ("action_recognition", ("--finetune", "--label-fraction", 1.5), "--label-fraction"),
    ],
)
def test_contradictions_are_refused_with_the_flag(published, demo_root, program, more, place):
    assert_refused(call(program, *flags(published, demo_root, *more)), place)
    assert not list(published.glob("*.json*"))


def test_a_published_checkpoint_under_another_name_needs_its_data_set(published, demo_root, tmp_path):
    path = tmp_path / "released.pth.tar"
    shutil.copy(published / "checkpoint_0450.pth.tar", path)
    with pytest.raises(UserError, match=tmp_path.name):
        action_retrieval.main(flags(path, demo_root))
    action_retrieval.main(flags(path, demo_root, "--finetune-dataset", "demo"))


def test_a_data_set_that_does_not_fit_is_refused(demo_root, tmp_path):
    dataset = DATASETS["ntu60"]
    with pytest.raises(UserError, match="ntu60"):
        open_dataset(demo_root / "demo", dataset, dataset.protocols[0])
    tiny_dataset(tmp_path, subjects=(1, 2), actions=(1,))
    with pytest.raises(UserError, match="cross_subject"):
        open_dataset(tmp_path, DATASETS["demo"], DATASETS["demo"].protocols[0])


def scores_of(result):
    return {key: value for key, value in result.items() if key not in ("files", "date")}


def test_modalities_in_one_pass_score_as_by_themselves(published, demo_root):
    names = ("all", "joint", "bone", "motion", "motion+joint")
    for program, more in ((action_recognition, ("--seed", 0, 1, "--epochs", 7)), (action_retrieval, ())):
        alone = []
        for name in names:
            program.main(flags(published, demo_root, *more, "--modality", name))
            alone += last_results(published)
        program.main(flags(published, demo_root, *more, "--modality", *names))
        together = last_results(published, 6 if program is action_recognition else 5)
        assert [result["modality"] for result in together][:5] == ["all", "joint", "bone", "motion", "joint+motion"]
        assert list(map(scores_of, together[:5])) == list(map(scores_of, alone))
        assert len({str(result["metrics"]) for result in alone}) > 2
        assert len(together) < 6 or together[5]["modality"] == "late_joint+bone+motion"


def test_variants_are_those_of_the_extracted_features(published, demo_root):
    kinds = [f"{m}{v}" for m in ("all", "ensemble") for v in ("", "_centred", "_standardised")]
    action_retrieval.main(flags(published, demo_root, "--modality", "all", "ensemble", "--centre", "--standardise"))
    results = {result["modality"]: result["metrics"] for result in read_results(published)}
    packed, encoder = PackedDataset(demo_root / "demo"), load_encoder(published, device="cpu")
    clips = [packed.recording(i) for i in range(len(packed))]
    streams = [encoder.select(name)(clips).double().numpy() for name in ("all", "joint", "bone", "motion")]
    train, val = (packed.split("xsub", split) for split in ("train", "val"))
    assert list(results) == kinds
    for kind in kinds:
        unit = []
        for values in streams if kind.startswith("ensemble") else streams[:1]:
            mean, deviation = values[train].mean(0), values[train].std(0)
            values = values if "_" not in kind else values - mean if "centred" in kind else (values - mean) / deviation
            unit.append(values / np.linalg.norm(values, axis=1, keepdims=True))
        similarity = sum(part[val] @ part[train].T for part in unit)
        nearest = packed.label[train][similarity.argmax(1)]
        assert results[kind]["top1"] == pytest.approx(100 * np.mean(nearest == packed.label[val]))


def test_the_saved_classifier_gives_the_last_scores(published, demo_root):
    action_recognition.main(flags(published, demo_root, "--epochs", 7, "--seed", 3, 4, "--modality", "joint"))
    (result,) = read_results(published)
    saved = torch.load(published / result["files"]["classifier"], weights_only=True)
    packed = PackedDataset(demo_root / "demo")
    val = packed.split("xsub", "val")
    features = load_encoder(published, "joint", "cpu")([packed.recording(i) for i in val])
    predicted = (features @ saved["weight"].T + saved["bias"]).argmax(1).numpy()
    assert result["metrics"]["last_top1"]["values"][0] == pytest.approx(100 * np.mean(predicted == packed.label[val]))
    assert saved["modality"] == "joint" and saved["epoch"] == 451


def test_retrieval_by_several_ks_in_one_pass(published, demo_root):
    alone = {}
    for k in (1, 3, 12):
        action_retrieval.main(flags(published, demo_root, "--knn-neighbours", k))
        metrics = last_results(published)[0]["metrics"]
        alone |= {name: value for name, value in metrics.items() if name != "map"}
    assert list(alone) == ["top1", "top1_k3", "top1_k12"]
    action_retrieval.main(flags(published, demo_root, "--knn-neighbours", 3, 1, 12))
    assert last_results(published)[0]["metrics"] == alone | {"map": metrics["map"]}
    action_retrieval.main(flags(published, demo_root))
    assert list(last_results(published)[0]["metrics"]) == ["top1", "top1_k5", "map"]  # the gallery has only 12


def test_scores_of_the_first_part_are_those_of_clips_cut_by_hand(published, demo_root):
    more = ("--observed", 1, 0.3, 0.01, 0.3, "--seed", 0, 1, "--modality", "all", "joint", "--epochs", 7)
    action_recognition.main(flags(published, demo_root, *more))
    packed = PackedDataset(demo_root / "demo")
    val, results = packed.split("xsub", "val"), {(r["task"], r["modality"]): r for r in read_results(published)}
    for modality in ("all", "joint"):
        probe, early = (results[task, modality] for task in ("action_recognition", "early_recognition"))
        assert early["metrics"]["top1_at_100"] == probe["metrics"]["last_top1"]
        assert [name for name in early["metrics"] if "top1" in name] == ["top1_at_1", "top1_at_30", "top1_at_100"]
        saved = torch.load(published / probe["files"]["classifier"], weights_only=True)
        encoder = load_encoder(published, modality, "cpu")
        for share in (0.01, 0.3, 1):
            clips = [packed.recording(i)[: int(np.ceil(packed.num_frame[i] * share))] for i in val]
            predicted = (encoder(clips) @ saved["weight"].T + saved["bias"]).argmax(1).numpy()
            accuracy = early["metrics"][f"top1_at_{100 * share:g}"]["values"][0]
            assert accuracy == pytest.approx(100 * (predicted == packed.label[val]).mean())


def test_a_possible_overlap_with_pretraining_is_said(pretrain, demo_root):
    folder = pretrain.run("--epochs", "1", "--protocol", "xview")

    def notes(*more):
        return [
            line
            for line in call("action_retrieval", *flags(folder, demo_root, *more)).out.splitlines()
            if "note" in line
        ]

    assert not notes() and "xview" in notes("--protocol", "xsub")[0]
    path = newest(folder)
    torch.save(torch.load(path, weights_only=True) | {"data": "0" * 64}, path)
    assert "xview" in notes()[0]
