"""The recipes of CONTRIBUTING.md and docs/encoders.md, followed in a copy of the project."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen.datasets import ROOT
from tests.helpers import tiny_dataset
from utils.files import read_results

PLACE = re.compile(r"# ([\w/]+\.py)(?:, in (\w+))?\n")


def recipes() -> list[tuple[str, str | None, str]]:
    """The code blocks that name a file: the file, the class they go into, the code."""
    text = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "docs" / "encoders.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(*PLACE.match(block).groups(), PLACE.sub("", block, count=1)) for block in blocks if PLACE.match(block)]


def follow(root: Path, file: str, into: str | None, code: str) -> None:
    """Add the code at the end of a file, or of a class in it."""
    path = root / file
    lines = path.read_text().splitlines() if path.exists() else []
    at = len(lines)
    if into:
        (at,) = (node.end_lineno for node in ast.parse("\n".join(lines)).body if getattr(node, "name", "") == into)
        code = textwrap.indent(f"\n{code}" if code.startswith("def ") else code, "    ")
    lines[at:at] = code.splitlines()
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project in which every recipe is followed."""
    root = tmp_path_factory.mktemp("project")
    for source in ROOT.glob("*"):
        if source.suffix == ".py":
            shutil.copy(source, root)
        elif source.name in ("utils", "data_gen", "feeder", "models", "tools"):
            shutil.copytree(source, root / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in recipes():
        follow(root, *recipe)
    tiny_dataset(root / "data")
    return root


PROGRAMS = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            sys.exit(end.code)
"""


def run(copy: Path, *commands: tuple) -> subprocess.CompletedProcess:
    """Run programs of the copy, one after the other in one process, up to the first that fails."""
    texts = json.dumps([[str(word) for word in command] for command in commands])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = {"cwd": copy, "env": environment, "capture_output": True, "text": True, "timeout": 120}
    return subprocess.run([sys.executable, "-c", PROGRAMS, texts], **options)


def succeed(copy: Path, *commands: tuple) -> str:
    done = run(copy, *commands)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_recipe_names_its_place():
    places = [(file, into) for file, into, _ in recipes()]
    assert places == [
        ("feeder/modalities.py", None),
        ("models/__init__.py", "LossWeights"),
        ("models/losses.py", "WeightedLoss"),
        ("feeder/augment.py", None),
        ("data_gen/datasets.py", None),
        ("data_gen/skeletons.py", None),
        ("tools/spread.py", None),
        ("models/gru.py", None),
        ("models/__init__.py", None),
    ]


def test_a_run_with_every_addition_trains_resumes_and_is_evaluated(copy):
    flags = ["--encoder", "gru", "--pretrain-modalities", "joint", "jerk", "--augment", "noise"]
    small = ["--hidden-size", 8, "--batch-size", 6, "--device", "cpu", "--save-freq", 1]
    train = ["pretrain", "--checkpoint-path", "checkpoints/demo_new", *small, *flags, "--epochs"]
    pretrained = ["--pretrained", "demo_new", "--device", "cpu"]
    few = ["--epochs", 2, "--schedule", "--modality"]
    table = succeed(
        copy,
        (*train, 1, "--norm-weight", 0.5),
        (*train, 2, "--norm-weight", 0.5),
        ("action_recognition", *pretrained, *few, "all", "jerk"),
        ("action_recognition", *pretrained, "--finetune", *few, "jerk"),
        ("tools.spread", *pretrained),
        ("tools.extract", *pretrained, "--data", "data/demo", "--out", "f.npz"),
        ("tools.results",),
    )
    refused = run(copy, (*train, 3))
    assert refused.returncode == 1 and "--norm-weight 0.5 (now 0.0)" in refused.stderr

    folder = copy / "checkpoints" / "demo_new"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    line = lines[1]
    terms = (
        5 * (line["loss/intra"] + line["loss/inter"] + line["loss/std"]) + line["loss/cov"] + 0.5 * line["loss/norm"]
    )
    assert len(lines) == 2 and line["loss/total"] == pytest.approx(terms, rel=1e-5)
    assert {"std/jerk", "std/multi_jerk"} <= set(line)
    state = torch.load(folder / "checkpoint_0001.pth.tar", weights_only=True)
    assert state["encoder"]["name"] == "gru" and state["args"]["norm_weight"] == 0.5
    assert {"projectors.joint.0.weight", "projectors.jerk.0.weight"} <= set(state["state_dict"])

    features = np.load(copy / "f.npz")
    val = np.load(copy / "data" / "demo" / "xsub_val.npy")
    values, labels = features["feature"][val], features["label"][val]
    means = np.stack([values[labels == label].mean(0) for label in labels])
    share = 100 * means.var(0).sum() / values.var(0).sum()
    assert read_results(folder)[-1]["metrics"]["between_classes"] == pytest.approx(share, rel=1e-3)
    assert "spread" in table and "between_classes" in table and f"{share:.1f}" in table


def test_a_published_data_set_with_another_skeleton_is_packed_and_trained_on(copy):
    folder = copy / "utd_raw"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["name,label,subject"]
    for subject in (1, 2, 3, 4):
        for label in (0, 26):
            rows.append(f"a{label}_s{subject},{label},{subject}")
            np.save(folder / f"a{label}_s{subject}.npy", rng.normal(size=(70, 20, 3)).cumsum(0))
    (folder / "recordings.csv").write_text("\n".join(rows))
    imported = ("data_gen.import_dataset", "folder", "--dataset", "utd", folder)
    small = ["--hidden-size", 8, "--epochs", 1, "--schedule", "--device", "cpu"]
    out = succeed(copy, imported, ("pretrain", "--checkpoint-path", "checkpoints/utd_xsub", *small))
    assert "4 recordings to train on, of UTD-MHAD" in out
    state = torch.load(copy / "checkpoints" / "utd_xsub" / "checkpoint_0000.pth.tar", weights_only=True)
    layout = state["encoder"]["layout"]
    assert (layout["skeleton"]["name"], layout["people"]) == ("kinect_v1", 1)


def test_a_skeleton_of_the_table_is_known_to_the_readers(copy):
    folder = copy / "hands"
    folder.mkdir()
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(30, 3, 3)))
    succeed(copy, ("data_gen.import_dataset", "folder", "--name", "hands", "--skeleton", "hand", folder))
    info = json.loads((copy / "data" / "hands" / "dataset.json").read_text())
    assert info["skeleton"]["joints"] == ["wrist", "thumb", "index"]
