"""What is known of GPUs: their peak speed, for the share of it that a run reaches."""

from __future__ import annotations

import torch

# Dense products in bf16 (fp16 where a card lacks bf16), by the makers' data sheets, FLOP/s. Matched by the card's name,
# the first fitting row.
_PEAK = {
    "B200": 2250e12, "GH200": 989e12, "H200 NVL": 836e12, "H200": 989e12, "H20": 148e12,
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H800": 989e12,
    "A100": 312e12, "A800": 312e12, "A40": 150e12, "A10": 125e12, "L40S": 362e12, "L4": 121e12,
    "RTX 6000 Ada": 364e12, "RTX 4090": 165e12, "RTX 3090": 71e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip


def device_name(device: torch.device) -> str:
    """The GPU's name, or `CPU` and its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread(s)"


def peak_flops(device: torch.device, amp: str) -> float | None:
    """The GPU's peak FLOP/s in half precision; None for an unknown card, a CPU or float32."""
    if device.type != "cuda" or amp == "off":
        return None
    words = device_name(device).replace("-", " ").split()
    return next((peak for card, peak in _PEAK.items() if set(card.split()) <= set(words)), None)
