import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch
from tools.utils.errors import UserError

import action_recognition
from data_gen.class_names import class_names
from data_gen.datasets import ROOT
from models import CheckpointError
from tools import extract, predict, search
from tools.evaluation import knn
from tools.inference import watch

COMMON = ["--device", "cpu"]


@pytest.fixture
def evaluated(published, demo_root):
    """The published checkpoint with classifiers of two modalities beside it."""
    flags = ["--data-root", str(demo_root), "--epochs", "7", "--modality", "all", "joint+bone"]
    action_recognition.main(["--pretrained", str(published), *COMMON, *flags])
    return published


def answers(program, capsys, *args):
    """What a program prints as JSON: a dict of each recording's rows."""
    capsys.readouterr()
    program.main([*COMMON, "--json", *map(str, args)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    key = {predict: "actions", search: "neighbours"}[program]
    assert all(line.keys() == {"recording", key} for line in lines)
    return {line["recording"]: line[key] for line in lines}


def features_of(published, tmp_path, *data, modality="all"):
    out = tmp_path / "features.npz"
    flags = ["--pretrained", str(published), *COMMON, "--modality", modality, "--out", str(out)]
    extract.main([*flags, "--data", *map(str, data)])
    with np.load(out) as file:
        return dict(file)


@pytest.mark.parametrize("modality", ["all", "joint+bone"])
def test_predictions_of_single_files_are_those_of_the_data_set(evaluated, demo_root, tmp_path, modality, capsys):
    name = "action_recognition" + ("" if modality == "all" else f"_{modality}") + ".pth.tar"
    saved = torch.load(evaluated / name, weights_only=True)
    found = features_of(evaluated, tmp_path, demo_root / "demo", modality=modality)
    score = found["feature"] @ saved["weight"].numpy().T + saved["bias"].numpy()
    expected = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    more = [] if modality == "all" else ["--classifier", evaluated / name]
    for path in sorted((demo_root / "raw").glob("*.skeleton"))[::5]:
        (rows,) = answers(predict, capsys, "--pretrained", evaluated, *more, path).values()
        row = expected[found["name"].tolist().index(path.stem)]
        assert [r["action"] for r in rows] == [f"A{label + 1:03d}" for label in (-row).argsort()[:5]]
        np.testing.assert_allclose([r["probability"] for r in rows], np.sort(row)[::-1][:5], atol=1e-5)
    together = answers(predict, capsys, "--pretrained", evaluated, *more, demo_root / "demo")
    assert list(together) == found["name"].tolist()
    np.testing.assert_allclose(together[path.stem][0]["probability"], row.max(), atol=1e-5)


def test_predictions_as_a_table(evaluated, demo_root, capsys):
    path = min((demo_root / "raw").glob("*.skeleton"))
    (rows,) = answers(predict, capsys, "--pretrained", evaluated, path).values()
    predict.main(["--pretrained", str(evaluated), *COMMON, str(path)])
    lines = capsys.readouterr().out.strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    assert lines[0] == path.stem and cells[0] == ["", "probability", "action", "name"]
    expected = [[str(i), f"{r['probability']:.4f}", r["action"], r["name"]] for i, r in enumerate(rows, 1)]
    assert cells[2:] == expected
    assert all(row[3] == class_names("demo")[int(row[2][1:]) - 1] for row in cells[2:])


def centred(features, width=16):
    """Features minus their mean; of several streams side by side, each then of length 1."""
    rest = features - features.mean(0)
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(rest, rest.shape[1] // width, 1)]
    return torch.from_numpy(np.concatenate(parts, 1) if len(parts) > 1 else rest)


@pytest.mark.parametrize("modality", ["bone", "ensemble"])
def test_a_search_gives_the_neighbours_in_the_whole_set(modality, published, demo_root, tmp_path, capsys):
    found = features_of(published, tmp_path, demo_root / "demo", modality=modality)
    assert found["feature"].shape == (24, 16 if modality == "bone" else 64) and found["modality"] == modality
    feature = centred(found["feature"])
    expected = found["name"][knn.nearest(feature, feature, 7)].tolist()
    unit = feature / feature.norm(dim=1, keepdim=True)
    cosine = (unit @ unit.T).sort(1, descending=True).values[:, :7]
    flags = ["--pretrained", published, "-k", 7]
    chosen = ["--modality", modality] if modality == "bone" else []
    for more in (["--gallery", demo_root / "demo", *chosen], ["--gallery", tmp_path / "features.npz"]):
        rows = answers(search, capsys, *flags, *more, demo_root / "demo")
        assert list(rows) == found["name"].tolist()
        assert [[n["recording"] for n in row] for row in rows.values()] == expected
        assert {n["name"] for row in rows.values() for n in row} == set(class_names("demo")[:3])
        np.testing.assert_allclose([[n["cosine"] for n in row] for row in rows.values()], cosine, atol=1e-5)
    first = min((demo_root / "raw").glob("*.skeleton"))
    rows = answers(search, capsys, "--pretrained", published, "--gallery", demo_root / "raw", first)[first.stem]
    assert len(rows) == 5 and rows[0] == {
        "cosine": pytest.approx(1),
        "recording": first.stem,
        "action": "A001",
        "name": None,
    }
    assert len(answers(search, capsys, *flags, "--gallery", demo_root / "raw", "-k", 99, first)[first.stem]) == 24
    flags += ["--gallery", tmp_path / "features.npz", "--leave-out-self"]
    others = answers(search, capsys, *flags, "-k", 4, first)[first.stem]
    assert [n["recording"] for n in others] == [n for n in expected[0] if n != first.stem][:4]


def test_features_without_names_of_classes_are_a_gallery(published, demo_root, tmp_path, capsys):
    first = min((demo_root / "raw").glob("*.skeleton"))
    stored = features_of(published, tmp_path, demo_root / "raw")  # raw recordings tell no names
    assert stored["classes"].dtype.kind == "U" and not len(stored["classes"])
    flags = ["--pretrained", published, "--gallery", tmp_path / "features.npz", "-k", 1]
    assert answers(search, capsys, *flags, first)[first.stem][0]["recording"] == first.stem


def test_names_of_classes_are_as_many_as_there_are(evaluated, demo_root, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match="--class-names: 2 names for 12 classes"):
        predict.main(["--pretrained", str(evaluated), *COMMON, "--class-names", str(tmp_path / "names.txt"), "x"])


def test_of_a_gallery_of_one_recording_the_features_are_taken_as_they_are(published, demo_root, tmp_path, capsys):
    first, second = sorted((demo_root / "raw").glob("*.skeleton"))[:2]
    features = features_of(published, tmp_path, first, second)["feature"]
    cosine = features[0] @ features[1] / np.prod(np.linalg.norm(features, axis=1))
    flags = ["--pretrained", published, "--gallery", first, "--modality", "all"]
    (row,) = answers(search, capsys, *flags, second)[second.stem]
    assert row["recording"] == first.stem and row["cosine"] == pytest.approx(cosine, abs=1e-6)
    assert answers(search, capsys, *flags, "--leave-out-self", first)[first.stem] == []


def test_a_gallery_of_another_encoder_or_modality_is_refused(published, demo_root, tmp_path):
    features_of(published, tmp_path, demo_root / "demo", modality="bone")
    flags = [
        "--pretrained",
        str(published),
        *COMMON,
        "--gallery",
        str(tmp_path / "features.npz"),
        str(demo_root / "raw"),
    ]
    with pytest.raises(UserError, match="are of modality bone, not joint"):
        search.main([*flags, "--modality", "joint"])
    change(published, lambda w: w["module.backbone.mm_fusion.t_fusion.0.weight"].mul_(2))
    with pytest.raises(UserError, match="features.npz: these features are of another encoder than .*checkpoint_0450"):
        search.main(flags)
    (tmp_path / "features.npz").write_bytes(b"hello")
    with pytest.raises(UserError, match="features.npz: not features that tools.extract wrote"):
        search.main(flags)


def change(folder, how):
    path = folder / "checkpoint_0450.pth.tar"
    state = torch.load(path, weights_only=True)
    how(state["state_dict"])
    torch.save(state, path)


def test_a_classifier_that_does_not_fit_is_refused(evaluated, demo_root, tmp_path):
    flags = ["--pretrained", str(evaluated), *COMMON, str(demo_root / "raw")]
    path = evaluated / "action_recognition.pth.tar"
    good = torch.load(path, weights_only=True)
    for changed, message in (
        ({"weight": torch.zeros(12, 32)}, r"for features of 32 values \(hidden size 16\), .*0450.pth.tar makes 16"),
        ({"modality": "joint+depth"}, "pth.tar: modality joint\\+depth: 'depth' is no modality"),
        ({"bias": torch.zeros(5)}, "is not a classifier that action_recognition.py wrote"),
        ({"classes": ["a", "b"]}, "is not a classifier that action_recognition.py wrote"),
        ({"encoder": None}, "is not a classifier that action_recognition.py wrote"),
    ):
        torch.save(good | changed, path)
        with pytest.raises(UserError, match=message):
            predict.main(flags)
    with pytest.raises(UserError, match="checkpoint_0450.pth.tar is not a classifier"):
        predict.main([*flags, "--classifier", str(evaluated / "checkpoint_0450.pth.tar")])
    torch.save(good, path)
    change(evaluated, lambda w: w["module.backbone.mm_fusion.t_fusion.0.weight"].mul_(2))
    with pytest.raises(UserError, match="whose weights are not those of .*checkpoint_0450.pth.tar"):
        predict.main(flags)
    path.unlink()
    with pytest.raises(UserError, match="no classifier at .*action_recognition.pth.tar: train one by"):
        predict.main(flags)
    with pytest.raises(CheckpointError, match="holds no encoder|no state_dict"):
        predict.main([*COMMON, "--pretrained", str(evaluated / "action_recognition_joint+bone.pth.tar"), "x.skeleton"])


def test_an_encoder_without_a_classifiers_modality_refuses_it(evaluated, demo_root):
    path = evaluated / "checkpoint_0450.pth.tar"
    torch.save(torch.load(path, weights_only=True) | {"args": {"pretrain_modalities": ["joint"]}}, path)
    flags = ["--pretrained", str(evaluated), *COMMON, str(demo_root / "raw")]
    with pytest.raises(UserError, match="joint\\+bone: this encoder was pre-trained without bone"):
        predict.main([*flags, "--classifier", str(evaluated / "action_recognition_joint+bone.pth.tar")])


def test_the_others_are_answered_before_a_broken_one_is_an_error(evaluated, demo_root, tmp_path, capsys):
    (tmp_path / "broken.skeleton").write_bytes(b"1\n")
    good = min((demo_root / "raw").glob("*.skeleton"))
    with pytest.raises(UserError, match="cannot read .*broken.skeleton: "):
        predict.main(["--pretrained", str(evaluated), *COMMON, str(tmp_path / "broken.skeleton"), str(good)])
    assert good.stem in capsys.readouterr().out
    with pytest.raises(UserError, match="Name some, or a folder by --watch"):
        predict.main(["--pretrained", str(evaluated), *COMMON])


def test_a_file_counts_once_it_has_stopped_changing_and_again_when_it_is_rewritten(tmp_path, monkeypatch):
    old, new = tmp_path / "old.skeleton", tmp_path / "deep" / "new.skeleton"
    new.parent.mkdir()
    old.write_text("1")

    looks = [
        lambda: (new.write_text("1"), (tmp_path / "other.txt").touch(), (tmp_path / ".b.skeleton").touch()),
        lambda: new.write_text("12"),  # still growing
        lambda: None,
        lambda: old.write_text("123"),
        lambda: None,
        lambda: new.unlink(),
        lambda: new.write_text("12"),
        lambda: None,
    ]
    done = []

    def sleep(seconds):
        if len(done) == len(looks):
            raise KeyboardInterrupt
        looks[len(done)]()
        done.append(seconds)

    monkeypatch.setattr(watch.time, "sleep", sleep)
    found = []
    with pytest.raises(KeyboardInterrupt):
        found += ((len(done), path.name) for path in watch.appearing(tmp_path))
    assert found == [(3, "new.skeleton"), (5, "old.skeleton"), (8, "new.skeleton")]
    with pytest.raises(UserError, match="there is no such folder"):
        watch.appearing(tmp_path / "nowhere")


def _heed_ctrl_c():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it


def test_watching_survives_a_broken_recording_and_ends_by_ctrl_c(evaluated, demo_root, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    paths = sorted((demo_root / "raw").glob("*.skeleton"))[:3]
    (folder / paths[0].name).write_bytes(paths[0].read_bytes())  # there at the start
    command = [sys.executable, "-m", "tools.predict", "--pretrained", evaluated, "--watch", folder, "--json", *COMMON]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*map(str, command), str(paths[2])], cwd=ROOT, env=env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_heed_ctrl_c)  # fmt: skip
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        lines = iter(process.stdout.readline, "")
        assert json.loads(next(lines))["recording"] == paths[2].stem  # the one that is named comes first
        assert process.stderr.readline().endswith("action_recognition.pth.tar: the 12 classes of demo xsub\n")
        (folder / "broken.skeleton").write_bytes(b"1\n")
        assert "broken.skeleton" in process.stderr.readline()
        (folder / "new.skeleton").write_bytes(paths[1].read_bytes())
        assert [json.loads(line)["recording"] for line in islice(lines, 1)] == ["new"]
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (process.returncode, out, err) == (130, "", "interrupted\n")
    finally:
        timer.cancel()
        process.kill()
