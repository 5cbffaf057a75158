"""Data sets and protocols of one's own, through the programs."""

import json

import numpy as np
import pytest
import torch

import action_recognition
import action_retrieval
import pretrain as program
from data_gen.add_protocol import add_protocols
from data_gen.datasets import ROOT
from data_gen.packed.protocols import parse_split
from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import SKELETONS, load_skeleton
from models import load_encoder
from models.checkpoints import load, newest
from tests.helpers import GOLDEN, moving_body, own_dataset, skeleton_text, tiny_dataset
from tools import extract, predict
from tools.training.recipes import OWN
from utils.errors import UserError
from utils.files import read_results

SMALL = ["--hidden-size", "8", "--batch-size", "6", "--epochs", "2", "--save-freq", "1", "--device", "cpu"]


def train(folder, root, *flags):
    program.main(["--checkpoint-path", str(folder), "--data-root", str(root), *SMALL, *map(str, flags)])


def evaluate(folder, root, *flags):
    both = ["--pretrained", str(folder), "--data-root", str(root), "--device", "cpu", *map(str, flags)]
    action_recognition.main([*both, "--epochs", "5"])
    action_retrieval.main(both)
    return read_results(folder)[-2:]


@pytest.mark.parametrize("skeleton, people, coordinates", [("coco", 1, 2), ("kinect_v1", 2, 3)])
def test_another_skeleton_is_trained_on_and_evaluated(skeleton, people, coordinates, tmp_path):
    packed = own_dataset(tmp_path / "mine", skeleton, people, coordinates)
    run = tmp_path / "mine_fold2_first"
    train(run, tmp_path)
    state = load(run / "checkpoint_0001.pth.tar")
    assert (state["dataset"], state["protocol"]) == ("mine", "fold2")
    layout = {"skeleton": SKELETONS[skeleton].to_json(), "people": people, "coordinates": coordinates}
    assert state["encoder"]["layout"] == layout
    probe, retrieval = evaluate(run, tmp_path)
    assert (probe["dataset"], probe["protocol"]) == ("mine", "fold2")
    # Retrieval, computed from extracted features.
    extract.main(["--pretrained", str(run), "--data", str(packed.path), "--out", str(tmp_path / "f.npz")])
    feature = np.load(tmp_path / "f.npz")["feature"]
    feature = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    train_indices, val_indices = (packed.split("fold2", split) for split in ("train", "val"))
    nearest = train_indices[(feature[val_indices] @ feature[train_indices].T).argmax(1)]
    accuracy = 100 * (packed.label[nearest] == packed.label[val_indices]).mean()
    assert retrieval["metrics"]["top1"] == pytest.approx(accuracy)
    assert evaluate(run, tmp_path, "--protocol", "fold1")[1]["protocol"] == "fold1"


def test_the_encoder_of_another_skeleton_is_used(tmp_path, capsys):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    info = json.loads((packed.path / "dataset.json").read_text()) | {"class_names": ["wave", "nod", "bow"]}
    (packed.path / "dataset.json").write_text(json.dumps(info))
    run = tmp_path / "mine_fold1"
    train(run, tmp_path, "--epochs", 1)
    evaluate(run, tmp_path)
    encoder = load_encoder(run, device="cpu")
    assert encoder.layout.skeleton == SKELETONS["coco"] and encoder([packed.recording(4)]).shape == (1, 16)
    with pytest.raises(UserError, match="9, 2, 25, 3"):
        encoder([np.zeros((9, 2, 25, 3))])
    capsys.readouterr()
    predict.main(["--pretrained", str(run), "--device", "cpu", "--json", str(packed.path)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["recording"] for line in lines] == packed.names.tolist()
    assert {action["name"] for action in lines[0]["actions"]} == {"wave", "nod", "bow"}
    (tmp_path / "a.skeleton").write_bytes(skeleton_text(moving_body(np.random.default_rng(0), 20)))
    with pytest.raises(UserError, match=r"a\.skeleton"):
        predict.main(["--pretrained", str(run), "--device", "cpu", str(tmp_path / "a.skeleton")])


def test_a_run_of_another_skeleton_resumes_and_is_fine_tuned(tmp_path):
    own_dataset(tmp_path / "mine", "openpose", 1, 2)
    train(tmp_path / "mine_fold1_a", tmp_path)
    train(tmp_path / "mine_fold1_b", tmp_path, "--epochs", 1)
    train(tmp_path / "mine_fold1_b", tmp_path)
    whole, resumed = (load(tmp_path / f"mine_fold1_{x}" / "checkpoint_0001.pth.tar") for x in "ab")
    torch.testing.assert_close(whole["state_dict"], resumed["state_dict"], rtol=0, atol=0)
    flags = ["--pretrained", str(tmp_path / "mine_fold1_a"), "--data-root", str(tmp_path), "--device", "cpu"]
    action_recognition.main([*flags, "--finetune", "--epochs", "3", "--schedule", "--batch-size", "4"])
    (result,) = read_results(tmp_path / "mine_fold1_a")
    assert (result["task"], result["dataset"], result["protocol"]) == ("finetune", "mine", "fold1")


def test_a_checkpoint_refuses_other_people_by_name(tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    tiny_dataset(tmp_path, num_frame=(5, 9))
    run = tmp_path / "mine_fold1"
    train(run, tmp_path, "--epochs", 1)
    with pytest.raises(UserError, match="demo: holds kinect_v2.*trained on coco"):
        evaluate(run, tmp_path, "--finetune-dataset", "demo", "--protocol", "xsub")
    published = str(GOLDEN / "official_h8.pth.tar")
    with pytest.raises(UserError, match="mine: holds coco.*trained on kinect_v2"):
        extract.main(["--pretrained", published, "--data", str(tmp_path / "mine"), "--out", str(tmp_path / "f.npz")])
    info = json.loads((packed.path / "dataset.json").read_text())
    info["skeleton"]["parents"][5] = 6  # a skeleton of the same name that is defined in another way
    (packed.path / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="mine: holds coco.*another way"):
        evaluate(run, tmp_path)
    own_dataset(tmp_path / "mine", "openpose", 1, 2)  # the same run, after its data set was made of other joints
    with pytest.raises(UserError, match="openpose"):
        train(run, tmp_path)


def test_unknown_names_are_answered_with_the_known_ones(tmp_path):
    own_dataset(tmp_path / "mine", "coco", 1, 2)
    for flags, names in (
        (["--pre-dataset", "yours"], "'yours'.*mine"),
        (["--pre-dataset", "mine", "--protocol", "xsub"], "'xsub'.*fold2"),
        ([], "'run'"),
    ):
        with pytest.raises(UserError, match=names):
            train(tmp_path / "run", tmp_path, *flags)
    with pytest.raises(UserError, match="'mine_fold12'.*mine_fold1, mine_fold2"):
        train(tmp_path / "mine_fold12", tmp_path)


def test_all_recordings_can_be_trained_on_without_labels_or_a_protocol(tmp_path):
    own_dataset(tmp_path / "bare", "coco", 1, 2, [], name="bare")
    train(tmp_path / "bare_all", tmp_path)
    state = load(newest(tmp_path / "bare_all"))
    assert (state["protocol"], state["recordings"]) == ("all", 24)
    with pytest.raises(UserError, match="bare"):
        action_retrieval.main(["--pretrained", str(tmp_path / "bare_all"), "--data-root", str(tmp_path)])


def test_several_data_sets_are_trained_on_together(tmp_path):
    for name in ("mine", "yours"):
        own_dataset(tmp_path / name, "coco", 1, 2, name=name)
    own_dataset(tmp_path / "other", "smpl", 1, 3, name="other")
    train(tmp_path / "both", tmp_path, "--pre-dataset", "mine", "yours")
    state = load(newest(tmp_path / "both"))
    assert (state["dataset"], state["protocol"], state["recordings"]) == ("mine+yours", "all", 48)
    train(tmp_path / "folds", tmp_path, "--pre-dataset", "mine", "yours", "--protocol", "fold1")
    assert load(newest(tmp_path / "folds"))["recordings"] == 24
    flags = ["--pretrained", str(tmp_path / "both"), "--data-root", str(tmp_path), "--device", "cpu"]
    with pytest.raises(UserError, match="--finetune-dataset"):
        action_retrieval.main(flags)
    action_retrieval.main([*flags, "--finetune-dataset", "yours", "--protocol", "fold2"])
    for more, place in (
        (["mine", "other"], "coco.*smpl"),
        (["mine", "yours", "--knn-every", "1", "--protocol", "fold1"], "--knn-every"),
        (["mine", "--protocol", "all", "--knn-every", "1"], "mine"),
    ):
        with pytest.raises(UserError, match=place):
            train(tmp_path / "run", tmp_path, "--pre-dataset", *more)


def test_a_data_set_of_ones_own_has_a_recipe_and_its_place_may_be_the_root(tmp_path):
    own_dataset(tmp_path / "anywhere", "coco", 1, 2)
    place = str(tmp_path / "anywhere")
    args = program.parse_args(["--checkpoint-path", str(tmp_path / "mine_fold1"), "--data-root", place])
    config, [(dataset, protocol)] = program.make_config(args)
    assert (dataset.name, protocol.name) == ("mine", "fold1")
    assert {name: config[name] for name in vars(OWN)} == vars(OWN)
    train(tmp_path / "run", place, "--pre-dataset", "mine", "--protocol", "fold2", "--epochs", 1)
    assert load(tmp_path / "run" / "checkpoint_0000.pth.tar")["protocol"] == "fold2"


def test_a_protocol_added_to_a_published_data_set_is_used_with_its_recipe(tmp_path):
    packed = tiny_dataset(tmp_path, num_frame=(5, 9))
    add_protocols(packed.path, [parse_split("few=subject:1,6")])
    args = program.parse_args(["--checkpoint-path", str(tmp_path / "demo_few"), "--data-root", str(tmp_path)])
    config, [(dataset, protocol)] = program.make_config(args)
    assert (dataset.name, protocol.name, config["batch_size"]) == ("demo", "few", 64)
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
