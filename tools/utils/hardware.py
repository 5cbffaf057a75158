"""Peak speeds of GPUs, for the share that a run reaches."""

from __future__ import annotations

import torch

from data_gen.packed.words import counted

# FLOP/s of dense products in bf16 (fp16 for cards without bf16), from the makers' data sheets. The first row that
# matches the card's name counts.
_PEAK = {
    "B200": 2250e12, "GH200": 989e12, "H200 NVL": 836e12, "H200": 989e12, "H20": 148e12,
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H800": 989e12,
    "A100": 312e12, "A800": 312e12, "A40": 150e12, "A10": 125e12, "L40S": 362e12, "L4": 121e12,
    "RTX 6000 Ada": 364e12, "RTX 4090": 165e12, "RTX 3090": 71e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `CPU` and its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {counted(torch.get_num_threads(), 'thread')}"


def peak_flops(device: torch.device, amp: str) -> float | None:
    """Return the GPU's peak FLOP/s in half precision; None for an unknown card, a CPU or float32."""
    if device.type != "cuda" or amp == "off":
        return None
    words = device_name(device).replace("-", " ").split()
    return next((peak for card, peak in _PEAK.items() if set(card.split()) <= set(words)), None)
