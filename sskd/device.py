"""The device that a run uses, its precision and its threads."""

import functools
import os
from pathlib import Path

import torch

from sskd.config.execution import Execution
from sskd.cores import usable_cores
from sskd.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(execution: Execution) -> torch.device:
    """The device asked for; "auto" is the first GPU if there is one. UserError if it cannot be used here."""
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has tensors, but no values in them
    except (RuntimeError, AssertionError, ModuleNotFoundError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"execution.device '{execution.device}' cannot be used here: {reason}") from None
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" to "bf16" where the hardware multiplies it, else "fp32"; anything else as it is."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device.type) else "fp32"


@functools.cache
def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public question for this on CPUs; the flags that oneDNN looks for are in /proc/cpuinfo
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks run: lower precision for "bf16" and "fp16", nothing for "fp32"."""
    dtype = DTYPES.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def default_threads() -> int:
    """CPU threads where nobody asked for a number: as many as the process may use at once, or OMP_NUM_THREADS."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(wanted), usable_cores()) if wanted.isdigit() and int(wanted) else usable_cores()


def threads_of(execution: Execution) -> int:
    """CPU threads of a run, all its processes together."""
    return execution.threads or default_threads()


def with_threads(execution: Execution, threads: int) -> Execution:
    """The same execution with that many CPU threads."""
    return execution.model_copy(update={"threads": threads})
