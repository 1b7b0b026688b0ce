"""Tests the settings and queries of a GPU without a GPU, by the calls to torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sskd.config.execution import Execution
from sskd.runs.provenance import provenance
from sskd.runtime import device as devices
from sskd.runtime.device import configure, device_of, synchronize

SECOND = torch.device("cuda", 1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The devices that torch.cuda is told of, and everything that is set, as before afterwards."""
    named: list[Any] = []
    # one function each: torch's compiler, if it is imported meanwhile, refuses one object under two names
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: named.append(device))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: named.append(device))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic
    yield named
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)


def test_fp32_is_not_tf32(told: list[Any]) -> None:
    """The run uses the second of two GPUs: torch's global random state, captures and synchronisation refer to the
    current device."""
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    configure(SECOND, Execution())
    synchronize(SECOND)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert told == [SECOND, SECOND]


def test_the_cpu_is_left_alone(told: list[Any]) -> None:
    torch.backends.cudnn.allow_tf32 = True
    configure(torch.device("cpu"), Execution(deterministic=True))
    synchronize(torch.device("cpu"))
    assert not told
    assert torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()
    assert "tf32" not in provenance(torch.device("cpu"))


def test_deterministic_is_set_and_taken_back(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    configure(SECOND, Execution(deterministic=True))
    assert torch.is_deterministic_algorithms_warn_only_enabled(), "what has no such algorithm is no error"
    assert torch.backends.cudnn.deterministic
    assert devices.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert provenance(SECOND).items() >= {"device": "a GPU", "tf32": False, "deterministic": True}.items()
    configure(SECOND, Execution())
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_a_gpu_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "cuda" is whichever is current when something is asked for, "cuda:1" is one."""

    def one(*_: Any, device: torch.device) -> torch.Tensor:
        return torch.ones(1)

    monkeypatch.setattr(torch, "zeros", one)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device_of(Execution(device="cuda")) == SECOND
    assert device_of(Execution(device="cuda:0")) == torch.device("cuda", 0)
    assert device_of(Execution(device="cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("isa", "precision"), [(None, "bf16"), ("AVX2", "fp32"), ("avx512_core", "fp32"), ("ALL", "bf16")]
)
def test_bf16_is_taken_where_it_is_multiplied(
    isa: str | None, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that has it, and oneDNN allowed to use it."""
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags : avx2 avx512_bf16\n")
    monkeypatch.setattr(devices, "Path", lambda _: flags)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if isa:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    devices._has_bf16.cache_clear()
    try:
        assert devices.resolve_precision("auto", torch.device("cpu")) == precision
    finally:
        devices._has_bf16.cache_clear()
