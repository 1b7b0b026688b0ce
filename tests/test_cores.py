"""Cores and memory that a process may use, read from made-up /proc and /sys trees, and from this machine's own."""

import os
from pathlib import Path

import pytest

from sskd.runtime.cores import allowed_cores, usable_cores, usable_memory

GIB = 2**30
UNLIMITED = str(2**63 - 4096)  # as version 1 writes it
MEMINFO = f"MemTotal: {64 * 2**20} kB\nMemFree: 1000 kB\nMemAvailable: {48 * 2**20} kB\n"


class Machine:
    """A made-up machine of 64 cores and 64 GiB. ``groups``: lines of /proc/self/cgroup; files: below /sys/fs/cgroup."""

    def __init__(self, root: Path, groups: str, files: dict[str, str]) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        written = {self.proc / "self" / "cgroup": groups, self.proc / "meminfo": MEMINFO}
        for path, text in (written | {self.cgroups / name: text for name, text in files.items()}).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def cores(self, allowed: int = 64, **environment: str) -> int:
        return usable_cores(self.proc, self.cgroups, environment, allowed)

    def memory(self) -> int | None:
        return usable_memory(self.proc, self.cgroups)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("", {}, 64),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # docker run --cpus=2
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"cpu.max": "", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),  # the parent's
        ("0::/a/b\n", {"a/cpu.max": "max 100000", "a/b/cpu.max": "150000 50000"}, 3),
        ("0::/docker/0a1b\n", {"cpu.max": "400000 100000"}, 4),  # the host's path; the mount is the container's own
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 64),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "500000", "cpu/x/cpu.cfs_period_us": "100000"}, 5),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000"}, 7),  # both versions
        ("0::/\n", {"cpu.max": "nonsense\n"}, 64),
        ("nonsense\n", {"cpu.max": "100000 100000\n"}, 64),
    ],
)
def test_cores_of_control_groups(groups: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert Machine(tmp_path, groups, files).cores() == cores


def test_the_smallest_limit_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/\n", {"cpu.max": "800000 100000"})
    assert machine.cores() == 8
    assert machine.cores(allowed=3) == 3
    assert machine.cores(SLURM_CPUS_ON_NODE="4") == 4
    assert machine.cores(SLURM_CPUS_ON_NODE="16", SLURM_CPUS_PER_TASK="2") == 2
    assert machine.cores(SLURM_CPUS_ON_NODE="4(x2)") == 8  # not a number: it says nothing
    assert machine.cores(SLURM_CPUS_PER_TASK="32") == 8


@pytest.mark.parametrize(
    ("groups", "files", "memory"),
    [
        ("", {}, 48 * GIB),
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, 48 * GIB),
        ("0::/\n", {"memory.max": str(4 * GIB), "memory.current": str(GIB)}, 3 * GIB),
        (
            "0::/a\n",
            {"a/memory.max": str(4 * GIB), "a/memory.current": str(3 * GIB), "a/memory.stat": f"inactive_file {GIB}"},
            2 * GIB,
        ),
        ("0::/a\n", {"memory.max": str(2 * GIB), "memory.current": str(3 * GIB), "a/memory.max": "max"}, 0),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": UNLIMITED, "memory/memory.usage_in_bytes": "7"}, 48 * GIB),
        ("5:memory:/x\n", {"memory/x/memory.limit_in_bytes": str(GIB), "memory/x/memory.usage_in_bytes": "0"}, GIB),
    ],
)
def test_memory(groups: str, files: dict[str, str], memory: int, tmp_path: Path) -> None:
    assert Machine(tmp_path, groups, files).memory() == memory


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert usable_memory(tmp_path, tmp_path) is None
    assert usable_cores(tmp_path, tmp_path, {}, 6) == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_this_machine_under_taskset() -> None:
    before = allowed_cores()
    assert 1 <= usable_cores() <= len(before)
    os.sched_setaffinity(0, before[-1:])
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
