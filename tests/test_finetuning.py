"""`action_recognition.py --finetune` and what it reports."""

import json
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tools.utils.errors import UserError

import action_recognition
from models import CheckpointError
from tests.helpers import GOLDEN, needs_compiler, tiny_dataset
from tests.processes import run_together
from tools.evaluation import finetune_report

SHORT = ("--epochs", 6, "--schedule", 4, "--batch-size", 5, "--device", "cpu")


def flags(folder, root, *more):
    return [*map(str, ("--pretrained", folder, "--data-root", root, "--finetune", *SHORT, *more))]


def result_of(folder, task):
    return json.loads((folder / f"{task}.json").read_text())


def test_all_labels_best_and_last_with_curves(published, demo_root, capsys):
    action_recognition.main(flags(published, demo_root, "--seed", 0, 1))
    result = result_of(published, "finetune")
    assert (result["task"], result["modality"], result["epoch"], result["fraction"]) == ("finetune", "all", 451, 1.0)
    assert (result["labelled"], result["train"], result["val"]) == (12, 12, 12)
    assert [h["epoch"] for h in result["history"]] == [5, 6]
    for metric in ("top1", "top5"):
        last = result["history"][-1][metric]
        assert len(last) == 2 and result["last"][metric]["per_seed"] == last
        assert result["last"][metric]["mean"] == pytest.approx(np.mean(last))
        assert result["last"][metric]["std"] == pytest.approx(np.std(last))
    best = np.max([h["top1"] for h in result["history"]], axis=0)
    assert result["best"]["top1"]["per_seed"] == best.tolist()
    lines = capsys.readouterr().out
    best = f"best (chosen on the val side): top-1 {result['best']['top1']['mean']:.2f} ±"
    assert f"100 % of the labels (12 recordings), {best}" in lines
    assert lines == "".join(line[20:] for line in (published / "finetune.log").read_text().splitlines(keepends=True))
    events = EventAccumulator(str(published)).Reload().Scalars("finetune/loss_seed1")
    assert [(e.step, pytest.approx(e.value)) for e in events] == [(h["epoch"], h["loss"][1]) for h in result["history"]]


def test_few_labels_each_fraction_as_by_itself(published, demo_root, monkeypatch):
    used = []

    def recorded(tuner, train, *rest):
        used.append((tuner.seed, train.tolist()))
        return finetune(tuner, train, *rest)

    finetune = finetune_report.finetune
    monkeypatch.setattr(finetune_report, "finetune", recorded)
    action_recognition.main(flags(published, demo_root, "--label-fraction", 0.01, 0.5, "--seed", 0, 3))
    both = result_of(published, "semi_supervised")["fractions"]
    # Of 4 recordings in each of 3 classes.
    assert [(f["fraction"], f["labelled"]) for f in both] == [(0.01, 3), (0.5, 6)]
    assert [seed for seed, _ in used] == [0, 3, 0, 3] and used[0][1] != used[1][1]
    action_recognition.main(flags(published, demo_root, "--label-fraction", 0.5, "--seed", 3))
    *kept, alone = sorted(result_of(published, "semi_supervised")["fractions"], key=lambda f: len(f["seeds"]))[::-1]
    assert kept[::-1] == both and alone["seeds"] == [3] and used[4] == used[3]
    assert [h["loss"][0] for h in alone["history"]] == [h["loss"][1] for h in both[1]["history"]]
    assert alone["last"]["top1"]["mean"] == both[1]["last"]["top1"]["per_seed"][1]
    tags = EventAccumulator(str(published)).Reload().Tags()["scalars"]
    assert {"semi_supervised/top1_seed3_0.5", "semi_supervised/top5_seed0_0.01"} <= set(tags)


def test_defaults_are_each_recipes(tmp_path):
    def completed(*more):
        args = action_recognition.parse_args(["--pretrained", str(tmp_path), *more])
        action_recognition.complete_args(args)
        return args.lr, args.epochs, args.schedule, args.batch_size, args.seed

    assert completed() == ([0.03], 150, [120, 140], 512, [0])
    assert completed("--finetune") == ([0.01], 80, [50, 70], 64, [0])
    assert completed("--finetune", "--label-fraction", "0.1") == ([0.01], 80, [50, 70], 64, [0, 1, 2, 3, 4])
    assert completed("--finetune", "--lr", "0.1", "--seed", "7")[::4] == ([0.1], [7])


@pytest.mark.parametrize(
    "more, message",
    [
        (("--label-fraction", "0.1"), "--label-fraction is for fine-tuning: give --finetune too"),
        (("--from-scratch",), "--from-scratch is for fine-tuning: give --finetune too"),
        (("--amp", "off"), "--amp is for fine-tuning: give --finetune too"),
        (("--finetune", "--lr", "0.1", "0.3"), "--lr 0.1 0.3: --finetune takes one rate a run"),
        (("--finetune", "--schedule", "80"), "--schedule 80: with --epochs 80 the last epoch is 79"),
        (("--finetune", "--amp", "fp16", "--device", "cpu"), "--amp fp16 needs a GPU"),
        (("--finetune", "--finetune-dataset", "ntu60"), "no packed data set at .*ntu60"),
        (("--finetune", "--pretrained", str(GOLDEN.parent / "nowhere" / "x")), "no checkpoint at .*nowhere/x"),
    ],
)
def test_contradictions_are_refused(published, demo_root, more, message):
    with pytest.raises((UserError, CheckpointError), match=message):
        action_recognition.main(["--pretrained", str(published), "--data-root", str(demo_root), *more])
    assert not list(published.glob("*.json")) and not list(published.glob("*.log"))


@pytest.mark.parametrize("value", ["0", "1.01", "nan", "-0.1"])
def test_a_fraction_is_above_0_and_at_most_1(published, demo_root, value, capsys):
    with pytest.raises(SystemExit):
        action_recognition.main(flags(published, demo_root, f"--label-fraction={value}"))
    assert "argument --label-fraction: " in capsys.readouterr().err


def test_from_scratch_forgets_the_checkpoint(published, demo_root, tmp_path, pretrain):
    """Its scores are those of an untrained encoder of the same seed, fine-tuned."""
    action_recognition.main(flags(published, demo_root, "--from-scratch", "--seed", 3))
    scratch = result_of(published, "finetune_scratch")
    assert scratch["task"] == "finetune_scratch" and not (published / "finetune.json").exists()
    untrained = pretrain.run("--epochs", 0, "--seed", 3)
    for folder in (untrained, published):
        action_recognition.main(flags(folder, demo_root, "--seed", 3))
    assert result_of(untrained, "finetune")["history"] == scratch["history"]
    assert result_of(published, "finetune")["history"] != scratch["history"]


def test_another_data_set_gets_a_head_of_its_classes_and_a_file_of_its_name(published, demo_root, tmp_path, pretrain):
    packed = tiny_dataset(tmp_path / "data", "ntu60")
    trained = pretrain.run("--epochs", 1)
    shutil.copytree(trained, tmp_path / "mine")  # the checkpoint says itself what it was trained on
    for folder in (published, tmp_path / "mine"):
        target = ("--finetune-dataset", "ntu60", "--epochs", 1, "--schedule", "--batch-size", 64)
        action_recognition.main(flags(folder, packed.path, *target, "--modality", "joint", "bone+motion"))
        assert sorted(p.stem for p in folder.glob("transfer*.json")) == [
            "transfer_ntu60_xsub_bone+motion",
            "transfer_ntu60_xsub_joint",
        ]
        result = result_of(folder, "transfer_ntu60_xsub_joint")
        assert (result["dataset"], result["protocol"], result["modality"]) == ("ntu60", "xsub", "joint")
        # The loss of the only step, from almost equal scores, is that of guessing among so many classes.
        assert result["history"][0]["loss"][0] == pytest.approx(np.log(60), rel=0.03)
    action_recognition.main(flags(published, packed.path, *target, "--label-fraction", 1, "--protocol", "xview"))
    assert (published / "transfer_ntu60_xview_semi_supervised.json").is_file()


def test_any_number_of_processes_report_the_same(published, demo_root, tmp_path):
    """12 clips in batches of 5, 5 and 2, and 12 to validate with, shared by 3; one modality, so that parts are idle."""
    more = ("--modality", "motion", "--label-fraction", 0.7, "--seed", 1, "--lr", 0.1)
    several = tmp_path / "demo_several"
    shutil.copytree(published, several)
    assert run_together(3, "action_recognition", *flags(several, demo_root, *more)).count("written to") == 1
    action_recognition.main(flags(published, demo_root, *more))
    one, three = (result_of(f, "semi_supervised_motion")["fractions"][0] for f in (published, several))
    for a, b in zip(one["history"], three["history"], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert (a["top1"], a["top5"]) == (b["top1"], b["top5"])


def test_a_run_that_diverges_leaves_no_result(published, demo_root):
    with pytest.raises(UserError, match="the loss of epoch 0 is not finite, so fine-tuning stops: lower --lr"):
        action_recognition.main(flags(published, demo_root, "--lr", 1e30))
    assert not list(published.glob("*.json*"))


@pytest.mark.slow
@needs_compiler
def test_compiled_fine_tuning_gives_the_scores_of_eager(published, demo_root, capsys):
    found = []
    for choice in ("off", "on"):
        action_recognition.main(flags(published, demo_root, "--compile", choice))
        found.append(result_of(published, "finetune")["history"])
    out = capsys.readouterr()
    assert "compiling the model for batches of 4 clips" in out.out and "does not work" not in out.err
    for a, b in zip(*found):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["top1"] == b["top1"]


def test_compile_is_for_fine_tuning(published, demo_root):
    with pytest.raises(UserError, match="--compile is for fine-tuning: give --finetune too"):
        action_recognition.main(
            [flag for flag in flags(published, demo_root, "--compile", "on") if flag != "--finetune"]
        )
