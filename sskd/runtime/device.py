"""The device that a run uses, its precision and its threads."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runtime.cores import usable_cores

# what ONEDNN_MAX_CPU_ISA may say that leaves bf16 to be emulated, ten times slower than float32
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(execution: Execution) -> torch.device:
    """The device asked for, a GPU with its number; "auto" is the first GPU if there is one. UserError if it cannot be
    used here."""
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has tensors, but no values in them
    except (RuntimeError, AssertionError, ModuleNotFoundError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"execution.device '{execution.device}' cannot be used here: {reason}") from None
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def configure(device: torch.device, execution: Execution) -> None:
    """Makes a GPU the process's own, and its float32 arithmetic what the name says. Nothing to do on the CPU.

    What torch does on "the" GPU (its global random numbers, captures, streams) then concerns this one. TF32 keeps 10
    of float32's 23 bits and is cuDNN's default; here fp32 means float32, and bf16 is the precision that is fast.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    exact = execution.deterministic
    torch.backends.cudnn.deterministic = exact
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        # new tensors are not filled: that finds errors, and costs a launch for each
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(exact, warn_only=True)


def arithmetic() -> dict[str, Any]:
    """How a GPU computes here, beside the precision: for the provenance of a result."""
    return {
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def synchronize(device: torch.device) -> None:
    """Until the device has done all that it was given; the CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@functools.cache
def constant(values: float | tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of this number (0-d), or of a tuple of them (nested: more dimensions), made once for each device: the
    copy from the host makes the host wait, and no CUDA graph can hold it. Not to be written to."""
    with torch.inference_mode(False):  # whoever asks first: a backward pass may keep it
        return torch.tensor(values, dtype=dtype, device=device)


@functools.lru_cache(maxsize=64)
def cached_arange(count: int, device: torch.device) -> Tensor:
    """0, 1, ... count - 1, (count,) int64, made once: a launch less for whoever wants it in every step. Not to be
    written to."""
    with torch.inference_mode(False):
        return torch.arange(count, device=device)


@functools.lru_cache(maxsize=64)
def cached_repeat_interleave(count: int, times: int, device: torch.device) -> Tensor:
    """0, 0, ... 1, 1, ..., (count * times,) int64, made once. Not to be written to."""
    with torch.inference_mode(False):
        return torch.arange(count, device=device).repeat_interleave(times)


@functools.lru_cache(maxsize=64)
def cached_repeat(count: int, times: int, device: torch.device) -> Tensor:
    """0, 1, ... 0, 1, ..., (count * times,) int64, made once. Not to be written to."""
    with torch.inference_mode(False):
        return torch.arange(count, device=device).repeat(times)


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" to "bf16" where the hardware multiplies it, else "fp32"; anything else as it is."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device.type) else "fp32"


@functools.cache
def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return False
    # torch has no public question for this on CPUs; the flags that oneDNN looks for are in /proc/cpuinfo
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
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


def cores_and_gpus(execution: Execution, processes: int) -> tuple[int, int]:
    """What a run of so many processes takes here, for displays; no GPU where the device cannot be used."""
    try:
        on_gpu = device_of(execution).type == "cuda"
    except UserError:  # the run itself says so
        on_gpu = False
    return threads_of(execution), processes if on_gpu else 0
