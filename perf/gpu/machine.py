"""Measures the device itself: versions, matrix products, copies, and launch overhead."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from perf.gpu.items import Items, Measurement
from perf.steps import seconds_of


def items(measurement: Measurement) -> Items:
    device, sizes = measurement.device, measurement.sizes
    return {
        "versions": lambda: versions(device),
        **{
            f"product, {precision}": partial(product, device, precision, sizes.square)
            for precision in ("fp32", "tf32", "bf16")
            if device.type == "cuda" or precision != "tf32"
        },
        "copies": lambda: copies(device, sizes.copied_mb),
        "launches": lambda: launches(device),
    }


def median_seconds(action: Callable[[], Any], device: torch.device, repeats: int = 5, rounds: int = 5) -> float:
    """Returns the median of a few rounds, after a warm-up round."""
    seconds_of(action, repeats, device)
    return statistics.median(seconds_of(action, repeats, device) for _ in range(rounds))


def versions(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        found |= {
            "name": known.name,
            "capability": f"{known.major}.{known.minor}",
            "memory_gb": round(known.total_memory / 2**30, 1),
            "multiprocessors": known.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_by_default": torch.backends.cudnn.allow_tf32,
        }
    return found | {"text": f"torch {torch.__version__}, {found.get('name', 'CPU')}"}


def product(device: torch.device, precision: str, square: int) -> dict[str, Any]:
    """Measures the FLOP/s of a product of two square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(square, square, device=device, dtype=dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        seconds = median_seconds(lambda: left @ right, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    rate = 2 * square**3 / seconds / 1e12
    return {"square": square, "seconds_each": seconds, "tflops": rate, "text": f"{rate:.3g} TFLOP/s"}


def copies(device: torch.device, megabytes: int) -> dict[str, Any]:
    """Measures bytes per second of copies within the device (reads and writes both count) and from pinned memory to
    it."""
    source = torch.zeros(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates = {"within_gb_s": 2 * source.numel() / median_seconds(lambda: target.copy_(source), device) / 1e9}
    if device.type == "cuda":
        pinned = torch.empty(source.shape, dtype=torch.uint8, pin_memory=True)
        seconds = median_seconds(lambda: target.copy_(pinned, non_blocking=True), device)
        rates["to_device_gb_s"] = source.numel() / seconds / 1e9
    return {**rates, "text": ", ".join(f"{name.removesuffix('_gb_s')} {rate:.4g} GB/s" for name, rate in rates.items())}


def launches(device: torch.device, number: int = 1000) -> dict[str, Any]:
    """Measures the host time of a small operation, in microseconds per call, while the device keeps up."""
    value = torch.zeros(1, device=device)
    each = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(number):
            value.add_(1)
        each.append((time.perf_counter() - started) / number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    microseconds = 1e6 * statistics.median(each)
    return {"microseconds": microseconds, "text": f"{microseconds:.2f} microseconds of the host's"}
