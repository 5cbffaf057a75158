import json
import shutil

import numpy as np
import pytest
import torch
from data_gen.packed.info import DataSetError
from PIL import Image
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tools.utils import checkpoints
from tools.utils.errors import UserError

import action_recognition
from data_gen.packed.reader import PackedDataset
from tests.helpers import own_dataset, run_python
from tools.figures import confusion, curves, encoded, retrieval, tsne
from tools.figures.__main__ import main


@pytest.fixture
def draw(demo_root):
    """Run the program on the tiny data set."""

    def call(figure, *args, data=True):
        more = ["--data-root", demo_root, "--device", "cpu"] if data else []
        main([figure, *map(str, args), *map(str, more)])

    return call


def board_of(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


def test_tsne_of_two_encoders_goes_to_the_run_and_the_projector(published, draw, tmp_path, capsys):
    other = tmp_path / "demo_other"
    shutil.copytree(published, other)
    draw("tsne", published, other, "--classes", 2, "--labels", "first", "second")
    picture = published / "figures" / "tsne_2_classes_demo_other.png"
    assert Image.open(picture).size[0] == 1100 and "8 recordings of 2 classes" in capsys.readouterr().out
    (shown,) = board_of(published).Images("figures/tsne_2_classes_demo_other")
    assert (shown.step, shown.width) == (451, 1100)
    for folder in (published, other):
        assert 'tensor_name: "features:00451"' in (folder / "projector_config.pbtxt").read_text()
        values = np.loadtxt(folder / "00451" / "features" / "tensors.tsv")
        lines = (folder / "00451" / "features" / "metadata.tsv").read_text().splitlines()
        assert values.shape == (8, 16) and lines[0] == "class\trecording" and len(lines) == 9
        assert all(line.split("\t")[0] in ("raise an arm", "lower an arm", "wave a hand") for line in lines[1:])
    assert not list(tmp_path.rglob("*.partial"))


def test_two_checkpoints_of_one_run_are_both_in_its_projector(published, draw):
    state = checkpoints.load(published / "checkpoint_0450.pth.tar")
    checkpoints.write(published / "checkpoint_0000.pth.tar", state | {"epoch": 1})
    draw("tsne", published / "checkpoint_0000.pth.tar", published, "--classes", 3)
    config = (published / "projector_config.pbtxt").read_text()
    assert '"features:00001"' in config and '"features:00451"' in config


def test_the_seed_chooses_the_classes():
    labels = np.repeat(np.arange(60), 3)
    chosen = [tsne.choose_classes(labels, 10, seed).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 10 and chosen[0] == sorted(chosen[0])
    assert tsne.choose_classes(np.array([7, 7, 3]), 2, 0).tolist() == [3, 7]


@pytest.mark.parametrize("classes, height", [(12, 1640), (60, 1640), (120, 3600)])
def test_confusion_counts_are_sklearns(classes, height, tmp_path):
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, classes, (2, 500))
    counts = confusion.count(true, predicted, classes)
    assert (counts == confusion_matrix(true, predicted, labels=range(classes))).all()
    figure = confusion.draw(counts, tuple(f"class {i}" for i in range(classes)), "title")
    assert figure.get_size_inches()[1] * 200 == pytest.approx(height, rel=0.02)
    texts = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(texts) == classes and texts[4] == ("class 4" if classes == 12 else "class 4  5")


def test_classes_that_do_not_occur_are_left_out():
    counts = confusion.count(np.array([0, 0, 0, 5, 5, 40]), np.array([0, 5, 5, 5, 0, 40]), 60)
    figure = confusion.draw(counts, ("zero",), "title")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["zero", "A006", "A041"]
    assert {t.get_text() for t in figure.axes[0].texts} == {"33", "67", "50", "100"}
    assert confusion.most_confused(counts) == [(0, 5), (5, 0)]


def test_confusion_is_that_of_the_probe(published, demo_root, draw, capsys):
    for modality in ("all", "bone"):
        flags = ["--pretrained", published, "--data-root", demo_root, "--device", "cpu", "--modality", modality]
        action_recognition.main([*map(str, flags), "--epochs", "12", "--schedule", "9"])
        capsys.readouterr()
        draw("confusion", published, "--modality", modality)
        task = "action_recognition" if modality == "all" else "action_recognition_bone"
        last = json.loads((published / f"{task}.json").read_text())["last"]["top1"]["per_seed"][0]
        assert f"top-1 {last:.2f} % of 12 recordings" in capsys.readouterr().out
    assert {p.name for p in (published / "figures").iterdir()} == {"confusion.png", "confusion_bone.png"}


def test_a_classifier_that_does_not_fit_is_refused(published, demo_root, draw):
    with pytest.raises(UserError, match=r"no classifier .*run action_recognition.py --pretrained"):
        draw("confusion", published)
    flags = ["--pretrained", published, "--data-root", demo_root, "--device", "cpu", "--epochs", "1", "--schedule"]
    action_recognition.main(list(map(str, flags)))
    path = published / "action_recognition.pth.tar"
    good = torch.load(path, weights_only=True)
    state = checkpoints.load(published / "checkpoint_0450.pth.tar")
    state["state_dict"]["module.backbone.mm_fusion.t_fusion.0.weight"].mul_(2)
    other = published / "checkpoint_0010.pth.tar"
    checkpoints.write(other, state)
    with pytest.raises(UserError, match=r"no classifier at .*action_recognition_epoch11.pth.tar: run .*0010"):
        draw("confusion", other)
    shutil.copy(path, published / "action_recognition_epoch11.pth.tar")
    with pytest.raises(
        UserError,
        match=r"of .*0450.pth.tar, .* not those of .*0010.pth.tar: .*action_recognition.py --pretrained .*0010",
    ):
        draw("confusion", other)
    for changed, message in (
        ({"weight": torch.zeros(12, 32)}, r"features of 32 values .*train one by action_recognition.py --pretrained"),
        (
            {"weight": torch.zeros(4, 16), "bias": torch.zeros(4), "classes": list("abcd")},
            r"knows the 4 classes of demo, .* has the 12 of demo: run action_recognition.py --pretrained",
        ),
        (
            {"classes": list("abcdefghijkl")},
            r"knows the 12 classes of demo, .* has others now: run action",
        ),
        ({"dataset": "other"}, r"knows the 12 classes of other, .* has the 12 of demo: run action_recognition.py"),
        ({"dataset": None}, r"is not a classifier .*run action_recognition.py"),
        ({"protocol": 1}, r"is not a classifier .*run action_recognition.py"),
        ({"checkpoint": None}, r"is not a classifier .*run action_recognition.py"),
    ):
        torch.save(good | changed, path)
        with pytest.raises(UserError, match=message):
            draw("confusion", published, "--finetune-dataset", "demo", "--protocol", "xsub")
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"is no checkpoint, a damaged one.*run action_recognition.py --pretrained"):
        draw("confusion", published)
    with pytest.raises(
        UserError, match=r"no classifier at .*_bone.pth.tar: run action_recognition.py --pretrained .* --modality bone"
    ):
        draw("confusion", published, "--modality", "bone")
    assert not (published / "figures").exists()


def test_a_classifier_finds_its_encoder_in_a_run_that_was_moved_and_trained_on(published, demo_root, draw, capsys):
    flags = ["--pretrained", published, "--data-root", demo_root, "--device", "cpu", "--epochs", "1", "--schedule"]
    action_recognition.main(list(map(str, flags)))
    capsys.readouterr()
    draw("confusion", published)
    before = capsys.readouterr().out.splitlines()
    moved = published.rename(published.with_name("demo_moved"))
    state = checkpoints.load(moved / "checkpoint_0450.pth.tar")
    state["state_dict"]["module.backbone.mm_fusion.t_fusion.0.weight"].mul_(2)
    checkpoints.write(moved / "checkpoint_0500.pth.tar", state)
    draw("confusion", moved)
    after = capsys.readouterr().out.splitlines()
    assert after[:-1] == before[:-1] and after[-1] == before[-1].replace("demo_published", "demo_moved")


def test_curves_are_those_of_the_log(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [
        {"epoch": e, "loss/total": 3.0 - e, "std/joint": 0.5, "std/bone": 0.3, "lr": 0.1, "seconds": 9}
        for e in range(3)
    ]
    lines[2]["loss/new"] = 7.0
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(text + '{"epoch": 3, "loss/to')  # killed while it wrote
    history = [{"epoch": e, "top1": [10.0 * e, 20.0 * e, 99.0]} for e in (5, 10)]
    result = {"modality": "all", "history": history, "last": {"top1": {"per_seed": [1, 2]}}}
    (folder / "action_recognition.json").write_text(json.dumps(result))
    found = curves.read_run(folder)
    probe = "linear probe,\nall: top-1 (%)"
    assert list(found) == ["loss/total", "loss/new", "std of the projections", "learning rate", probe]
    assert found["loss/total"].x.tolist() == [1, 2, 3] and found["loss/total"].y.tolist() == [[3, 2, 1]]
    assert found["loss/new"].x.tolist() == [3]
    assert found["std of the projections"].y.tolist() == [[0.5] * 3, [0.3] * 3]
    assert found[probe].y.tolist() == [[50, 100], [100, 200]]  # a seed each, of the first rate
    other = {"loss/total": curves.Curve(np.array([1]), np.array([[9.0]]))}
    axes = curves.draw({"one": found, "two": other}).axes
    assert [len(a.lines) for a in axes[:5]] == [2, 1, 1, 1, 1]
    assert axes[4].lines[0].get_ydata().tolist() == [75, 150]


def test_the_rates_are_written_without_formulas():
    figure = curves.draw({"run": {curves.LABELS["lr"]: curves.Curve(np.arange(3), np.array([[0.1, 0.01, 0.001]]))}})
    figure.draw_without_rendering()
    texts = [label.get_text() for label in figure.axes[0].get_yticklabels(which="both")]
    assert {"1e−03", "1e−02"} <= set(texts) and "$" not in "".join(texts)


def test_curves_of_runs_that_differ_in_length(pretrain, tmp_path, draw, capsys):
    other = tmp_path / "demo_longer"
    pretrain.run("--epochs", 1)
    pretrain.run("--epochs", 2, folder=other)
    draw("curves", pretrain.folder, other, data=False)
    assert "2 runs, " in capsys.readouterr().out
    assert Image.open(pretrain.folder / "figures" / "curves_demo_longer.png").size[0] == 1100
    assert board_of(pretrain.folder).Images("figures/curves_demo_longer")


def test_retrieval_draws_the_nearest(published, demo_root, draw, capsys):
    packed = PackedDataset(demo_root / "demo")
    gallery, queries = packed.split("xsub", "train"), packed.split("xsub", "val")
    name = packed.names[queries[0]]
    draw("retrieval", published, "--query", name, "-k", 3)
    assert "of its 3 nearest" in capsys.readouterr().out
    width, height = Image.open(published / "figures" / f"retrieval_{name}.png").size
    assert width == 1100 and height == pytest.approx(920, abs=1)
    encoder = encoded.Encoded.open(str(published), torch.device("cpu"))
    features = [encoder.features(packed, rows, "all").numpy() for rows in (queries[:1], gallery)]
    query, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in features)
    cosine = (others @ query[0]).astype(float)
    found = retrieval.neighbours(encoder, packed, gallery, int(queries[0]), 3, "all")
    assert [n.similarity for n in found] == pytest.approx(sorted(cosine, reverse=True)[:3], abs=1e-5)
    figure = retrieval.draw(packed, int(queries[0]), found, ("first", "second", "third"))
    for place, n in enumerate(found, 1):
        band, label = figure.subfigs[place], packed.label[n.index]
        head = f"{place} {'✓' if label == packed.label[queries[0]] else '✗'} cosine {n.similarity:.3f}: "
        assert band.get_suptitle() == head + ("first", "second", "third")[label]
        assert packed.names[n.index] in {text.get_text() for text in band.texts}


def test_class_names_of_a_file(demo_root, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("elbow\n\nknee" + 10 * "\n")
    names = encoded.names_for(PackedDataset(demo_root / "demo"), file)
    assert [encoded.class_name(names, i) for i in range(4)] == ["elbow", "A002", "knee", "A004"]
    file.write_text("elbow\nknee\n")
    with pytest.raises(UserError, match="--class-names: 2 names for 12 classes; give one for each"):
        encoded.names_for(PackedDataset(demo_root / "demo"), file)


@pytest.mark.parametrize(
    "args, message",
    [
        (
            ("tsne", "RUN", "--classes", 4),
            r"--classes 4: only 3 classes among the 12 val .*give --classes 3 or fewer",
        ),
        (
            ("tsne", "RUN", "--classes", 1),
            r"only 4 val recordings of 1 class, and a map takes 5: choose more --classes",
        ),
        (("tsne", "RUN", "--labels", "a", "b"), "2 titles for 1 checkpoint; give"),
        (("tsne", "RUN", "--out", "picture.jpg"), "the plot is a .png file"),
        (("tsne", "nothing_there"), "no checkpoint at nothing_there, and no run of that name; in .* there are: "),
        (("retrieval", "RUN", "--query", "S001"), "--query S001: .* has no such recording; the first is S001C001P001R"),
        (("retrieval", "RUN", "--query", "S001C001P001R001A001"), "is on the train side of cross_subject"),
        (("retrieval", "RUN", "--query", "S001C001P003R001A001", "-k", 13), "the gallery has only 12 recordings"),
        (
            ("retrieval", "RUN", "--query", "S001C001P003R001A001", "--class-names", "none.txt"),
            r"none.txt: cannot be read \(no such file\)",
        ),
    ],
)
def test_errors_name_the_remedy(published, draw, args, message):
    with pytest.raises((UserError, DataSetError), match=message):
        draw(*(published if a == "RUN" else a for a in args))
    assert not (published / "figures").exists()


def test_runs_without_curves(published, draw):
    with pytest.raises(UserError, match=r"no log.jsonl and no action_recognition.json: pre-train or evaluate"):
        draw("curves", published, data=False)
    with pytest.raises(UserError, match="called the same .*--labels"):
        draw("curves", published, published, data=False)
    with pytest.raises(UserError, match="is a file: give the folder"):
        draw("curves", published / "checkpoint_0450.pth.tar", data=False)
    huge = [{"epoch": 10**300, "top1": [1e308]}]
    for damaged in ({"modality": "all"}, {"modality": "all", "history": huge, "last": {"top1": {"per_seed": [1]}}}):
        (published / "action_recognition.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="action_recognition.json is damaged .*evaluate that run again"):
            draw("curves", published, data=False)


def test_a_missing_package_is_named(tmp_path):
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["matplotlib"] = None')
    done = run_python("-m", "tools.figures", "curves", "demo", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: plots need matplotlib" in done.stderr and "pip install -r requirements.txt" in done.stderr


def test_a_checkpoint_of_other_bodies_is_refused(published, draw, tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2)
    flags = ["--data-root", tmp_path, "--finetune-dataset", "mine", "--device", "cpu"]
    with pytest.raises(UserError, match=r"was trained on kinect_v2 .*mine holds coco \(17 joints"):
        draw("tsne", published, *flags, data=False)


def test_another_picture_has_another_name(published, draw):
    for flags in ((), ("--modality", "bone"), ("--seed", 1), ("--protocol", "xview")):
        draw("tsne", published, *flags)
    query = ("--query", "S001C001P003R001A001", "-k", 1)
    for flags in ((), ("--modality", "joint")):
        draw("retrieval", published, *query, *flags)
    drawn = sorted(path.name for path in (published / "figures").iterdir())
    found = ["retrieval_S001C001P003R001A001.png", "retrieval_S001C001P003R001A001_joint.png"]
    assert drawn == [*found, "tsne.png", "tsne_bone.png", "tsne_on_demo_xview.png", "tsne_seed1.png"]
