import csv
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from feeder.modality_names import modalities_of
from models.inference import load_encoder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tools.evaluation.features import FrozenEncoder, extract_features
from tools.utils import options
from tools.utils.errors import UserError, run
from tools.utils.options import open_dataset

import action_recognition
import action_retrieval
import pretrain as pretrain_program
from data_gen.datasets import DATASETS
from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset, evaluation_view
from feeder.modalities import ModalityTokens, Tokens
from models import checkpoint_files, loading
from tests.helpers import tiny_dataset
from tools import extract, predict, results
from tools.figures import __main__ as figures


def flags(folder, root, *more):
    return ["--pretrained", str(folder), "--data-root", str(root), "--device", "cpu", *map(str, more)]


def test_recognition_reports_best_and_last_for_every_seed(published, demo_root, capsys):
    action_recognition.main(flags(published, demo_root, "--seed", 0, 1, 2, "--epochs", 12))
    result = json.loads((published / "action_recognition.json").read_text())
    assert result["epoch"] == 451 and (result["train"], result["val"]) == (12, 12)
    assert result["lr"] == 0.03 and result["args"]["lr"] == [0.03]
    for metric in ("top1", "top5"):
        last = [h for h in result["history"] if h["epoch"] == 12][0][metric]
        assert result["last"][metric]["per_seed"] == last
        assert result["last"][metric]["mean"] == pytest.approx(np.mean(last))
        assert result["last"][metric]["std"] == pytest.approx(np.std(last))
    best = np.max([h["top1"] for h in result["history"]], axis=0)
    assert result["best"]["top1"]["per_seed"] == best.tolist()
    assert f"{result['best']['top1']['mean']:.2f}" in capsys.readouterr().out
    board = EventAccumulator(str(published)).Reload()
    assert [e.step for e in board.Scalars("recognition/top1_seed1")] == [5, 10, 12]


def test_several_learning_rates_run_in_one_pass(published, demo_root, capsys):
    results = []
    for lrs in ([0.03], [0.3], [0.3, 0.03]):
        action_recognition.main(flags(published, demo_root, "--seed", 0, 1, "--epochs", 12, "--lr", *lrs))
        results.append(json.loads((published / "action_recognition.json").read_text()))
    alone, other, both = results
    for single, i in ((other, 0), (alone, 1)):
        for name in ("best", "last"):
            assert both["rates"][i][name]["top1"]["per_seed"] == pytest.approx(single[name]["top1"]["per_seed"])
    assert (both["lr"], both["best"]) == (0.3, both["rates"][0]["best"]) and "rates" not in alone
    lines = capsys.readouterr().out
    assert (
        "rate 0.03, best (chosen" in lines and "rate 0.3, last" in lines and "published recipe" not in lines
    )  # 12 epochs
    assert "recognition/top1_seed1_lr0.03" in EventAccumulator(str(published)).Reload().Tags()["scalars"]


def test_retrieval_is_that_of_the_extracted_features(published, demo_root, tmp_path):
    out = tmp_path / "features.npz"
    common = ["--pretrained", str(published), "--data", str(demo_root / "demo"), "--out", str(out), "--device", "cpu"]
    for modality in ("all", "joint", "bone", "motion"):
        more = ("--modality", modality)
        extract.main([*common, *more])
        features = np.load(out)
        packed = PackedDataset(demo_root / "demo")
        assert features["name"].tolist() == packed.names.tolist() and features["feature"].shape == (24, 16)
        unit = features["feature"] / np.linalg.norm(features["feature"], axis=1, keepdims=True)
        train, val = packed.split("xsub", "train"), packed.split("xsub", "val")
        predicted = packed.label[train][(unit[val] @ unit[train].T).argmax(1)]
        action_retrieval.main(flags(published, demo_root, *more))
        task = "action_retrieval" if modality == "all" else f"action_retrieval_{modality}"
        result = json.loads((published / f"{task}.json").read_text())
        assert result["top1"] == pytest.approx(100 * (predicted == packed.label[val]).mean())


def test_protocol_comes_from_flags_then_checkpoint_then_name(pretrain, published, demo_root):
    trained = pretrain.run("--epochs", "1", "--protocol", "xview")
    own, other, flag = "the one that it was pre-trained on", "by --protocol", "--finetune-dataset"
    for folder, more, expected, where, because in (
        (trained, (), "xview", "", own),
        (trained, (flag, "demo"), "xview", "", own),
        (trained, ("--protocol", "xsub"), "xsub", "_on_demo_xsub", other),
        (published, (), "xsub", "", own),
        (published, (flag, "demo", "--protocol", "cross_view"), "xview", "_on_demo_xview", other),
    ):
        action_retrieval.main(flags(folder, demo_root, *more))
        assert json.loads((folder / f"action_retrieval{where}.json").read_text())["protocol"] == expected
        assert f"({because})" in (folder / f"action_retrieval{where}.log").read_text()


def test_a_run_that_saves_while_it_is_opened_is_evaluated_under_its_own_name(published, monkeypatch):
    def newest(path):
        found = checkpoint_files.newest(path)
        (published / "checkpoint_0500.pth.tar").write_bytes(found.read_bytes())
        return found

    monkeypatch.setattr("models.loading.newest", newest)
    assert FrozenEncoder.open(published, torch.device("cpu")).where == ""
    assert FrozenEncoder.open(published / "checkpoint_0450.pth.tar", torch.device("cpu")).where == "_epoch451"


def test_a_checkpoint_that_pretraining_replaces_while_it_is_read_gives_way_to_the_newer_one(published, monkeypatch):
    def load(path):
        if path.name == "checkpoint_0450.pth.tar" and path.exists():
            path.rename(published / "checkpoint_0500.pth.tar")  # as with --keep 1
        return right(path)

    right = loading.load
    monkeypatch.setattr(loading, "load", load)
    encoder = FrozenEncoder.open(published, torch.device("cpu"))
    assert encoder.path.name == "checkpoint_0500.pth.tar" and encoder.where == ""
    (published / "checkpoint_0500.pth.tar").rename(published / "checkpoint_0450.pth.tar")
    assert load_encoder(published).feature_size == 16
    with pytest.raises(checkpoint_files.CheckpointError, match="no checkpoint at"):
        load_encoder(published / "checkpoint_0450.pth.tar")  # a file is read, or not


@pytest.mark.parametrize("program", [action_recognition, action_retrieval])
def test_a_missing_or_damaged_checkpoint_is_an_error(program, published, demo_root, tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        program.main(flags(tmp_path / "nowhere", demo_root))
    empty = tmp_path / "demo_empty"
    empty.mkdir()
    with pytest.raises(checkpoint_files.CheckpointError, match="no checkpoint in"):
        program.main(flags(empty, demo_root))
    path = published / "checkpoint_0450.pth.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(checkpoint_files.CheckpointError, match="checkpoint_0450.pth.tar"):
        program.main(flags(published, demo_root))
    assert [p.name for p in published.iterdir()] == ["checkpoint_0450.pth.tar"]  # no log, either


def test_k_larger_than_the_gallery_is_an_error(published, demo_root):
    with pytest.raises(UserError, match="--knn-neighbours 13: the gallery has only 12"):
        action_retrieval.main(flags(published, demo_root, "--knn-neighbours", 13))
    assert not list(published.glob("*.log"))


def test_a_published_checkpoint_under_another_name_needs_its_protocol(published, demo_root, tmp_path):
    path = tmp_path / "released.pth.tar"
    shutil.copy(published / "checkpoint_0450.pth.tar", path)
    with pytest.raises(UserError, match="name the data set and the protocol by flags"):
        action_retrieval.main(flags(path, demo_root))
    action_retrieval.main(flags(path, demo_root, "--finetune-dataset", "demo"))


@pytest.fixture
def status_of(monkeypatch):
    """The exit status of a program that is run in this process, as before it starts its log."""
    monkeypatch.setattr(logging.getLogger("umurl"), "handlers", [])

    def run_program(program, *args):
        with pytest.raises(SystemExit) as stopped:
            run(lambda: program.main([*map(str, args)]))
        return stopped.value.code

    return run_program


def test_errors_have_no_traceback_and_a_status(status_of, tmp_path, capsys):
    assert status_of(action_recognition, "--pretrained", tmp_path / "nowhere") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no checkpoint at") and error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_an_error_without_traceback(status_of, demo_root, tmp_path, capsys):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "demo"
    assert status_of(pretrain_program, "--checkpoint-path", path, "--data-root", demo_root, "--device", "cpu") == 1
    error = capsys.readouterr().err
    assert "file" in error and error.count("\n") == 1


def test_results_table(published, demo_root, monkeypatch, capsys):
    action_recognition.main(flags(published, demo_root, "--epochs", 5))
    action_retrieval.main(flags(published, demo_root, "--knn-neighbours", 3))
    capsys.readouterr()
    rows = results.frozen_rows("demo_published", results.read_results(published))
    scores = [json.loads((published / f"action_{t}.json").read_text()) for t in ("recognition", "retrieval")]
    mean = f"{scores[0]['best']['top1']['mean']:.1f}"
    retrieval = (f"{scores[1]['top1']:.1f} (k=3)", f"{scores[1]['map']:.1f}")
    last = f"{scores[0]['last']['top1']['mean']:.1f}"
    assert [row.texts() for row in rows] == [["demo_published", "demo xsub", "451", "all", last, mean, *retrieval]]
    for task, more in (("recognition", ["probability"]), ("retrieval", ["nearest", "average_precision"])):
        lines = list(csv.DictReader(open(published / f"action_{task}_predictions.csv")))
        assert list(lines[0]) == ["name", "label", "predicted", "label_name", "predicted_name", *more]
        right = 100 * sum(line["label"] == line["predicted"] for line in lines) / len(lines)
        result = json.loads((published / f"action_{task}.json").read_text())
        assert right == pytest.approx(result["last"]["top1"]["mean"] if "last" in result else result["top1"])
        assert lines[0]["name"].endswith(f"A{int(lines[0]['label']) + 1:03d}")


def test_folds_and_seeds_have_a_row_together_and_tables_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", tmp_path)
    for fold in (1, 2):
        for seed in (0, 1):
            folder = tmp_path / f"mine_fold{fold}_s{seed}"
            folder.mkdir()
            result = {"task": "action_retrieval", "dataset": "mine", "protocol": f"fold{fold}", "modality": "all"}
            result |= {"epoch": 40, "k": 1, "top1": 70.0 + 10 * fold + 2 * seed, "map": 50}
            (folder / "action_retrieval.json").write_text(json.dumps(result))
    results.main(["--csv", str(tmp_path / "a.csv"), "--latex", str(tmp_path / "a.tex")])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split("|")[1:9:2] and "mine_fold*_s* (4 runs)" in row and "86.0 ± 5.1" in row and "50.0 ± 0.0" in row
    lines = list(csv.DictReader(open(tmp_path / "a.csv")))
    assert len(lines) == 2 * 5 and lines[0]["run"] == "mine_fold1_s0" and lines[0]["metric"] == "retrieval"
    assert float(lines[-2]["mean"]) == 86 and lines[-2]["runs"] == "4"
    text = (tmp_path / "a.tex").read_text()
    assert r"mine\_fold1\_s0 & mine fold1 & 40 & all & - & - & 80.0 & 50.0 \\" in text and r"86.0 $\pm$ 5.1" in text
    assert text.count("\\begin{tabular}{llllrrrr}") == 1


def test_runs_that_were_evaluated_in_different_ways_are_not_averaged(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", tmp_path)
    score = {"top1": {"per_seed": [50.0], "mean": 50.0, "std": 0.0}}
    for fold in (1, 2, 3):
        folder = tmp_path / f"mine_fold{fold}"
        folder.mkdir()
        result = {"task": "finetune", "dataset": "mine", "protocol": f"fold{fold}", "modality": "all", "epoch": 40}
        result |= {"labelled": 9, "fraction": 1.0, "last": score, "best": score}
        result["args"] = {"epochs": 1 if fold == 3 else 20, "lr": [0.1], "seed": [fold], "amp": "bf16" * (fold == 1)}
        (folder / "finetune.json").write_text(json.dumps(result))
    results.main([str(tmp_path / f"mine_fold{fold}") for fold in (1, 2)])
    said = capsys.readouterr()
    assert "| mine_fold* (2 runs) | mine fold*" in said.out and not said.err
    results.main([])
    said = capsys.readouterr()
    assert "runs)" not in said.out and "mine_fold3" in said.out
    told = "epochs 1, lr [0.1] and epochs 20, lr [0.1]"
    assert said.err == f"note: no mean of mine_fold*, evaluated with different settings: {told}\n"


def test_results_stand_beside_the_published_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", tmp_path / "checkpoints")
    folder = tmp_path / "checkpoints" / "ntu60_xview_lr1"
    folder.mkdir(parents=True)
    score = {"per_seed": [50.0, 51.0], "mean": 50.5, "std": 0.5}
    common = {"dataset": "ntu60", "protocol": "xview", "epoch": 451}
    shares = [
        {"fraction": f, "labelled": n, "best": {"top1": score}, "last": {"top1": score}} for f, n in ((0.01, 376),)
    ]
    for name, result in {
        "action_recognition_joint": {"modality": "joint", "best": {"top1": score}, "last": {"top1": score}},
        "action_retrieval": {"modality": "all", "k": 1, "top1": 88.0, "map": 61.25},
        "semi_supervised": {"modality": "all", "fractions": shares},
        "transfer_pku2_xsub_scratch": {"modality": "all", **shares[0], "fraction": 1, "labelled": 9000},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(common | result | {"task": name}))
    (folder / "benchmark.json").write_text("[1]")
    results.main([])
    rows = [" ".join(line.strip("| ").replace("|", "").split()) for line in capsys.readouterr().out.splitlines()]
    for row in (
        "ntu60_xview_lr1 ntu60 xview 451 all - - 88.0 61.2",
        "ntu60_xview_lr1 ntu60 xview 451 joint 50.5 ± 0.5 50.5 ± 0.5 - -",
        "published (paper) ntu60 xview 451 all - 90.9 88.9 -",
        "ntu60_xview_lr1 ntu60 xview 451 all semi supervised 376 (1 %) 50.5 ± 0.5 50.5 ± 0.5",
        "ntu60_xview_lr1 ntu60 xview 451 all transfer pku2 xsub scratch 9,000 (100 %) 50.5 ± 0.5 50.5 ± 0.5",
    ):
        assert row in rows
    assert sum("published" in row for row in rows) == 1


def test_features_are_float32_and_can_be_trained_on(published, demo_root):
    packed = PackedDataset(demo_root / "demo")
    backbone = loading.load_backbone(loading.load(checkpoint_files.newest(published)), published)
    source = ClipDataset.of_dataset(packed, np.arange(5), torch.device("cpu"))
    (feature,) = extract_features(backbone, source, [["bone"]], torch.device("cpu"))
    assert feature.dtype == torch.float32 and not feature.is_inference()


def test_results_without_scores_or_with_damaged_ones_are_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", tmp_path / "checkpoints")
    with pytest.raises(UserError, match="no scores in .*checkpoints"):
        results.main([])
    folder = tmp_path / "checkpoints" / "demo_run"
    folder.mkdir(parents=True)
    monkeypatch.setattr(options, "RUNS", tmp_path / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint at demo_other, and no run of that name"):
        results.main(["demo_other"])
    result = {"task": "action_retrieval", "dataset": "demo", "protocol": "xsub", "modality": "all", "epoch": 3}
    (folder / "action_retrieval.json").write_text(json.dumps(result | {"k": 1, "top1": 87.25, "map": 50}))
    results.main(["demo_run"])
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == "| demo_run | demo xsub | 3 | all | - | - | 87.2 | 50.0 |".split()
    (folder / "action_retrieval.json").write_text('{"modality": ')
    with pytest.raises(UserError, match="action_retrieval.json is damaged .*evaluate that run again"):
        results.main([])


def test_a_data_set_that_does_not_fit_is_refused(demo_root, tmp_path):
    dataset = DATASETS["ntu60"]
    with pytest.raises(UserError, match="demo holds demo, not ntu60"):
        open_dataset(demo_root / "demo", dataset, dataset.protocols[0])
    tiny_dataset(tmp_path, subjects=(1, 2), actions=(1,))
    with pytest.raises(UserError, match="fewer than two recordings on the val side of cross_subject"):
        open_dataset(tmp_path, DATASETS["demo"], DATASETS["demo"].protocols[0])


def test_ctrl_c_ends_a_program_quietly(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger("umurl"), "handlers", [])  # as before a program starts its log

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        run(interrupted)
    assert stopped.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def scores_of(folder, task, modality):
    suffix = modality.removeprefix("all") if modality.startswith("all") else f"_{modality}"
    result = json.loads((folder / f"{task}{suffix}.json").read_text())
    assert (result["task"], result["modality"]) == (f"{task}{suffix}", modality)
    return {k: v for k, v in result.items() if k not in ("args", "task")}


def test_modalities_in_one_pass_score_as_by_themselves(published, demo_root):
    names = ("all", "joint", "bone", "motion", "motion+joint")
    for program, task, more in (
        (action_recognition, "action_recognition", ("--seed", 0, 1, "--epochs", 7)),
        (action_retrieval, "action_retrieval", ()),
    ):
        alone = {}
        for name in names:
            program.main(flags(published, demo_root, *more, "--modality", name))
            canonical = name.replace("motion+joint", "joint+motion")
            alone[canonical] = scores_of(published, task, canonical)
            (published / f"{task}.json").unlink(missing_ok=True)
        program.main(flags(published, demo_root, *more, "--modality", *names))
        assert {name: scores_of(published, task, name) for name in alone} == alone
        assert len({json.dumps(a["history"] if "history" in a else a["map"]) for a in alone.values()}) > 2
    late = scores_of(published, "action_recognition", "late")
    assert late["streams"] == ["joint", "bone", "motion"] and len(late["best"]["top1"]["per_seed"]) == 2
    assert not (published / "action_retrieval_late.json").exists()


def test_variants_are_evaluated_beside_the_plain_features(published, demo_root, tmp_path):
    kinds = [f"{m}{v}" for m in ("all", "ensemble") for v in ("", "_centred", "_standardised")]
    more = ["--modality", "all", "ensemble", "--centre", "--standardise"]
    action_retrieval.main(flags(published, demo_root, *more))
    action_recognition.main(flags(published, demo_root, *more, "--epochs", "5"))
    plain = {task: scores_of(published, task, "all") for task in ("action_recognition", "action_retrieval")}
    found = {kind: scores_of(published, "action_retrieval", kind) for kind in kinds}
    extract.main(["--pretrained", str(published), "--data", str(demo_root / "demo"), "--out", str(tmp_path / "f.npz"),
                  "--modality", "ensemble"])  # fmt: skip
    with np.load(tmp_path / "f.npz") as file:
        features, labels = file["feature"].astype(float), file["label"]
    packed = PackedDataset(demo_root / "demo")
    train, val = (packed.split("xsub", side) for side in ("train", "val"))
    for kind in kinds:
        values = features if kind.startswith("ensemble") else features[:, :16]
        mean, deviation = values[train].mean(0), values[train].std(0)
        values = values if "_" not in kind else values - mean if "centred" in kind else (values - mean) / deviation
        unit = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in np.split(values, values.shape[1] // 16, 1)]
        unit = np.concatenate(unit, 1)
        nearest = labels[train][(unit[val] @ unit[train].T).argmax(1)]
        assert found[kind]["top1"] == pytest.approx(100 * np.mean(nearest == labels[val]))
        assert found[kind]["modality"] == kind and "top1" in scores_of(published, "action_recognition", kind)["last"]
    action_retrieval.main(flags(published, demo_root))
    action_recognition.main(flags(published, demo_root, "--epochs", "5"))
    for task, before in plain.items():  # the published protocol, alone or beside the others
        assert scores_of(published, task, "all") == before


@pytest.mark.parametrize("kind", ["all_standardised", "ensemble_centred"])
def test_a_classifier_of_a_variant_is_used_as_it_was_validated(kind, published, demo_root, tmp_path, capsys):
    modality, _, variant = kind.partition("_")
    variant = {"standardised": "--standardise", "centred": "--centre"}[variant]
    action_recognition.main(flags(published, demo_root, "--epochs", "5", "--modality", modality, variant))
    name = f"action_recognition{kind.removeprefix('all') if modality == 'all' else '_' + kind}"
    capsys.readouterr()
    predict.main(["--pretrained", str(published), "--classifier", str(published / f"{name}.pth.tar"), "--json",
                  "--device", "cpu", str(demo_root / "demo")])  # fmt: skip
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first = {answer["recording"]: answer["actions"][0] for answer in answers}
    with open(published / f"{name}_predictions.csv") as file:
        for row in csv.DictReader(file):
            assert first[row["name"]]["action"] == f"A{int(row['predicted']) + 1:03d}"
            assert first[row["name"]]["probability"] == pytest.approx(float(row["probability"]), abs=1e-3)
    figures.main(["confusion", str(published), "--modality", kind, "--data-root", str(demo_root), "--device", "cpu"])
    assert (published / "figures" / f"confusion{name.removeprefix('action_recognition')}.png").is_file()


def test_variants_and_the_ensemble_are_not_for_fine_tuning(published, demo_root):
    for more in (["--centre"], ["--standardise"], ["--modality", "ensemble"]):
        with pytest.raises(UserError, match="are for the frozen encoder: leave out --finetune"):
            action_recognition.main(flags(published, demo_root, "--finetune", *more))


def test_the_pair_is_the_mean_of_its_two_embeddings(published, demo_root):
    backbone = loading.load_backbone(loading.load(checkpoint_files.newest(published)), published)
    packed = PackedDataset(demo_root / "demo")
    source = ClipDataset.of_dataset(packed, np.arange(5), torch.device("cpu"))
    (pair,) = extract_features(backbone, source, [modalities_of("joint+motion")], torch.device("cpu"))
    clip = evaluation_view(source.clips(torch.arange(5)))
    tokens = ModalityTokens()(clip, ("joint", "motion"))
    embedded = zip(backbone.j_emb(tokens["joint"]), backbone.m_emb(tokens["motion"]))
    fusions = backbone.mm_fusion.t_fusion, backbone.mm_fusion.s_fusion
    fused = [fusion((a + b) / 2) for fusion, (a, b) in zip(fusions, embedded)]
    torch.testing.assert_close(pair, backbone.ma_encoder(Tokens(*fused)).detach())


def test_the_saved_classifier_gives_the_last_scores(published, demo_root):
    action_recognition.main(flags(published, demo_root, "--epochs", 7, "--seed", 3, 4, "--modality", "joint"))
    saved = torch.load(published / "action_recognition_joint.pth.tar", weights_only=True)
    last = scores_of(published, "action_recognition", "joint")["last"]
    packed = PackedDataset(demo_root / "demo")
    backbone = loading.load_backbone(loading.load(checkpoint_files.newest(published)), published)
    source = ClipDataset.of_dataset(packed, packed.split("xsub", "val"), torch.device("cpu"))
    (feature,) = extract_features(backbone, source, [["joint"]], torch.device("cpu"))
    predicted = (feature @ saved["weight"].T + saved["bias"]).argmax(1)
    assert last["top1"]["per_seed"][0] == pytest.approx(100 * (predicted == source.label).double().mean().item())
    assert saved["modality"] == "joint" and saved["epoch"] == 451


def test_retrieval_by_several_ks_in_one_pass(published, demo_root, capsys):
    alone = {}
    for k in (1, 3, 12):
        action_retrieval.main(flags(published, demo_root, "--knn-neighbours", k))
        alone[str(k)] = scores_of(published, "action_retrieval", "all")["top1"]
    action_retrieval.main(flags(published, demo_root, "--knn-neighbours", 3, 1, 12))
    together = scores_of(published, "action_retrieval", "all")
    assert together["knn"] == alone and (together["k"], together["top1"]) == (3, alone["3"])
    classes = [value for value in together["per_class"] if value is not None]
    assert len(together["per_class"]) == 12 and np.mean(classes) == pytest.approx(together["top1"])  # 4 of each of 3
    action_retrieval.main(flags(published, demo_root))
    assert list(scores_of(published, "action_retrieval", "all")["knn"]) == ["1", "5"]  # the gallery has only 12
    assert f"mean average precision {together['map']:.2f} %" in capsys.readouterr().out


@pytest.mark.parametrize("name, reason", [("joints", "'joints' is no modality"), ("joint+all", "'all' is no modality")])
def test_unknown_modalities_are_refused(name, reason, published, demo_root, capsys):
    with pytest.raises(SystemExit):
        action_retrieval.main(flags(published, demo_root, "--modality", name))
    assert reason in capsys.readouterr().err


def test_the_published_recipe_is_marked(published, demo_root, capsys):
    action_recognition.main(flags(published, demo_root, "--lr", 0.3, 0.03, "--modality", "joint+motion+bone"))
    lines = capsys.readouterr().out
    assert (
        "all, rate 0.03 (the published recipe), best (chosen on the val side)" in lines
        and "all, rate 0.3, last" in lines
    )
