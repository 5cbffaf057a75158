import csv
import statistics

import pytest

from models import checkpoints
from tools import results
from utils.errors import UserError
from utils.files import append_result, summary


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Append a result to a run below checkpoints/."""
    monkeypatch.setattr(checkpoints, "RUNS", tmp_path / "checkpoints")

    def append(run, metrics, task="action_retrieval", seed=None, settings=(), **facts):
        folder = checkpoints.RUNS / run
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"encoder": f"{run}-{'0' * 60}"} | dict(settings) | ({} if seed is None else {"seed": seed})
        usual = {"modality": "all", "dataset": "ntu60", "protocol": "xsub", "checkpoint": "checkpoint_0023.pth.tar"}
        append_result(folder, usual | {"epoch": 24, "task": task, "settings": settings, "metrics": metrics} | facts)

    return append


@pytest.fixture
def tables(add, capsys):
    """Run the program; return a table per task, each line a dictionary of its cells, and what stderr says."""

    def show(*args):
        results.main([*map(str, args)])
        out, err = capsys.readouterr()
        lines, title = {}, ""
        for line in out.splitlines():
            if line.startswith("|"):
                lines.setdefault(title, []).append([cell.strip() for cell in line.strip("|").split("|")])
            title = title if line.startswith("|") or not line else line
        return {task: [dict(zip(header, row)) for row in rows] for task, (header, _, *rows) in lines.items()}, err

    return show


def test_a_result_has_a_row_beside_the_papers(add, tables):
    add("mine", {"top1": 61.25, "map": 40})
    shown, err = tables("mine")
    same = {"data": "ntu60 xsub", "modality": "all"}
    assert shown["action_retrieval"] == [
        {"run": "mine", "epoch": "24", "top1": "61.2", "map": "40.0"} | same,
        {"run": "published (paper)", "epoch": "-", "top1": "72.0", "map": "-"} | same,
    ]
    assert err == ""


def test_an_unknown_task_with_unknown_metrics_has_a_table_of_its_own(add, tables):
    add("mine", {"top1": 60})
    add("mine", {"jitter": 0.0125, "frames": summary([10, 20])}, "smoothness", seed=[0, 1], modality="jerk")
    (row,) = tables()[0]["smoothness"]
    assert (row["modality"], row["jitter"], row["frames"], row["seeds"]) == ("jerk", "0.013", "15.0 ± 5.0", "2")


def test_of_equal_results_only_the_newest_is_shown(add, tables):
    for top1 in (10, 20, 30):
        add("mine", {"top1": top1}, settings={"k": [1, 5]})
    add("mine", {"top1": 40}, settings={"k": [1]})
    rows = [row for row in tables()[0]["action_retrieval"] if row["run"] == "mine"]
    assert [(row["k"], row["top1"]) for row in rows] == [("1 5", "30.0"), ("1", "40.0")]


def test_seeds_are_averaged_and_a_repeated_seed_counts_once(add, tables):
    for seed, top1 in ((0, 99), (1, 62), (2, 67), (0, 60)):
        add("mine", {"last_top1": top1}, "finetune", seed=seed, settings={"label_fraction": 0.05})
    add("mine", {"last_top1": 80}, "finetune", seed=0, settings={"label_fraction": 0.1})
    few, more = tables()[0]["finetune"]
    values = [60, 62, 67]
    expected = f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"
    assert (few["label_fraction"], few["last_top1"], few["seeds"]) == ("0.05", expected, "3")
    assert (more["label_fraction"], more["last_top1"], more["seeds"]) == ("0.1", "80.0", "1")


def test_only_settings_that_differ_have_a_column(add, tables):
    add("a", {"top1": 1}, settings={"lr": 0.1, "epochs": 150})
    add("a", {"top1": 2}, settings={"lr": 0.3, "epochs": 150})
    rows = tables("a")[0]["action_retrieval"]
    assert [row["lr"] for row in rows[:2]] == ["0.1", "0.3"] and not {"epochs", "encoder hash"} & rows[0].keys()
    add("a", {"top1": 3}, settings={"lr": 0.3, "epochs": 150, "encoder": "b" * 64})
    assert tables("a")[0]["action_retrieval"][2]["encoder hash"] == "bbbbbbbb"


@pytest.mark.parametrize(
    "names, star, protocols",
    [
        (("mine_fold1", "mine_fold2", "mine_fold10"), "mine_fold*", ("fold1", "fold2", "fold10")),
        (("mine_cv1_big", "mine_cv2_big", "mine_cv3_big"), "mine_cv*_big", ("cv1", "cv2", "cv3")),
        (("mine_seed0", "mine_seed1", "mine_seed2"), "mine_seed*", ("own", "own", "own")),
    ],
)
def test_folds_and_seeds_of_pretraining_are_averaged(add, tables, names, star, protocols):
    values = [50.0, 53.0, 59.0]
    for name, protocol, top1 in zip(names, protocols, values):
        add(name, {"top1": top1}, dataset="mine", protocol=protocol)
    shown, err = tables()
    *_, mean = shown["action_retrieval"]
    assert mean["run"] == f"{star} (3 runs)" and err == ""
    assert mean["data"] == ("mine own" if protocols[0] == "own" else f"mine {protocols[0][:-1]}*")
    assert mean["top1"] == f"{sum(values) / 3:.1f} ± {statistics.pstdev(values):.1f}"


def test_other_numbers_in_names_are_no_folds(add, tables):
    for name in ("ntu60_xsub1", "ntu60_xsub2", "mine_lr1", "mine_lr2", "fold1", "fold2"):
        add(name, {"top1": 1})
    assert not any("runs)" in row["run"] for row in tables()[0]["action_retrieval"])


def test_runs_with_different_settings_are_not_averaged(add, tables):
    add("mine_seed0", {"top1": 1}, settings={"lr": 0.1, "batch_size": 8})
    add("mine_seed1", {"top1": 2}, settings={"lr": 0.3, "batch_size": 8})
    shown, err = tables("mine_seed0", "mine_seed1")
    assert [row["run"] for row in shown["action_retrieval"]] == ["mine_seed0", "mine_seed1", "published (paper)"]
    assert "mine_seed*" in err and err.endswith(" lr\n")


def test_folds_without_a_result_are_counted_and_unfinished_runs_marked(add, tables):
    for fold, epochs in ((1, 24), (2, 21), (3, 0)):
        name = f"mine_fold{fold}"
        (checkpoints.RUNS / name).mkdir(parents=True)
        (checkpoints.RUNS / name / "config.json").write_text('{"epochs": 24}')
        (checkpoints.RUNS / name / "log.jsonl").write_text("".join(f'{{"epoch": {i}}}\n' for i in range(epochs)))
        if epochs:
            add(name, {"top1": 50}, dataset="mine", protocol=f"fold{fold}")
    shown, err = tables()
    names = [row["run"] for row in shown["action_retrieval"]]
    assert names == ["mine_fold1", "mine_fold2 (21 of 24 epochs)", "mine_fold* (2 of 3 runs)"]
    assert err.endswith("mine_fold3 (0 of 24 epochs)\n")


def test_the_csv_has_a_line_per_metric(add, tables, tmp_path):
    add("mine_seed0", {"last_top1": summary([80, 90]), "best_top1": 91}, "action_recognition", seed=[0, 1])
    add("mine_seed1", {"last_top1": summary([70, 80]), "best_top1": 93}, "action_recognition", seed=[0, 1])
    add("mine_seed1", {"top1": 50}, settings={"k": 5})
    tables("--csv", tmp_path / "scores.csv")
    lines = list(csv.DictReader(open(tmp_path / "scores.csv", encoding="utf-8")))
    assert list(lines[0])[:6] == ["run", "task", "dataset", "protocol", "epoch", "modality"]
    assert list(lines[0])[-4:] == ["metric", "mean", "std", "number"]
    probe = {(line["run"], line["metric"]): line for line in lines if line["task"] == "action_recognition"}
    numbers = {key: tuple(float(line[name]) for name in ("mean", "std", "number")) for key, line in probe.items()}
    assert numbers == {
        ("mine_seed0", "last_top1"): (85, 5, 2),
        ("mine_seed0", "best_top1"): (91, 0, 1),
        ("mine_seed1", "last_top1"): (75, 5, 2),
        ("mine_seed1", "best_top1"): (93, 0, 1),
        ("mine_seed*", "last_top1"): (80, 5, 2),
        ("mine_seed*", "best_top1"): (92, 1, 2),
        ("published (paper)", "best_top1"): (84.2, 0, 1),
    }
    assert [line["k"] for line in lines if line["run"] == "mine_seed1" and line["metric"] == "top1"] == ["5"]


def test_latex_has_every_special_letter_escaped(add, tables, tmp_path):
    add("a#$%&_{}b", {"a_1": summary([1, 2])}, "new", seed=[0, 1])
    tables("--latex", tmp_path / "scores.tex")
    text = (tmp_path / "scores.tex").read_text(encoding="utf-8")
    name = r"a\#\$\%\&\_\{\}b"
    assert rf"{name} & ntu60 xsub & 24 & all & 1.5 $\pm$ 0.5 & 2 \\" in text and r"a\_1" in text


def test_runs_are_named_or_given_as_folders(add, tables, tmp_path):
    add("mine", {"top1": 1})
    (checkpoints.RUNS / "mine").rename(tmp_path / "elsewhere")
    assert tables(tmp_path / "elsewhere")[0]["action_retrieval"][0]["run"] == "elsewhere"
    for args in (["nothing"], []):
        with pytest.raises(UserError, match="nothing" if args else "checkpoints"):
            results.main(args)


def test_a_note_says_how_the_best_was_chosen(add, capsys):
    add("mine", {"best_top1": 1}, "action_recognition")
    results.main([])
    assert results.BEST in capsys.readouterr().out
