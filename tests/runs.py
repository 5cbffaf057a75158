"""Running pre-training in tests, and comparing what two runs left."""

from __future__ import annotations

import json
import sys

import torch

from models import checkpoints


def figures(folder) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def assert_equal_runs(a, b, epoch: int) -> None:
    first, second = (checkpoints.load(folder / checkpoints.name_of(epoch)) for folder in (a, b))
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(first["optimizer"], second["optimizer"], rtol=0, atol=0)
    assert figures(a) == figures(b)


def of(folder, demo_root):
    """The program and its flags for a small run."""
    small = ["--hidden-size", "8", "--batch-size", "5", "--save-freq", "1", "--device", "cpu"]
    return ["pretrain", "--checkpoint-path", str(folder), "--data-root", str(demo_root), *small]


def launched(count, folder, demo_root, *flags):
    """The command of `count` processes under torchrun."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "-m"]
    return [*launch, *of(folder, demo_root), *flags]
