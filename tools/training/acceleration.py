"""Train faster: precision (`--amp`) and compiled code (`--compile`)."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import UserError

MIN_STEPS = 2000  # to compile for a batch size: where a step saves 30 ms, they repay a minute of compiling
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
log = logging.getLogger("umurl")


def choose_amp(amp: str | None, device: torch.device) -> str:
    """Return `amp`, or if it is None what suits the device. Raises UserError for what the device cannot do."""
    if amp is None:
        return "off" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if amp == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU; on a CPU use --amp off or bf16")
    return amp


def autocast(amp: str, device: torch.device) -> torch.autocast:
    """Make the context for a forward pass in this precision: `bf16`, `fp16` or `off`."""
    return torch.autocast(device.type, DTYPES.get(amp), enabled=amp != "off")


def sizes_to_compile(choice: str, device: torch.device, sizes: Sequence[int], epochs: int) -> set[int]:
    """Choose the batch sizes to compile for, by `--compile` and how often a size occurs among the `sizes` of an epoch's
    steps.

    Other sizes, such as that of an epoch's partial last batch, run uncompiled. So no shape is dynamic (the compiler
    has a defect there, docs/benchmarks.md), and nothing is compiled for a few steps.
    """
    steps = Counter(sizes)
    if choice == "auto":
        return {size for size, count in steps.items() if device.type == "cuda" and count * epochs >= MIN_STEPS}
    return {size for size, _ in steps.most_common(1)} if choice == "on" else set()


def compile_for(
    sizes: set[int],
    function: Callable,
    model: nn.Module,
    example: Callable[[int], Any],
    scalar: Callable[[Any], Tensor],
) -> Callable:
    """Return `function` of a model, compiled for some batch sizes; for other ones it runs uncompiled. If the compiler
    fails, warn and return the function itself.

    The first argument is a dict of clips, or a list of such dicts. For each size, a forward and a backward pass is
    tried with the argument `example(size)`; `scalar` turns the result into one value. The model's gradients and running
    statistics stay as they were.
    """

    def run(inputs: Any, *args: Any) -> Any:
        clips = inputs if isinstance(inputs, dict) else inputs[0]
        size = len(next(iter(clips.values())))
        with torch.compiler.set_stance("default" if size in sizes else "force_eager"):
            return compiled(inputs, *args)

    if not sizes:
        return function
    log.info(
        f"compiling the model for batches of {' and '.join(map(str, sorted(sizes)))} clips; this takes about a minute, "
        "--compile off starts without"
    )
    torch.compiler.reset()  # earlier models count towards the compiler's limits
    # On a CPU, convolutions that it moved to channels-last crashed in their backward pass (PyTorch 2.14.1).
    is_cpu = next(model.parameters()).device.type == "cpu"
    compiled = torch.compile(function, dynamic=False, fullgraph=True, options={"layout_optimization": not is_cpu})
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    started, reason = time.perf_counter(), ""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TensorFloat32")  # the loss is float32 for its precision
            for size in sorted(sizes):
                batch = example(size)
                if not _is_finite(scalar(compiled(batch)), model) and _is_finite(scalar(function(batch)), model):
                    reason = "its loss or gradient is not finite, while that of the uncompiled model is"
    except Exception as error:  # the compiler raises many kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    model.zero_grad()
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    if reason:
        log.warning(f"warning: --compile does not work here, so the model runs uncompiled: {reason}")
        return function
    log.info(f"compiled in {time.perf_counter() - started:.0f} s")
    return run


def _is_finite(scalar: Tensor, model: nn.Module) -> bool:
    """Run the backward pass. Return whether the value and the gradients are finite."""
    model.zero_grad()
    scalar.backward()
    values = [scalar, *(p.grad for p in model.parameters() if p.grad is not None)]
    return all(bool(x.isfinite().all()) for x in values)
