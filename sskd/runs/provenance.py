"""The provenance of a result: machine and code."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from sskd.runtime.machine import host
from sskd.version import code, first_line, packages


def provenance(device: torch.device) -> dict[str, Any]:
    """Returns host, processor or GPU, and the versions of the code and its dependencies."""
    import torchvision

    on_gpu = device.type == "cuda"
    arithmetic = {
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    return {
        "host": host(),
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "driver": first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if on_gpu else None,
        **(arithmetic if on_gpu else {}),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "packages": packages(),
        **code(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
