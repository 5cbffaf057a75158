"""Data sets and protocols of one's own, through the programs."""

import json

import numpy as np
import pytest
import torch
from tools.utils.errors import UserError

import action_recognition
import action_retrieval
import pretrain as program
from data_gen import recipes
from data_gen.add_protocol import add_protocols
from data_gen.datasets import ROOT
from data_gen.packed.protocols import parse_split
from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import SKELETONS, load_skeleton
from models import checkpoint_files, load_encoder, loading
from tests.helpers import GOLDEN, moving_body, own_dataset, skeleton_text, tiny_dataset
from tools import export, extract, predict, slim

SMALL = ["--hidden-size", "8", "--batch-size", "6", "--epochs", "2", "--save-freq", "1", "--device", "cpu"]


def train(folder, root, *flags):
    program.main(["--checkpoint-path", str(folder), "--data-root", str(root), *SMALL, *map(str, flags)])


def evaluate(folder, root, *flags, where=""):
    both = ["--pretrained", str(folder), "--data-root", str(root), "--device", "cpu", *map(str, flags)]
    action_recognition.main([*both, "--epochs", "5"])
    action_retrieval.main(both)
    return [json.loads((folder / f"action_{task}{where}.json").read_text()) for task in ("recognition", "retrieval")]


@pytest.mark.parametrize("skeleton, people, coordinates", [("coco", 1, 2), ("kinect_v1", 2, 3)])
def test_another_skeleton_is_trained_on_and_evaluated(skeleton, people, coordinates, tmp_path):
    packed = own_dataset(tmp_path / "mine", skeleton, people, coordinates)
    run = tmp_path / "mine_fold2_first"
    train(run, tmp_path)
    state = loading.load(run / "checkpoint_0001.pth.tar")
    assert (state["dataset"], state["protocol"]) == ("mine", "fold2")
    assert state["body"] == {"skeleton": SKELETONS[skeleton].to_json(), "people": people, "coordinates": coordinates}
    probe, retrieval = evaluate(run, tmp_path)
    assert (probe["dataset"], probe["protocol"], probe["train"], probe["val"]) == ("mine", "fold2", 12, 12)
    # Retrieval, computed from extracted features.
    extract.main(["--pretrained", str(run), "--data", str(packed.path), "--out", str(tmp_path / "f.npz")])
    found = np.load(tmp_path / "f.npz")
    feature = found["feature"] / np.linalg.norm(found["feature"], axis=1, keepdims=True)
    train_side, val_side = (packed.split("fold2", side) for side in ("train", "val"))
    nearest = train_side[(feature[val_side] @ feature[train_side].T).argmax(1)]
    assert retrieval["top1"] == pytest.approx(100 * (packed.label[nearest] == packed.label[val_side]).mean())
    (other,) = {"fold1"} & set(packed.protocols)
    assert evaluate(run, tmp_path, "--protocol", other, where="_on_mine_fold1")[1]["protocol"] == "fold1"
    assert json.loads((run / "action_recognition.json").read_text()) == probe  # and its classifier
    assert loading.load_plain(run / "action_recognition.pth.tar")["protocol"] == "fold2"


@pytest.mark.no_cover  # an export would take twice as long
def test_the_encoder_of_another_skeleton_is_used_slimmed_and_exported(tmp_path, capsys):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    info = json.loads((packed.path / "dataset.json").read_text()) | {"class_names": ["wave", "nod", "bow"]}
    (packed.path / "dataset.json").write_text(json.dumps(info))
    run = tmp_path / "mine_fold1"
    train(run, tmp_path, "--epochs", 1)
    evaluate(run, tmp_path)
    slim.main(["--pretrained", str(run), "--out", str(tmp_path / "slim")])
    clip = packed.recording(4)
    feature = load_encoder(run, device="cpu")([clip])
    encoder = load_encoder(tmp_path / "slim", device="cpu")
    assert encoder.layout.skeleton == SKELETONS["coco"] and torch.equal(encoder([clip]), feature)
    with pytest.raises(ValueError, match=r"clips are \(T, 1, 17, 2\), frames of coco .*; these are \(9, 2, 25, 3\)"):
        encoder([np.zeros((9, 2, 25, 3))])
    export.main(["--pretrained", str(run), "--format", "torch", "--out", str(tmp_path / "out")])
    (found,) = torch.export.load(tmp_path / "out" / "encoder.pt2").module()(torch.tensor(clip[None]))
    torch.testing.assert_close(found, feature, atol=1e-5, rtol=0)
    capsys.readouterr()
    predict.main(["--pretrained", str(run), "--device", "cpu", "--json", str(packed.path)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["recording"] for line in lines] == packed.names.tolist()
    assert {action["name"] for action in lines[0]["actions"]} == {"wave", "nod", "bow"}
    (tmp_path / "a.skeleton").write_bytes(skeleton_text(moving_body(np.random.default_rng(0), 20)))
    message = "a.skeleton: holds kinect_v2 in 3 coordinates, the encoder takes coco in 2"
    with pytest.raises(UserError, match=message):
        predict.main(["--pretrained", str(run), "--device", "cpu", str(tmp_path / "a.skeleton")])


@pytest.mark.parametrize("start", ["pretrained", "scratch"])
def test_another_skeleton_is_fine_tuned(start, tmp_path):
    own_dataset(tmp_path / "mine", "openpose", 1, 2)
    run, more = tmp_path / "mine_fold1", ["--from-scratch"] * (start == "scratch")
    train(run, tmp_path, "--epochs", 1)
    flags = ["--pretrained", str(run), "--data-root", str(tmp_path), "--device", "cpu", "--finetune", *more]
    action_recognition.main([*flags, "--epochs", "8", "--schedule", "7", "--batch-size", "4", "--lr", "0.05"])
    result = json.loads((run / f"finetune{'_scratch' * len(more)}.json").read_text())
    assert (result["dataset"], result["protocol"], result["val"]) == ("mine", "fold1", 12)
    assert 0 <= result["last"]["top1"]["mean"] <= result["best"]["top1"]["mean"] <= 100


def test_a_run_of_another_skeleton_resumes(tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2)
    train(tmp_path / "mine_fold1_a", tmp_path)
    train(tmp_path / "mine_fold1_b", tmp_path, "--epochs", 1)
    train(tmp_path / "mine_fold1_b", tmp_path)
    whole, resumed = (loading.load(tmp_path / f"mine_fold1_{x}" / "checkpoint_0001.pth.tar") for x in "ab")
    torch.testing.assert_close(whole["state_dict"], resumed["state_dict"], rtol=0, atol=0)


def test_a_checkpoint_refuses_other_bodies_by_name(tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2)
    tiny_dataset(tmp_path, num_frame=(5, 9))
    run = tmp_path / "mine_fold1"
    train(run, tmp_path, "--epochs", 1)
    coco, kinect = r"coco \(17 joints, 1 person, 2 coordinates\)", r"kinect_v2 \(25 joints, 2 people, 3 coordinates\)"
    with pytest.raises(UserError, match=f"checkpoint_0000.pth.tar was trained on {coco}; .*demo holds {kinect}"):
        evaluate(run, tmp_path, "--finetune-dataset", "demo", "--protocol", "xsub")
    published = str(GOLDEN / "official_h8.pth.tar")
    with pytest.raises(UserError, match=f"official_h8.pth.tar was trained on {kinect}; .*mine holds {coco}"):
        extract.main(["--pretrained", published, "--data", str(tmp_path / "mine"), "--out", str(tmp_path / "f.npz")])
    # The same run, after its data set was made anew of other joints.
    own_dataset(tmp_path / "mine", "openpose", 1, 2)
    with pytest.raises(UserError, match=rf"trained on {coco}; the data set now holds openpose \(18 joints"):
        train(run, tmp_path)


def test_a_skeleton_defined_in_another_way_is_another_one(tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    train(tmp_path / "mine_fold1", tmp_path, "--epochs", 1)
    info = json.loads((packed.path / "dataset.json").read_text())
    info["skeleton"]["parents"][5] = 6
    (packed.path / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="holds coco .*, defined in another way"):
        evaluate(tmp_path / "mine_fold1", tmp_path)


@pytest.mark.parametrize(
    "body, message",
    [
        ("coco", "its 'body': not an object with skeleton, people and coordinates"),
        ({"skeleton": SKELETONS["coco"].to_json(), "people": 100, "coordinates": 3}, "it takes 150 values a frame"),
        ({"skeleton": SKELETONS["coco"].to_json(), "people": -1, "coordinates": 3}, "-1 people of 3 coordinates"),
    ],
)
def test_a_checkpoint_that_tells_of_wrong_bodies_is_refused(body, message, tmp_path):
    state = loading.load(GOLDEN / "official_h8.pth.tar") | {"body": body}
    with pytest.raises(checkpoint_files.CheckpointError, match=message):
        loading.load_backbone(state, tmp_path / "c.pth.tar")


def test_unknown_names_are_answered_with_the_known_ones(tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2)
    for flags, message in (
        (["--pre-dataset", "yours"], "unknown data set 'yours'; known, with those in .*: .*mine"),
        (["--pre-dataset", "mine", "--protocol", "xsub"], "mine has no protocol 'xsub'; it has .*fold2"),
        ([], r"'run' does not begin with a known protocol \(did you mean one of .* more\?\): name"),
    ):
        with pytest.raises(UserError, match=message):
            train(tmp_path / "run", tmp_path, *flags)
    with pytest.raises(UserError, match=r"'mine_fold12' does not .* \(did you mean one of mine_fold1, mine_fold2, "):
        train(tmp_path / "mine_fold12", tmp_path)


def test_all_recordings_can_be_trained_on_without_labels_or_a_protocol(tmp_path):
    own_dataset(tmp_path / "bare", "coco", 1, 2, [], name="bare")
    train(tmp_path / "bare_all", tmp_path)
    state = loading.load(checkpoint_files.newest(tmp_path / "bare_all"))
    assert (state["protocol"], state["recordings"]) == ("all", 24)
    with pytest.raises(UserError, match="fewer than two recordings on the val side of all: name another"):
        action_retrieval.main(["--pretrained", str(tmp_path / "bare_all"), "--data-root", str(tmp_path)])


def test_several_data_sets_are_trained_on_together(tmp_path):
    for name in ("mine", "yours"):
        own_dataset(tmp_path / name, "coco", 1, 2, name=name)
    own_dataset(tmp_path / "other", "smpl", 1, 3, name="other")
    train(tmp_path / "both", tmp_path, "--pre-dataset", "mine", "yours")
    state = loading.load(checkpoint_files.newest(tmp_path / "both"))
    assert (state["dataset"], state["protocol"], state["recordings"]) == ("mine+yours", "all", 48)
    train(tmp_path / "folds", tmp_path, "--pre-dataset", "mine", "yours", "--protocol", "fold1")
    assert loading.load(checkpoint_files.newest(tmp_path / "folds"))["recordings"] == 24
    flags = ["--pretrained", str(tmp_path / "both"), "--data-root", str(tmp_path), "--device", "cpu"]
    with pytest.raises(UserError, match="pre-trained on mine and yours: say by --finetune-dataset"):
        action_retrieval.main(flags)
    action_retrieval.main([*flags, "--finetune-dataset", "yours", "--protocol", "fold2"])
    for more, message in (
        (["mine", "other"], r"people of different kinds: coco .*, smpl"),
        (["mine", "yours", "--knn-every", "1", "--protocol", "fold1"], "--knn-every takes one data set"),
        (["mine", "--protocol", "all", "--knn-every", "1"], "fewer than two recordings on the val side of all"),
    ):
        with pytest.raises(UserError, match=message):
            train(tmp_path / "run", tmp_path, "--pre-dataset", *more)


def test_a_data_set_of_ones_own_has_a_recipe_and_its_place_may_be_the_root(tmp_path):
    own_dataset(tmp_path / "anywhere", "coco", 1, 2)
    place = str(tmp_path / "anywhere")
    args = program.parse_args(["--checkpoint-path", str(tmp_path / "mine_fold1"), "--data-root", place])
    [(dataset, protocol)] = program.complete_args(args)
    assert (dataset.name, protocol.name, args.epochs, args.batch_size) == ("mine", "fold1", 40, 128)
    assert (args.schedule, args.hidden_size) == (list(recipes.OWN.schedule), recipes.OWN.hidden_size)
    train(tmp_path / "run", place, "--pre-dataset", "mine", "--protocol", "fold2", "--epochs", 1)
    assert loading.load(tmp_path / "run" / "checkpoint_0000.pth.tar")["protocol"] == "fold2"


def test_a_protocol_added_to_a_published_data_set_is_used_with_its_recipe(tmp_path):
    packed = tiny_dataset(tmp_path, num_frame=(5, 9))
    add_protocols(packed.path, [parse_split("few=subject:1,6")])
    args = program.parse_args(["--checkpoint-path", str(tmp_path / "demo_few"), "--data-root", str(tmp_path)])
    [(dataset, protocol)] = program.complete_args(args)
    assert (dataset.name, protocol.name, args.batch_size) == ("demo", "few", 64)
    train(tmp_path / "demo_few", tmp_path, "--epochs", 1)
    assert evaluate(tmp_path / "demo_few", tmp_path)[1]["protocol"] == "few"
    assert PackedDataset(packed.path).protocols == ["xsub", "xview", "few"]


def test_the_documents_examples_work(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "data.md").read_text()
    (tmp_path / "hand.json").write_text(text.partition("```json")[2].partition("```")[0])
    assert load_skeleton(str(tmp_path / "hand.json")).joints == ("wrist", "thumb", "index")
    example = text.partition("```python")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names, subjects = [f"clip_{i:02d}" for i in range(20)], [str(i % 5) for i in range(20)]
    recordings = [(name, i % 3, rng.normal(size=(30, 3, 17, 2))) for i, name in enumerate(names)]
    exec(example, {"names": names, "subjects": subjects, "recordings": recordings})
    packed = PackedDataset(tmp_path / "data" / "mine")
    assert packed.shape == (1, 17, 2) and packed.protocols == [f"fold{k}" for k in range(1, 6)]
    assert packed.recording(7).any() and packed.table("subject") == subjects
