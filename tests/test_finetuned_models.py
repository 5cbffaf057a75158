"""The files of fine-tuned models, wherever a checkpoint is taken."""

import json

import numpy as np
import pytest
import torch
from tools.utils.errors import UserError

import action_recognition
import action_retrieval
import hubconf
import pretrain as pretrain_program
from data_gen.packed.reader import PackedDataset
from models import CheckpointError, checkpoint_files, load_encoder, loading
from tests.helpers import tiny_dataset
from tools import export, extract, predict, results, search, slim
from tools.figures.__main__ import main as draw
from tools.inference import exporting

CPU = ["--device", "cpu"]


def finetune(folder, root, *more):
    short = ["--epochs", "10", "--schedule", "--batch-size", "5", "--lr", "0.05"]
    action_recognition.main(
        ["--pretrained", str(folder), "--data-root", str(root), *CPU, "--finetune", *short, *map(str, more)]
    )


def evaluate(program, source, root, *more):
    few = ["--epochs", "5"] if program is action_recognition else []
    program.main(["--pretrained", str(source), "--data-root", str(root), *CPU, *few, *map(str, more)])


@pytest.fixture
def tuned(pretrain, demo_root):
    """A pre-trained run, fine-tuned with two seeds."""
    run = pretrain.run("--epochs", "1", "--protocol", "xview")
    finetune(run, demo_root, "--seed", 1, 0)
    return run


def answers(capsys, *args):
    capsys.readouterr()
    predict.main([*CPU, "--json", *map(str, args)])
    said = capsys.readouterr()
    return [json.loads(line)["actions"] for line in said.out.splitlines()], said.err


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_file_is_the_model_that_scored(tuned, demo_root, which, capsys):
    result = json.loads((tuned / "finetune.json").read_text())
    path = tuned / ("finetune.pth.tar" if which == "last" else "finetune_best.pth.tar")
    state = loading.load(path)
    assert (state["dataset"], state["protocol"], state["epoch"], state["recordings"]) == ("demo", "xview", 1, 12)
    assert "optimizer" not in state and state["view"] and state["args"]["hidden_size"] == 8
    assert (state["finetuned"]["seed"], state["finetuned"]["labelled"]) == (1, 12)
    assert (state["finetuned"]["epochs"], state["finetuned"]["top1"]) == (
        result[which]["epoch"][0],
        result[which]["top1"]["per_seed"][0],
    )
    packed = PackedDataset(demo_root / "demo")
    rows, said = answers(capsys, "--pretrained", path, packed.path)
    assert said == f"{path}: the 12 classes of demo xview\n"
    found = np.array([int(actions[0]["action"][1:]) - 1 for actions in rows])
    val = packed.split("xview", "val")
    right = 100 * (found[val] == packed.label[val]).mean()
    assert right == pytest.approx(result[which]["top1"]["per_seed"][0])


@pytest.mark.no_cover  # an export would take twice as long
def test_every_program_takes_it(tuned, demo_root, tmp_path, capsys, monkeypatch):
    path, packed = tuned / "finetune.pth.tar", PackedDataset(demo_root / "demo")
    clip, encoder = packed.recording(3), load_encoder(path, device="cpu")
    feature = encoder([clip])
    assert not torch.allclose(feature, load_encoder(tuned, device="cpu")([clip]), atol=1e-3)
    assert torch.equal(hubconf.umurl(str(path), device="cpu")([clip]), feature)
    data = ["--data", str(packed.path), "--out", str(tmp_path / "f.npz")]
    extract.main(["--pretrained", str(path), *CPU, *data])
    np.testing.assert_allclose(np.load(tmp_path / "f.npz")["feature"][3], feature[0], atol=1e-6)
    search.main(["--pretrained", str(path), *CPU, "--gallery", str(tmp_path / "f.npz"), str(packed.path), "-k", "1"])
    saved = loading.load(path)["classifier"]
    logits = feature @ saved["weight"].T + saved["bias"]
    for more, outputs in (([], ["feature", "logits"]), (["--modality", "bone"], ["feature"])):
        export.main(["--pretrained", str(path), "--format", "torch", "--out", str(tmp_path / "out"), *more])
        card = json.loads((tmp_path / "out" / "export.json").read_text())
        assert card["outputs"] == outputs and card["finetuned"]["dataset"] == "demo"
        if not more:
            found = torch.export.load(tmp_path / "out" / "encoder.pt2").module()(torch.tensor(clip[None]))
            torch.testing.assert_close(found[1], logits, atol=1e-4, rtol=1e-4)
            monkeypatch.setattr(exporting, "_export", lambda *_: {})  # takes seconds; of the next, the card is told
    flags = ["--data-root", str(demo_root), *CPU]
    for plot in (["tsne", "--classes", "3"], ["confusion"], ["retrieval", "--query", "S001C001P001R001A001"]):
        draw([plot[0], str(path), *plot[1:], *flags])
    top1 = json.loads((tuned / "finetune.json").read_text())["last"]["top1"]["per_seed"][0]
    assert f"top-1 {top1:.2f} % of 12 recordings" in capsys.readouterr().out
    plots = {p.name for p in (tuned / "figures").iterdir()}
    names = ("tsne_of_finetune_3_classes", "confusion_of_finetune", "retrieval_S001C001P001R001A001_of_finetune")
    assert plots == {f"{name}.png" for name in names}
    with pytest.raises(UserError, match="was fine-tuned for modality all: leave out --modality bone"):
        draw(["confusion", str(path), "--modality", "bone", *flags])
    # Neither is it taken for a checkpoint of pre-training.
    assert checkpoint_files.newest(tuned).name == "checkpoint_0000.pth.tar"
    again = ["--checkpoint-path", str(tuned), "--hidden-size", "8", "--batch-size", "5", "--protocol", "xview", *flags]
    with pytest.raises((UserError, CheckpointError), match="finetune.pth.tar is of another model: Missing key"):
        pretrain_program.main([*again, "--resume", str(path)])


def test_recordings_on_which_an_encoder_may_have_been_trained_are_told_of(tuned, demo_root, tmp_path, capsys):
    def overlap(source, *more, on=""):
        capsys.readouterr()
        evaluate(action_retrieval, source, demo_root, *more)
        name = f"action_retrieval{on}" + "_of_finetune" * (source != tuned)
        told = json.loads((tuned / f"{name}.json").read_text()).get("overlap", "")
        assert (f"note: {told}" if told else "note:") in capsys.readouterr().out or not told
        return told

    file = tuned / "finetune.pth.tar"
    assert not overlap(tuned) and not overlap(file)
    assert overlap(tuned, "--protocol", "xsub", on="_on_demo_xsub").startswith("the encoder was pre-trained on xview, ")
    assert "fine-tuned with the labels of xview" in overlap(file, "--protocol", "xsub", on="_on_demo_xsub")
    path = checkpoint_files.newest(tuned)
    torch.save(torch.load(path, weights_only=True) | {"data": "0" * 64}, path)
    assert "another train side of xview than the data set has now" in overlap(tuned)


def test_slim_weights_keep_the_classifier(tuned, demo_root, tmp_path, capsys):
    path = tuned / "finetune_best.pth.tar"
    slim.main(["--pretrained", str(path), "--out", str(tmp_path / "slim")])
    weights = tmp_path / "slim" / "encoder.safetensors"
    slim.main(["--pretrained", str(weights), "--out", str(tmp_path / "again")])
    expected, _ = answers(capsys, "--pretrained", path, demo_root / "demo")
    for slimmed in (weights, tmp_path / "again"):
        found, said = answers(capsys, "--pretrained", slimmed, demo_root / "demo")
        assert found == expected and "safetensors: the 12 classes of demo xview" in said
    text = weights.with_suffix(".json").read_text()
    card = json.loads(text)
    assert str(tmp_path) not in text and card["finetuned"]["checkpoint"] == "checkpoint_0000.pth.tar"
    assert card["finetuned"]["seed"] == 1 and card["classifier"]["classes"][0] and "weight" not in card["classifier"]
    # The classifier also goes with the encoder by itself.
    assert answers(capsys, "--pretrained", weights, "--classifier", path, demo_root / "demo")[0] == expected
    with pytest.raises(UserError, match="was trained on the features of .*finetune_best.pth.tar, whose weights are"):
        answers(capsys, "--pretrained", tuned, "--classifier", path, demo_root / "demo")


def test_the_encoder_has_the_modalities_that_it_was_fine_tuned_for(published, demo_root):
    finetune(published, demo_root, "--modality", "bone", "--from-scratch")
    path = published / "finetune_scratch_bone.pth.tar"
    clip = PackedDataset(demo_root / "demo").recording(3)
    assert torch.equal(load_encoder(path, device="cpu")([clip]), load_encoder(path, "bone", "cpu")([clip]))
    with pytest.raises(ValueError, match="joint"):
        load_encoder(path, "joint", "cpu")
    assert loading.load(path)["epoch"] == 0


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda state: state["classifier"].update(bias=torch.zeros(5)), "is not a classifier"),
        (lambda state: state["classifier"].pop("classes"), "is not a classifier"),
        (lambda state: state.update(classifier="none"), "its 'classifier' is 'none'"),
        (lambda state: state.update(finetuned=[1]), "its 'finetuned' is \\[1\\]"),
        (lambda state: state["classifier"].update(encoder="0" * 64), "whose weights are not those of"),
        (lambda state: state["classifier"].update(more=torch.zeros(1).expand(10**9)), "claims more weights than it"),
    ],
)
def test_a_damaged_file_is_refused(tuned, demo_root, damage, message, capsys):
    path = tuned / "finetune.pth.tar"
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    with pytest.raises((UserError, CheckpointError), match=message):
        answers(capsys, "--pretrained", path, demo_root / "demo")


def test_nothing_is_overwritten_by_another_encoder_or_data(tuned, demo_root, tmp_path, pretrain, capsys):
    for program in (action_recognition, action_retrieval):
        evaluate(program, tuned, demo_root)
    files = ("action_recognition.json", "action_recognition.pth.tar", "action_recognition_predictions.csv")
    before = {name: (tuned / name).read_bytes() for name in (*files, "action_retrieval.json", "finetune.json")}
    other = tiny_dataset(tmp_path / "data", "ntu60")
    for program in (action_recognition, action_retrieval):
        evaluate(program, tuned / "finetune.pth.tar", demo_root)
        evaluate(program, tuned, demo_root, "--protocol", "xsub")
        evaluate(program, tuned, other.path, "--finetune-dataset", "ntu60")
    evaluate(action_recognition, tuned, demo_root, "--protocol", "xsub", "--observed", "0.5")
    finetune(tuned, demo_root, "--protocol", "xsub")
    finetune(tuned, other.path, "--finetune-dataset", "ntu60")
    assert {name: (tuned / name).read_bytes() for name in before} == before
    wheres = ("_of_finetune", "_on_demo_xsub", "_on_ntu60_xsub")
    for where in wheres:
        names = [f"action_{task}{where}" for task in ("recognition", "retrieval")]
        assert all((tuned / f"{name}.{end}").is_file() for name in names for end in ("json", "log"))
        assert (tuned / f"{names[0]}.pth.tar").is_file() and (tuned / f"{names[0]}_predictions.csv").is_file()
    assert (tuned / "earliness_on_demo_xsub.json").is_file() and (tuned / "finetune_on_demo_xsub.json").is_file()
    assert (tuned / "transfer_ntu60_xsub.pth.tar").is_file()
    assert "the first protocol of ntu60, as --protocol names none" in (tuned / "transfer_ntu60_xsub.log").read_text()
    assert answers(capsys, "--pretrained", tuned, demo_root / "demo")[1].endswith("the 12 classes of demo xview\n")
    found = results.read_results(tuned)
    assert [row.cells for row in results.frozen_rows("run", found)] == [
        ("run", "demo xsub", "1", "all"),
        ("run", "demo xview", "1", "all"),
        ("run", "ntu60 xsub", "1", "all"),
        ("run/finetune", "demo xview", "1", "all"),
    ]
    assert [row.cells[1::3] for row in results.finetuned_rows("run", found)] == [
        ("demo xview", "finetune"),
        ("demo xsub", "finetune"),
        ("ntu60 xsub", "transfer ntu60 xsub"),
    ]


def test_an_earlier_checkpoint_has_names_of_its_own(pretrain, demo_root, capsys):
    run = pretrain.run("--epochs", "1")
    evaluate(action_recognition, run, demo_root)
    first = json.loads((run / "action_recognition.json").read_text())
    pretrain.run("--epochs", "2")
    evaluate(action_recognition, run / "checkpoint_0000.pth.tar", demo_root)
    assert json.loads((run / "action_recognition.json").read_text()) == first
    earlier = json.loads((run / "action_recognition_epoch1.json").read_text())
    assert earlier["last"] == first["last"] and earlier["encoder"] == first["encoder"]
    capsys.readouterr()
    evaluate(action_recognition, run / "checkpoint_0001.pth.tar", demo_root)
    assert (
        "an earlier action_recognition, made with other settings (encoder, epoch), is kept as action_recognition_20"
        in capsys.readouterr().out
    )
    (kept,) = run.glob("action_recognition_20*.json")
    assert json.loads(kept.read_text()) == first
    for end in (".pth.tar", "_predictions.csv"):
        assert (run / (kept.stem + end)).is_file()
    assert [row.cells[::2] for row in results.frozen_rows("run", results.read_results(run))] == [
        ("run", "2"),
        ("run", "1"),
        (f"run (kept {kept.stem.removeprefix('action_recognition_')})", "1"),
    ]
    _, said = answers(capsys, "--pretrained", run / "checkpoint_0000.pth.tar", demo_root / "demo")
    assert said.startswith(str(run / "action_recognition_epoch1.pth.tar"))


def test_few_labels_gather_rows_and_equal_subsets_are_trained_once(published, demo_root, capsys):
    few = ["--label-fraction", 0.01, 0.02, 0.5]
    finetune(published, demo_root, *few, "--seed", 0, 1)
    said = capsys.readouterr().out
    assert "2 % of the labels (3 recordings): the same recordings as of 1 %, so the same scores" in said
    rows = json.loads((published / "semi_supervised.json").read_text())["fractions"]
    assert rows[1] == rows[0] | {"fraction": 0.02, "same_as": 0.01} and "same_as" not in rows[2]
    models = {p.name for p in published.glob("semi*.pth.tar")}
    assert models == {f"semi_supervised_{f}{end}.pth.tar" for f in (0.01, 0.5) for end in ("", "_best")}
    model = (published / "semi_supervised_0.5.pth.tar").read_bytes()
    finetune(published, demo_root, "--label-fraction", 0.5, 0.75, "--seed", 2)
    found = json.loads((published / "semi_supervised.json").read_text())["fractions"]
    assert [f for f in found if f["seeds"] == [0, 1]] == rows
    assert [f["fraction"] for f in found if f["seeds"] == [2]] == [0.5, 0.75]
    (kept,) = published.glob("semi_supervised_0.5_20*[0-9].pth.tar")
    assert kept.read_bytes() == model
    cells = [row.cells[-1] for row in results.finetuned_rows("run", results.read_results(published))]
    assert cells == ["3 (1 %)", "3 (2 %)", "6 (50 %), seeds 0 1", "6 (50 %), seeds 2", "9 (75 %)"]
    finetune(published, demo_root, "--label-fraction", 0.5, "--seed", 2, "--lr", 0.02)
    (kept,) = published.glob("semi_supervised_20*.json")
    assert json.loads(kept.read_text())["fractions"] == found
    assert (published / f"{kept.stem}_0.75.pth.tar").is_file()
    assert [f["fraction"] for f in json.loads((published / "semi_supervised.json").read_text())["fractions"]] == [0.5]


def test_the_same_again_replaces_and_other_settings_do_not(published, demo_root):
    for _ in range(2):
        finetune(published, demo_root)
    assert [p.name for p in published.glob("finetune*.json")] == ["finetune.json"]
    first = (published / "finetune.json").read_text(), loading.load(published / "finetune_best.pth.tar")["classifier"]
    for more in (("--seed", 1), ("--epochs", 9), ("--batch-size", 4)):
        finetune(published, demo_root, *more)
    kept = sorted(published.glob("finetune_20*.json"))
    assert len(kept) == 3 and first[0] in [path.read_text() for path in kept]
    which = next(path for path in kept if path.read_text() == first[0])
    found = loading.load(published / f"{which.stem}_best.pth.tar")["classifier"]
    assert torch.equal(found["weight"], first[1]["weight"])
    (published / "finetune.json").write_text("{")  # damaged; its model tells what it was made with
    finetune(published, demo_root, *more)
    assert len(list(published.glob("finetune_20*.json"))) == 3
    finetune(published, demo_root)
    assert len(list(published.glob("finetune_20*.json"))) == 4
