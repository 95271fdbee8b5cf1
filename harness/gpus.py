"""What GPUs could do at most, by their makers' data sheets. Free of torch."""

from __future__ import annotations

PEAKS: dict[str, dict[str, float]] = {
    "B200": {"bf16": 2250e12, "fp32": 75e12},
    "H200 NVL": {"bf16": 835e12, "fp32": 60e12},
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "H100 PCIe": {"bf16": 756e12, "fp32": 51e12},
    "H100 NVL": {"bf16": 835e12, "fp32": 60e12},
    "H100": {"bf16": 989e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp32": 91.6e12},
    "A40": {"bf16": 149.7e12, "fp32": 37.4e12},
    "L4": {"bf16": 121e12, "fp32": 30.3e12},
}
"""FLOP/s of dense products, by a part of the name that torch gives the device, the narrower names first.

bf16 on tensor cores without sparsity; fp32 outside of them, since nothing here turns TF32 on.
"""


def peak(device: str, precision: str) -> float | None:
    """FLOP/s of a GPU at best, or None if it is not known here."""
    words = device.split()
    for name, found in PEAKS.items():
        if all(any(word == part or word.startswith(f"{part}-") for word in words) for part in name.split()):
            return found[precision]
    return None
