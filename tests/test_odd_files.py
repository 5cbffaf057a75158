"""Files that a user names by mistake, has edited or got from somebody else: programs refuse them in a line."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from tools.utils.result_files import read_result

from data_gen.packed.writer import packing
from models import checkpoint_files
from tests.helpers import own_dataset
from tests.programs import assert_refused, call

CPU = ("--device", "cpu")


@pytest.fixture
def recording(demo_root):
    return min((demo_root / "raw").glob("*.skeleton"))


ARRAYS = {
    "float64": lambda f: {"feature": f["feature"].astype(float)},
    "big endian": lambda f: {"feature": f["feature"].astype(">f4")},
    "huge": lambda f: {"feature": f["feature"] * 0 + np.float32(3e38)},
    "nan": lambda f: {"feature": f["feature"] * np.nan},
    "one axis": lambda f: {"feature": f["feature"][0]},
    "empty": lambda f: {key: f[key][:0] for key in ("feature", "name", "label")},
    "few labels": lambda f: {"label": f["label"][:3]},
    "labels in two axes": lambda f: {"label": f["label"][:, None]},
    "text labels": lambda f: {"label": f["label"].astype(str)},
    "scalar name": lambda f: {"name": np.array("a")},
    "scalar classes": lambda f: {"classes": np.array("a")},
    "control characters": lambda f: {"name": np.array(["\x1b[31m"] * len(f["name"]))},
    "odd modality": lambda f: {"modality": np.array("joint+x")},
    "no encoder": lambda f: {"encoder": np.zeros(3)},
}


@pytest.mark.parametrize("change", ARRAYS.values(), ids=ARRAYS)
def test_an_edited_gallery_is_refused(run, recording, tmp_path, change):
    features = dict(np.load(run.parent / "f.npz"))
    np.savez(tmp_path / "g.npz", **features | change(features))
    assert_refused(call("tools.search", "--pretrained", run, *CPU, "--gallery", tmp_path / "g.npz", recording))


def test_a_gallery_that_claims_more_features_than_fit_into_memory_is_refused(run, recording, tmp_path):
    features, header = dict(np.load(run.parent / "f.npz")), io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 16)}
    np.lib.format.write_array_header_1_0(header, described)
    del features["feature"]
    np.savez(tmp_path / "g.npz", **features)
    with zipfile.ZipFile(tmp_path / "g.npz", "a") as archive:
        archive.writestr("feature.npy", header.getvalue())
    ended = call("tools.search", "--pretrained", run, *CPU, "--gallery", tmp_path / "g.npz", recording)
    assert_refused(ended, "not features that tools.extract wrote")


def test_a_gallery_that_is_a_pipe_is_refused(run, recording, tmp_path):
    os.mkfifo(tmp_path / "g.npz")
    assert_refused(call("tools.search", "--pretrained", run, *CPU, "--gallery", tmp_path / "g.npz", recording))


def test_a_folder_whose_name_is_not_utf8_is_no_run(demo_root, tmp_path):
    flags = ("--data-root", demo_root, *CPU, "--hidden-size", 8, "--epochs", 1, "--schedule")
    assert_refused(call("pretrain", "--checkpoint-path", tmp_path / "demo_\udce9", *flags), "not UTF-8")


def test_features_of_a_data_set_do_not_serve_for_its_successor(run, demo_root, tmp_path):
    flags = ("--pretrained", run, *CPU, "--gallery", run.parent / "f.npz", "--json")
    assert call("tools.search", *flags, demo_root / "demo").status == 0
    shutil.copytree(demo_root / "demo", tmp_path / "demo")
    joints = np.load(tmp_path / "demo" / "joints.npy", mmap_mode="r+")
    joints[:] += 1
    joints.flush()
    assert_refused(call("tools.search", *flags, tmp_path / "demo"), "features are of other recordings of demo")
    own_dataset(tmp_path / "mine", "kinect_v2", 2, 3)
    assert call("tools.search", *flags, tmp_path / "mine").status == 0  # of another name


def test_weights_that_are_too_large_are_told(run, demo_root, recording, tmp_path):
    folder = shutil.copytree(run, tmp_path / "demo")
    state = torch.load(path := checkpoint_files.newest(folder))
    for key, weight in state["state_dict"].items():
        if "backbone" in key and weight.is_floating_point():
            weight *= 1e25
    torch.save(state, path)
    flags, data = ("--pretrained", folder, *CPU), ("--data-root", demo_root)
    for command in (
        ("action_retrieval", *flags, *data),
        ("action_recognition", *flags, *data),
        ("tools.search", *flags, "--gallery", demo_root / "demo", recording),
        ("tools.extract", *flags, "--data", recording, "--out", tmp_path / "g.npz"),
        ("tools.figures", "tsne", folder, *data, "--out", tmp_path / "a.png"),
    ):
        assert_refused(call(*command), "too large")


@pytest.mark.parametrize("program", [("tools.predict",), ("tools.search", "--gallery", "F"), ("tools.timeline",)])
def test_names_of_files_with_control_characters_are_refused(run, recording, tmp_path, program):
    shutil.copy(recording, tmp_path / "a\x1b[31mb.skeleton")
    flags = [run.parent / "f.npz" if flag == "F" else flag for flag in program[1:]]
    ended = call(program[0], "--pretrained", run, *CPU, *flags, tmp_path)
    assert_refused(ended, "control characters")
    assert "\x1b" not in ended.out + ended.err


def test_a_damaged_data_set_is_called_so(run, demo_root, tmp_path):
    shutil.copytree(demo_root / "demo", tmp_path / "mine")
    (tmp_path / "mine" / "dataset.json").write_text('{"format": 1}')
    data = ("--data-root", tmp_path, "--finetune-dataset", "mine", *CPU)
    assert_refused(call("action_retrieval", "--pretrained", run, *data), "it names no data set")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(weight=s["weight"].to_sparse()),
        lambda s: s.update(weight=s["weight"].to("meta")),
        lambda s: s.update(weight=s["weight"].to(torch.float8_e4m3fn)),
        lambda s: s.update(weight=s["weight"][:0], bias=s["bias"][:0], classes=[]),
        lambda s: s.update(bias=s["bias"] * float("nan")),
        lambda s: s.update(weight=s["weight"] * 0 + 3e38),
        lambda s: s.update(classes=["\x1b[31m"] * len(s["classes"])),
        lambda s: s.update(modality=["joint"]),
    ],
)
def test_an_edited_classifier_is_refused(run, recording, tmp_path, change):
    state = torch.load(run / "action_recognition.pth.tar")
    change(state)
    torch.save(state, tmp_path / "c.pth.tar")
    flags = ("--pretrained", run, *CPU, "--classifier", tmp_path / "c.pth.tar", recording)
    assert_refused(call("tools.predict", *flags), "is not a classifier")


RESULTS = {
    "few fields": '{"task": "action_recognition", "modality": "all"}',
    "other kinds": '{"task": 3, "modality": [1]}',
    "deep": "[" * 100_000,
    "other scores": '{"task": "finetune", "modality": "all", "dataset": "x", "protocol": "y", "fractions": 4}',
    "nan": '{"task": "action_retrieval", "modality": "all", "dataset": "x", "protocol": "y", "epoch": 1, "k": 1, '
    '"top1": NaN, "map": NaN}',
    "escape": '{"task": "action_retrieval", "modality": "all", "dataset": "\\u001b[31m", "protocol": "y", "epoch": 1, '
    '"k": 1, "top1": 1, "map": 1}',
    "half of a character": '{"task": "action_retrieval", "modality": "all", "dataset": "\\ud800", "protocol": "y", '
    '"epoch": 1, "k": 1, "top1": 1, "map": 1}',
    "cut": '{"task": "action_',
    "not text": b"\xff\xfe",
}


@pytest.mark.parametrize("text", RESULTS.values(), ids=RESULTS)
def test_edited_scores_are_refused_and_weights_are_slimmed_all_the_same(run, tmp_path, text):
    folder = tmp_path / "demo"
    folder.mkdir()
    shutil.copy(checkpoint_files.newest(run), folder)
    for name in ("action_recognition", "earliness"):
        (folder / f"{name}.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(call("tools.results", folder), "is damaged")
    for plot in ("curves", "earliness"):
        assert_refused(call("tools.figures", plot, folder, "--out", tmp_path / "a.png"), "is damaged")
    assert call("tools.slim", "--pretrained", folder, "--out", tmp_path).status == 0


@pytest.mark.parametrize(
    "command",
    [
        ("tools.extract", "--pretrained", "RUN", *CPU, "--data", "DEMO", "--out"),
        ("tools.figures", "curves", "RUN", "--out"),
        ("tools.results", "RUN", "--csv"),
        ("tools.efficiency", "--json"),
        ("data_gen.export_dataset", "npz", "--data", "DEMO", "--out"),
    ],
)
def test_a_folder_a_pipe_and_a_link_are_no_files_to_write_to(run, demo_root, tmp_path, command):
    """Devices such as /dev/null are none either; no test tries them, as one that failed would replace them."""
    places = {"RUN": run, "DEMO": demo_root / "demo"}
    pipe, link = tmp_path / "pipe.png", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to("nowhere")
    for out in (tmp_path, ".", pipe, link):
        assert_refused(call(*(places.get(arg, arg) for arg in command), out))
    assert pipe.is_fifo() and link.is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_slim_weights_do_not_overwrite_scores(run, tmp_path):
    folder = tmp_path / "demo"
    shutil.copytree(run, folder)
    scores = (folder / "action_recognition.json").read_text()
    slim = call("tools.slim", "--pretrained", folder, "--out", folder / "action_recognition.safetensors")
    assert_refused(slim, "is no card")
    assert (folder / "action_recognition.json").read_text() == scores


@pytest.mark.parametrize("content", ["caf\xe9\n".encode("latin1"), b"\x1b[31mred\n", None])
def test_names_of_classes_are_text_of_a_line_each(run, demo_root, tmp_path, content):
    names = tmp_path / "names.txt"
    if content:
        names.write_bytes(content)
    flags = ("--data-root", demo_root, *CPU, "--class-names", names, "--out", tmp_path / "a.png")
    assert_refused(call("tools.figures", "confusion", run, *flags), "names.txt")


@pytest.mark.parametrize("place", ["/dev/zero", "folder"])
def test_a_list_of_missing_recordings_is_a_file(demo_root, tmp_path, place):
    (tmp_path / "folder").mkdir()
    flags = ("--dataset", "demo", "--raw", demo_root / "raw", "--out", tmp_path / "out", "--missing", tmp_path / place)
    assert_refused(call("data_gen.ntu_gendata", *flags), "not a regular file")
    assert not (tmp_path / "out").exists()


def test_names_that_look_like_formulas_are_drawn_as_they_are(run, demo_root, tmp_path):
    (tmp_path / "names.txt").write_text("$x^{$\na_b%\\foo&{\n" * 6)
    flags = ("--data-root", demo_root, *CPU, "--class-names", tmp_path / "names.txt", "--out", tmp_path / "a.png")
    for plot in (("tsne", run), ("confusion", run), ("retrieval", run, "--query", "S001C001P003R001A001")):
        ended = call("tools.figures", *plot, *flags)
        assert ended.status == 0, ended


def test_empty_recordings_make_no_map(run, tmp_path):
    with packing(tmp_path / "zeros") as writer:
        for i in range(12):
            writer.add(f"r{i:02d}", i % 2, np.zeros((5, 2, 25, 3), np.float32))
        splits = {"half": {"train": list(range(6)), "val": list(range(6, 12))}}
        writer.finish(splits, {"dataset": "zeros", "title": "zeros", "classes": 2} | writer.counts(splits))
    data = ("--data-root", tmp_path, "--finetune-dataset", "zeros", "--protocol", "half", *CPU)
    assert_refused(call("tools.figures", "tsne", run, *data, "--out", tmp_path / "a.png"), "differ and are not zero")


def test_retrieval_where_no_class_is_on_both_sides_has_no_precision(run, tmp_path):
    rng = np.random.default_rng(0)
    with packing(tmp_path / "apart") as writer:
        for i in range(12):
            writer.add(f"r{i:02d}", i // 6, rng.normal(size=(5, 2, 25, 3)).astype(np.float32))
        splits = {"half": {"train": list(range(6)), "val": list(range(6, 12))}}
        writer.finish(splits, {"dataset": "apart", "title": "apart", "classes": 2} | writer.counts(splits))
    folder = tmp_path / "demo"
    folder.mkdir()
    shutil.copy(checkpoint_files.newest(run), folder)
    data = ("--data-root", tmp_path, "--finetune-dataset", "apart", "--protocol", "half", *CPU)
    assert call("action_retrieval", "--pretrained", folder, *data).status == 0
    assert read_result(folder / "action_retrieval_on_apart_half.json")["map"] is None
    assert "| -" in call("tools.results", folder).out


@pytest.mark.parametrize(
    "flags",
    [("--seed", 2**70), ("--lr", "1e300"), ("--epochs", 10**30), ("--batch-size", 10**30)],
)
def test_numbers_beyond_what_can_be_computed_with_are_refused(run, demo_root, tmp_path, flags):
    folder = tmp_path / "demo"
    folder.mkdir()
    shutil.copy(checkpoint_files.newest(run), folder)
    short = () if "--epochs" in flags else ("--epochs", 20, "--schedule")
    ended = call("action_recognition", "--pretrained", folder, "--data-root", demo_root, *CPU, *short, *flags)
    assert_refused(ended)
    assert not list(folder.glob("*.json"))
    new = ("--checkpoint-path", tmp_path / "new" / "demo", "--data-root", demo_root, *CPU, "--hidden-size", 8)
    assert_refused(call("pretrain", *new, *flags))
    assert not list(tmp_path.glob("new/demo/*.tar"))
