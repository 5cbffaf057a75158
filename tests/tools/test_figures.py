import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_gen.class_names import DEMO
from data_gen.packed.reader import PackedDataset
from models import checkpoints
from models.frozen import FrozenEncoder
from tests.programs import assert_refused, call
from tools.figures import confusion, curves, inputs, retrieval, style, timeline, tsne
from utils.files import append_result, read_results

CPU = torch.device("cpu")
QUERY = "S001C001P003R001A001"


@pytest.fixture
def folder(run, tmp_path):
    """A copy of a run with a probe and retrieval, to write figures into."""
    return shutil.copytree(run, tmp_path / "demo", ignore=shutil.ignore_patterns("events*"))


@pytest.fixture
def draw(demo_root):
    """Run the program on the tiny data set; return what it printed."""

    def draw(figure, *args):
        data = ("--data-root", demo_root, "--device", "cpu") if figure in ("tsne", "confusion", "retrieval") else ()
        ended = call("tools.figures", figure, *args, *data)
        assert ended.status == 0, ended
        return ended.out

    return draw


def texts(labels):
    return [label.get_text() for label in labels]


def test_tsne_of_two_encoders_goes_to_the_run_and_the_projector(folder, draw, tmp_path):
    other = shutil.copytree(folder, tmp_path / "demo_other")
    draw("tsne", folder, other, "--classes", 2, "--labels", "first", "second")
    name = "tsne_2_classes_demo_other"
    assert Image.open(folder / "figures" / f"{name}.png").size[0] == 1100
    (image,) = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload().Images(f"figures/{name}")
    assert image.width == 1100
    for title in ("first", "second"):
        values = np.loadtxt(folder / "00000" / title / "tensors.tsv")
        heading, *lines = (folder / "00000" / title / "metadata.tsv").read_text().splitlines()
        assert values.shape == (8, 16) and heading == "class\trecording" and len(lines) == 8
        assert {line.split("\t")[0] for line in lines} < set(DEMO)


def test_a_tsne_is_named_by_what_it_shows(folder, draw):
    state = checkpoints.load(folder / "checkpoint_0000.pth.tar")
    checkpoints.write(folder / "checkpoint_0004.pth.tar", state | {"epoch": 5})
    draw("tsne", folder / "checkpoint_0000.pth.tar", folder, "--modality", "bone", "--seed", 1, "--protocol", "xview")
    config = (folder / "projector_config.pbtxt").read_text()
    assert "demo/checkpoint_0000, 1 epoch:" in config and "demo, 5 epochs:" in config
    assert (folder / "figures" / "tsne_bone_xview_checkpoint_0000_seed1_demo.png").is_file()


def test_the_seed_chooses_the_classes():
    labels = np.repeat(np.arange(60), 3)
    first, again, other = (tsne.choose_classes(labels, None, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) == 10 and first == sorted(first)
    assert tsne.choose_classes(np.array([7, 7, 3]), None, 0).tolist() == [3, 7]


def test_a_map_has_a_point_for_each_recording_and_a_title_for_each_encoder():
    labels, points = np.array([0, 2, 2, 0, 2]), np.random.default_rng(0).normal(size=(5, 2))
    figure = tsne.draw([points, -points], ["one", "two"], labels, ["a", "b", "c"])
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    assert texts(figure.legends[0].get_texts()) == ["a", "c"]
    np.testing.assert_array_equal(figure.axes[1].collections[1].get_offsets(), -points[labels == 2])


def test_confusion_counts_are_sklearns():
    true, predicted = np.random.default_rng(0).integers(0, 120, (2, 500))
    counts = confusion.count(true, predicted, 120)
    assert (counts == confusion_matrix(true, predicted, labels=range(120))).all()
    figure = confusion.draw(counts, [f"class {i}" for i in range(120)], "title")
    labels = texts(figure.axes[0].get_yticklabels())
    assert len(labels) == 120 and labels[4] == "class 4  5"


def test_classes_that_do_not_occur_are_left_out():
    counts = confusion.count(np.array([0, 0, 0, 5, 5, 40]), np.array([0, 5, 5, 5, 0, 40]), 60)
    axes = confusion.draw(counts, [f"A{i + 1:03d}" for i in range(60)], "title").axes[0]
    assert texts(axes.get_yticklabels()) == texts(axes.get_xticklabels()) == ["A001", "A006", "A041"]
    assert set(texts(axes.texts)) == {"33", "67", "50", "100"}
    assert confusion.most_confused(counts) == [(0, 5), (5, 0)]


def test_confusion_is_that_of_the_newest_probe(folder, demo_root):
    (result,) = (r for r in read_results(folder) if r["task"] == "action_recognition")
    data = inputs.Data(None, "cross_subject", demo_root, CPU)
    counts, names, title = confusion.of_probe(folder, "all", data)
    assert 100 * counts.trace() / counts.sum() == pytest.approx(result["metrics"]["last_top1"]["values"][0])
    assert names == list(DEMO) and title == "demo, 1 epoch, modality all: demo xsub"
    with open(folder / "right.csv", "w", newline="") as file:
        csv.writer(file).writerows([("name", "label", "predicted"), ("a, b#", 3, 3), ("c", 4, 3)])
    newer = result | {"files": result["files"] | {"predictions": "right.csv"}}
    append_result(folder, newer)
    append_result(folder, newer | {"modality": "bone"})
    append_result(folder, newer | {"protocol": "xview", "files": {}})
    counts, _, _ = confusion.of_probe(folder / "checkpoint_0000.pth.tar", "all", data)
    assert counts.sum() == 2 and counts[3, 3] == counts[4, 3] == 1


def test_confusion_of_a_fine_tuned_model_is_that_of_its_validation(folder, demo_root, draw):
    flags = ("--data-root", demo_root, "--device", "cpu", "--epochs", 1, "--schedule", "--batch-size", 6)
    assert call("action_recognition", "--pretrained", folder, "--finetune", *flags).status == 0
    top1 = read_results(folder)[-1]["metrics"]["last_top1"]
    assert f"top-1 {top1:.2f} % of 12 " in draw("confusion", folder / "finetune.pth.tar")
    assert (folder / "figures" / "confusion_finetune.png").is_file()


@pytest.fixture
def logs(tmp_path):
    """A run that has only a log and results."""
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [{"epoch": e, "loss/total": 3.0 - e, "std/joint": 0.5, "std/bone": 0.3, "lr": 0.1} for e in range(3)]
    lines[2]["loss/new"] = 7.0
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(text + '{"epoch": 3, "loss/to')  # killed while it wrote
    (folder / "curve.csv").write_text("epoch,top1_seed0_lr1,top1_seed1_lr1,top1_seed0_lr2\n5,50,100,9\n10,100,200,9\n")
    result = {"task": "action_recognition", "modality": "all", "dataset": "demo", "protocol": "xsub"}
    result |= {"settings": {"seed": [0, 1]}, "metrics": {}, "files": {"curve": "curve.csv"}}
    for more in ({}, {"files": {}}, {"modality": "bone", "files": {"curve": "other.csv"}}):
        append_result(folder, result | more)
    for top1 in (1.0, 40.0):
        metrics = {f"top1_at_{part}": {"values": [top1, top1 + part]} for part in (100, 20, 7.5)}
        metrics["top5_at_20"] = {"values": [3.0, 4.0]}
        append_result(folder, result | {"task": "early_recognition", "metrics": metrics})
    return folder


def test_curves_are_those_of_the_log_and_the_newest_probe(logs):
    panels = curves.read_run(logs)
    *titles, probe = panels
    assert titles == ["loss/total", "loss/new", "std of the projections", "learning rate"] and "demo xsub" in probe
    assert panels["loss/total"].x.tolist() == [1, 2, 3] and panels["loss/total"].y.tolist() == [[3, 2, 1]]
    assert panels["loss/new"].x.tolist() == [3]
    assert panels["std of the projections"].y.tolist() == [[0.5] * 3, [0.3] * 3]
    assert panels[probe].x.tolist() == [5, 10] and panels[probe].y.tolist() == [[50, 100], [100, 200]]
    other = {"loss/total": curves.Curve(np.array([1]), np.array([[9.0]]))}
    figure = curves.draw({"two": other, "one": panels})
    assert [len(axes.lines) for axes in figure.axes[:5]] == [2, 1, 1, 1, 1]
    line = figure.axes[4].lines[0]
    assert line.get_ydata().tolist() == [75, 150] and line.get_color() == style.colour(1)
    assert texts(figure.legends[0].get_texts()) == ["two", "one"]


def test_neither_rates_nor_names_are_drawn_as_formulas():
    rates = curves.Curve(np.arange(3), np.array([[0.1, 0.01, 0.001]]))
    figure = curves.draw({"$x^{$": {curves.RATE: rates}})
    figure.draw_without_rendering()
    labels = texts(figure.axes[0].get_yticklabels(which="both"))
    assert {"1e−03", "1e−02"} <= set(labels) and "$" not in "".join(labels)
    assert texts(figure.legends[0].get_texts()) == ["$x^{$"]


def test_early_recognition_is_the_newest_result(logs, draw):
    ((title, curve),) = curves.read_early_recognition(logs, "all").items()
    assert curve.x.tolist() == [7.5, 20, 100] and curve.y.tolist() == [[40] * 3, [47.5, 60, 140]]
    axes = curves.draw({"run": {title: curve}}).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [43.75, 50, 90] and "demo xsub" in axes.get_title()
    other = shutil.copytree(logs, logs.with_name("other"))
    draw("earliness", logs, other)
    assert (logs / "figures" / "early_recognition_other.png").is_file()


def test_retrieval_finds_what_tools_search_finds(folder, demo_root, tmp_path):
    packed = PackedDataset(demo_root / "demo")
    flags = ("--gallery", packed.path, "-k", 3, "--json", "--device", "cpu", packed.path)
    search = call("tools.search", "--pretrained", folder, *flags)
    answers = {answer["recording"]: answer["neighbours"] for answer in map(json.loads, search.out.splitlines())}
    encoder = FrozenEncoder.open(folder, CPU, "ensemble")
    for query in (0, 7):
        neighbours = retrieval.find_neighbours(encoder, packed, query, np.arange(len(packed)), 3)
        wanted = answers[packed.names[query]]
        assert [packed.names[index] for index in neighbours] == [each["recording"] for each in wanted]
        assert list(neighbours.values()) == pytest.approx([each["cosine"] for each in wanted], abs=1e-4)


def test_retrieval_draws_each_neighbour_with_its_class(demo_root):
    packed = PackedDataset(demo_root / "demo")
    same, other = (int(np.flatnonzero((packed.label == label) & (np.arange(len(packed)) > 0))[0]) for label in (0, 1))
    figure = retrieval.draw(packed, 0, {same: 0.9, other: 0.25}, ["first", "second", "third"], "caption")
    top, query, right, wrong = figure.subfigs
    assert texts(top.texts) == ["caption"] and query.get_suptitle() == "query: first"
    assert right.get_suptitle() == "1 ✓ cosine 0.900: first" and wrong.get_suptitle() == "2 ✗ cosine 0.250: second"
    for band, index in ((query, 0), (right, same), (wrong, other)):
        assert packed.names[index] in texts(band.texts) and len(band.axes) == retrieval.FRAMES


def test_retrievals_by_other_representations_have_other_names(folder, draw):
    for flags in ((), ("--modality", "all")):
        draw("retrieval", folder, "--query", QUERY, "-k", 1, *flags)
    assert {path.stem for path in (folder / "figures").iterdir()} == {f"retrieval_{QUERY}", f"retrieval_{QUERY}_all"}


@pytest.mark.parametrize(
    "args, message",
    [
        (("tsne", "RUN", "--classes", 4), "--classes 4"),
        (("tsne", "RUN", "--labels", "a", "b"), "--labels"),
        (("tsne", "RUN", "--out", "picture.jpg"), "picture.jpg"),
        (("retrieval", "RUN", "--query", "S001C001P001R001A001"), "--query S001C001P001R001A001"),
        (("retrieval", "RUN", "--query", QUERY, "-k", 13), "-k 13"),
        (("confusion", "RUN", "--modality", "bone"), "--modality bone"),
        (("curves", "RUN", "RUN"), "--labels"),
        (("early_recognition", "RUN"), "--observed"),
    ],
)
def test_errors_name_the_flag_or_the_file(run, demo_root, args, message):
    data = ("--data-root", demo_root) if args[0] in ("tsne", "confusion", "retrieval") else ()
    assert_refused(call("tools.figures", *(run if a == "RUN" else a for a in args), *data), message)
    assert not (run / "figures").exists()


def test_a_timeline_has_a_lane_for_each_class_that_occurs():
    predicted, truth = [(30, 60, "b"), (4000, 4300, "z")], [(30, 90, "a")]
    figure = timeline.draw("long_001", 200, 30, predicted, truth, ["c", "b", "a"])
    first, second = figure.axes
    assert texts(first.get_yticklabels()) == ["b", "a", "z"]
    assert (*first.get_xlim(), *second.get_xlim()) == (0, 100, 100, 200)
    bars = [(bar.get_x(), bar.get_width()) for bar in first.patches]
    assert bars == [(1, 2), (1, 1), (pytest.approx(400 / 3), 10)]
    assert len(figure.legends[0].get_texts()) == 2
