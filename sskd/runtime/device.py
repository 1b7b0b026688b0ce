"""The device of a run, its precision and its threads."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runtime.cores import usable_cores

# values of ONEDNN_MAX_CPU_ISA with which bf16 is emulated, ten times slower than float32
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(execution: Execution) -> torch.device:
    """Returns the requested device, with its index for a GPU; "auto" is the first GPU if there is one. Raises
    UserError if the device cannot be used."""
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails for "meta", which has no values
    except (RuntimeError, AssertionError, ModuleNotFoundError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"execution.device '{execution.device}' cannot be used here: {reason}") from None
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def configure(device: torch.device, execution: Execution) -> None:
    """Makes a GPU the current device and sets its float32 arithmetic. Does nothing on a CPU.

    Global random numbers, captures and streams of torch.cuda then refer to this GPU. TF32 keeps 10 of float32's 23
    mantissa bits and is cuDNN's default; it is disabled here, so fp32 means float32, and bf16 is the fast precision.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    exact = execution.deterministic
    torch.backends.cudnn.deterministic = exact
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        # filling new tensors is a debugging aid and would cost a launch per tensor
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(exact, warn_only=True)


def synchronize(device: torch.device) -> None:
    """Blocks until the GPU has finished all submitted work (torch.cuda.synchronize). Does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@functools.cache
def constant(values: float | tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns a tensor with this number (0-d) or tuple of numbers (nested: more dimensions), cached per device.
    Without the cache, the copy from the host would synchronise with the device, which a CUDA graph cannot capture.
    Do not write to it."""
    with torch.inference_mode(False):  # a backward pass may save it, even if the first caller is in inference mode
        return torch.tensor(values, dtype=dtype, device=device)


@functools.lru_cache(maxsize=64)
def cached_arange(count: int, device: torch.device, each: int = 1, times: int = 1) -> Tensor:
    """Returns 0 to count - 1, every number ``each`` times in a row, and all of them ``times`` times: (times * count *
    each,) int64. It is cached, which saves a launch per step. Do not write to it."""
    with torch.inference_mode(False):
        return torch.arange(count, device=device).repeat_interleave(each).repeat(times)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Resolves "auto" to "bf16" if the hardware supports it, else "fp32"; other values are returned unchanged."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device.type) else "fp32"


@functools.cache
def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return False
    # torch has no public function for this on CPUs; the flags that oneDNN checks are in /proc/cpuinfo
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Returns the autocast context of networks: lower precision for "bf16" and "fp16", disabled for "fp32"."""
    dtype = DTYPES.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def threads_of(execution: Execution) -> int:
    """Returns the number of CPU threads of a run, over all its processes. The default is all usable cores, or
    OMP_NUM_THREADS if that is less."""
    if execution.threads:
        return execution.threads
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(wanted), usable_cores()) if wanted.isdigit() and int(wanted) else usable_cores()


def with_threads(execution: Execution, threads: int) -> Execution:
    """Returns the execution with ``threads`` CPU threads."""
    return execution.model_copy(update={"threads": threads})


def cores_and_gpus(execution: Execution, processes: int) -> tuple[int, int]:
    """Returns the cores and GPUs of a run with ``processes`` processes, for displays; no GPU if the device cannot be
    used."""
    try:
        on_gpu = device_of(execution).type == "cuda"
    except UserError:  # the run itself reports it
        on_gpu = False
    return threads_of(execution), processes if on_gpu else 0
