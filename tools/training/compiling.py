"""`--compile`: torch.compile for the batch sizes that a run repeats."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tools.utils.encoder_options import MIN_STEPS

log = logging.getLogger("umurl")


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


class StaticCompiler:
    """Compile a function of a model for some batch sizes; other sizes run uncompiled."""

    def __init__(self, sizes: set[int]):
        self.sizes = sizes

    def compile(
        self, function: Callable, model: nn.Module, example: Callable[[int], Any], scalar: Callable[[Any], Tensor]
    ) -> Callable:
        """Return the compiled function, or with a warning the function itself if the compiler fails.

        For each size, try a forward and a backward pass with the argument `example(size)`; `scalar` turns the result
        into one value. The model's gradients and running statistics stay as they were.
        """
        log.info(
            f"compiling the model for batches of {' and '.join(map(str, sorted(self.sizes)))} clips; this takes about "
            "a minute, --compile off starts without"
        )
        torch.compiler.reset()  # earlier models count towards the compiler's limits
        compiled = torch.compile(function, dynamic=False, fullgraph=True)
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        started, reason = time.perf_counter(), ""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "TensorFloat32")  # the loss is float32 for its precision
                for size in sorted(self.sizes):
                    given = example(size)
                    if not _is_finite(scalar(compiled(given)), model) and _is_finite(scalar(function(given)), model):
                        reason = "its loss or gradient is not finite, while that of the uncompiled model is"
        except Exception as error:  # the compiler raises many kinds
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        model.zero_grad()
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
        if reason:
            log.warning(f"warning: --compile does not work here, so the model runs uncompiled: {reason}")
            self.sizes = set()
            return function
        log.info(f"compiled in {time.perf_counter() - started:.0f} s")
        return compiled

    def stance(self, size: int) -> AbstractContextManager:
        """Make the context of a forward pass on a batch of `size`: compiled if that size was, else not."""
        if not self.sizes:
            return nullcontext()
        return torch.compiler.set_stance("default" if size in self.sizes else "force_eager")


def _is_finite(scalar: Tensor, model: nn.Module) -> bool:
    """Run the backward pass. Return whether the value and the gradients are finite."""
    model.zero_grad()
    scalar.backward()
    found = [scalar, *(p.grad for p in model.parameters() if p.grad is not None)]
    return all(bool(x.isfinite().all()) for x in found)
