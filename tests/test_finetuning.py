"""`action_recognition.py --finetune`: what it reports, and the models that it leaves."""

import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import action_recognition
import action_retrieval
from data_gen.packed.reader import PackedDataset
from models import load_encoder
from models.checkpoints import load, newest
from tests.helpers import needs_compiler, tiny_dataset
from tests.processes import run_together
from tools.evaluation import finetune
from tools.evaluation.classifier import load_classifier
from utils.errors import UserError
from utils.files import RESULTS, read_results

SHORT = ("--epochs", 6, "--schedule", 4, "--batch-size", 5, "--device", "cpu")


def flags(folder, root, *more):
    return [*map(str, ("--pretrained", folder, "--data-root", root, "--finetune", *SHORT, *more))]


def test_a_result_for_each_seed_with_curves(published, demo_root):
    action_recognition.main(flags(published, demo_root, "--seed", 0, 1))
    results = read_results(published)
    assert [(r["task"], r["modality"], r["epoch"], r["settings"]["seed"]) for r in results] == [
        ("finetune", "all", 451, 0),
        ("finetune", "all", 451, 1),
    ]
    board = EventAccumulator(str(published)).Reload()
    for result in results:
        top1 = board.Scalars(f"finetune/top1_seed{result['settings']['seed']}")
        assert [event.step for event in top1] == [5, 6]
        assert result["metrics"]["last_top1"] == pytest.approx(top1[-1].value)
        assert result["metrics"]["best_top1"] == pytest.approx(max(event.value for event in top1))
    assert set(results[0]["files"]) == {"model", "best_model"} and not results[1]["files"]


def test_few_labels_each_fraction_and_seed_as_by_itself(published, demo_root, monkeypatch):
    used = []

    def recorded(tuner, train, *rest):
        used.append((tuner.seed, train.tolist()))
        return right(tuner, train, *rest)

    right = finetune.train
    monkeypatch.setattr(finetune, "train", recorded)
    more = ("--label-fraction", 0.01, 0.5, "--seed", 0, 3)
    action_recognition.main(flags(published, demo_root, *more))
    together = {(r["settings"]["label_fraction"], r["settings"]["seed"]): r["metrics"] for r in read_results(published)}
    # Of 4 recordings in each of 3 classes.
    assert [(seed, len(train)) for seed, train in used] == [(0, 3), (3, 3), (0, 6), (3, 6)] and used[0][1] != used[1][1]
    (published / RESULTS).unlink()
    action_recognition.main(flags(published, demo_root, "--label-fraction", 0.5, "--seed", 3))
    assert used[4] == used[3] and read_results(published)[0]["metrics"] == together[0.5, 3]


def test_an_interrupted_command_goes_on_with_the_runs_that_are_missing(published, demo_root, monkeypatch):
    more = ("--label-fraction", 0.5, 0.75, "--seed", 0, 1, "--modality", "all", "joint")
    runs, right = [], finetune.train

    def train(tuner, *rest):
        if len(runs) == 3:
            raise KeyboardInterrupt
        runs.append(tuner.seed)
        return right(tuner, *rest)

    monkeypatch.setattr(finetune, "train", train)
    with pytest.raises(KeyboardInterrupt):
        action_recognition.main(flags(published, demo_root, *more))
    assert len(read_results(published)) == 3
    for lines, _ in ((6, "interrupted again"), (8, "to its end")):
        runs.clear()
        try:
            action_recognition.main(flags(published, demo_root, *more))
        except KeyboardInterrupt:
            pass
        assert len(read_results(published)) == lines
    keys = [(r["modality"], r["settings"]["label_fraction"], r["settings"]["seed"]) for r in read_results(published)]
    assert keys == [(m, f, s) for m in ("all", "joint") for f in (0.5, 0.75) for s in (0, 1)]
    runs.clear()
    action_recognition.main(flags(published, demo_root, *more))
    assert not runs and len(read_results(published)) == 8
    action_recognition.main(flags(published, demo_root, *more[:2], "--seed", 0, "--lr", 0.2))  # other settings
    assert len(runs) == 1


def test_defaults_are_each_recipes():
    def recipe_of(*more):
        recipe, lrs, seeds = action_recognition.make_recipe(action_recognition.parse_args(["--pretrained", "x", *more]))
        return lrs, recipe.epochs, recipe.milestones, recipe.batch_size, seeds

    assert recipe_of() == ([0.03], 150, (120, 140), 512, [0])
    assert recipe_of("--finetune") == ([0.01], 80, (50, 70), 64, [0])
    assert recipe_of("--finetune", "--label-fraction", "0.1") == ([0.01], 80, (50, 70), 64, [0, 1, 2, 3, 4])
    assert recipe_of("--finetune", "--lr", "0.1", "--seed", "7")[::4] == ([0.1], [7])


def test_from_scratch_forgets_the_checkpoint(published, demo_root, pretrain):
    """Its scores are those of an untrained encoder of the same seed, fine-tuned."""
    action_recognition.main(flags(published, demo_root, "--from-scratch", "--seed", 3))
    (scratch,) = read_results(published)
    assert scratch["settings"]["from_scratch"] and load(published / scratch["files"]["model"])["epoch"] == 0
    untrained = pretrain.run("--epochs", 0, "--seed", 3)
    weights = []
    for folder in (untrained, published):
        action_recognition.main(flags(folder, demo_root, "--seed", 3))
        weights.append(load(folder / read_results(folder)[-1]["files"]["model"])["classifier"]["weight"])
    expected = load(published / scratch["files"]["model"])["classifier"]["weight"]
    torch.testing.assert_close(weights[0], expected, rtol=0, atol=0)
    assert not torch.equal(weights[1], expected)


def test_another_data_set_gets_a_classifier_of_its_classes(published, demo_root, tmp_path, pretrain):
    packed = tiny_dataset(tmp_path / "data", "ntu60")
    trained = pretrain.run("--epochs", 1)
    shutil.copytree(trained, tmp_path / "mine")  # the checkpoint says itself what it was trained on
    target = ("--finetune-dataset", "ntu60", "--epochs", 1, "--schedule", "--batch-size", 64)
    for folder in (published, tmp_path / "mine"):
        action_recognition.main(flags(folder, packed.path, *target, "--modality", "joint", "bone+motion"))
        results = read_results(folder)
        assert [(r["task"], r["modality"], r["dataset"]) for r in results] == [
            ("transfer", "joint", "ntu60"),
            ("transfer", "bone+motion", "ntu60"),
        ]
        # The loss of the only step, from almost equal logits, is that of guessing among so many classes.
        loss = EventAccumulator(str(folder)).Reload().Scalars("transfer_joint/loss_seed0")[0].value
        assert loss == pytest.approx(np.log(60), rel=0.03)
    action_recognition.main(flags(published, packed.path, *target, "--label-fraction", 1, "--protocol", "xview"))
    assert read_results(published)[-1]["task"] == "transfer_semi_supervised"


def test_any_number_of_processes_report_the_same(published, demo_root, tmp_path):
    """12 clips in batches of 5, 5 and 2, and 12 to validate with, shared by 3; one modality, so that parts are idle."""
    more = ("--modality", "motion", "--label-fraction", 0.7, "--seed", 1, "--lr", 0.1)
    several = tmp_path / "demo_several"
    shutil.copytree(published, several)
    run_together(3, "action_recognition", *flags(several, demo_root, *more))
    action_recognition.main(flags(published, demo_root, *more))
    (one,), (three,) = read_results(published), read_results(several)
    assert one["metrics"] == three["metrics"]
    losses = [
        EventAccumulator(str(f)).Reload().Scalars("semi_supervised_motion/loss_seed1_0.7") for f in (published, several)
    ]
    for a, b in zip(*losses, strict=True):
        assert b.value == pytest.approx(a.value, rel=1e-4)


def test_a_run_that_diverges_leaves_no_result(published, demo_root):
    with pytest.raises(UserError, match="--lr"):
        action_recognition.main(flags(published, demo_root, "--lr", 1e30))
    assert not (published / RESULTS).exists()


@pytest.mark.slow
@needs_compiler
def test_compiled_fine_tuning_gives_the_scores_of_eager(published, demo_root, capsys):
    for choice in ("off", "on"):
        action_recognition.main(flags(published, demo_root, "--compile", choice))
        if choice == "off":
            (eager,) = read_results(published)
            (published / RESULTS).unlink()
    assert "--compile" not in capsys.readouterr().err
    assert read_results(published)[0]["metrics"] == eager["metrics"]


# ---- the models ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(pretrain, demo_root):
    """A pre-trained run, fine-tuned."""
    folder = pretrain.run("--epochs", "1", "--protocol", "xview")
    action_recognition.main(flags(folder, demo_root, "--epochs", 10, "--lr", 0.05))
    return folder


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_file_is_the_model_that_scored(tuned, demo_root, which):
    (result,) = read_results(tuned)
    path = tuned / result["files"]["model" if which == "last" else "best_model"]
    state = load(path)
    assert (state["dataset"], state["protocol"], state["epoch"], state["recordings"]) == ("demo", "xview", 1, 12)
    assert "optimizer" not in state and state["args"]["hidden_size"] == 8
    assert state["finetuned"]["top1"] == result["metrics"][f"{which}_top1"]
    packed, encoder = PackedDataset(demo_root / "demo"), load_encoder(path, device="cpu")
    classifier = load_classifier(None, encoder)
    val = packed.split("xview", "val")
    predicted = classifier.logits(encoder([packed.recording(i) for i in val])).argmax(1).numpy()
    accuracy = 100 * (predicted == packed.label[val]).mean()
    assert accuracy == pytest.approx(result["metrics"][f"{which}_top1"])
    assert newest(tuned).name == "checkpoint_0000.pth.tar"  # it is not taken for one of pre-training
    action_retrieval.main(["--pretrained", str(path), "--data-root", str(demo_root), "--device", "cpu"])
    assert read_results(tuned)[-1]["checkpoint"] == path.name


def test_a_classifier_of_another_encoder_is_refused(tuned, demo_root):
    path = tuned / read_results(tuned)[0]["files"]["model"]
    assert load_classifier(path, load_encoder(path, device="cpu")).dataset == "demo"
    with pytest.raises(UserError, match=path.name):
        load_classifier(path, load_encoder(newest(tuned), device="cpu"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state["classifier"].update(bias=torch.zeros(5)),
        lambda state: state["classifier"].pop("classes"),
        lambda state: state.update(classifier="none"),
        lambda state: state["classifier"].update(encoder="0" * 64),
        lambda state: state["classifier"]["weight"].fill_(torch.nan),
    ],
)
def test_a_damaged_classifier_is_refused(tuned, damage):
    path = tuned / read_results(tuned)[0]["files"]["model"]
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    with pytest.raises(UserError, match=path.name):
        load_classifier(None, load_encoder(path, device="cpu"))


def test_the_encoder_has_the_modalities_that_it_was_fine_tuned_for(published, demo_root):
    action_recognition.main(flags(published, demo_root, "--modality", "bone"))
    path = published / read_results(published)[0]["files"]["model"]
    clip = PackedDataset(demo_root / "demo").recording(3)
    assert torch.equal(load_encoder(path, device="cpu")([clip]), load_encoder(path, "bone", "cpu")([clip]))
    with pytest.raises(UserError, match="joint"):
        load_encoder(path, "joint", "cpu")
