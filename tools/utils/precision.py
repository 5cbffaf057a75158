"""`--amp`: the precision in which a model is trained."""

from __future__ import annotations

import torch

from tools.utils.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
