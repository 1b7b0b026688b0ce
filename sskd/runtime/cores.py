"""CPU cores and memory that the process may use, which can be less than the machine has.

The limits are the scheduler's affinity (taskset, cpusets), the CPU quota of cgroups (``docker run --cpus=2``), and
Slurm's allocation. If a process starts one thread per core of the host but may only use two, its threads slow each
other down.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
SLURM_CORES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")  # the first that is set is used
GROUP_CONTROLLERS = {"cpu": ("cpu", "cpu,cpuacct"), "memory": ("memory",)}  # cgroups v1: folders of CGROUPS


def allowed_cores() -> list[int]:
    """Returns the numbers of the cores in this process's affinity."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(
    proc: Path = PROC,
    cgroups: Path = CGROUPS,
    environment: Mapping[str, str] = os.environ,
    allowed: int | None = None,
) -> int:
    """Returns the number of threads that this process can run at the same time, at least 1. ``allowed``: number of
    cores in its affinity."""
    limits = [float(allowed if allowed is not None else len(allowed_cores()))]
    limits += [quota for group in _groups("cpu", proc, cgroups) if (quota := _quota(group)) is not None]
    for name in SLURM_CORES:
        if environment.get(name, "").isdigit():
            limits.append(int(environment[name]))
            break
    return max(1, int(min(limits)))


def usable_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Returns the bytes of memory that are available to this process; None if unknown."""
    limits = [free for group in _groups("memory", proc, cgroups) if (free := _free_memory(group)) is not None]
    available = _numbers(proc / "meminfo").get("MemAvailable:")
    if available is not None:
        limits.append(available * 1024)
    return min(limits, default=None)


def _groups(controller: str, proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yields the folders of the process's cgroup and of its parents, each of which may have a limit.

    In a container, the path in /proc can be the host's, of which only the end, or nothing, is mounted: missing folders
    are skipped, and the root of the mount is always included.
    """
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            roots = [cgroups]  # v2: one tree for all controllers
        elif controller in controllers.split(","):
            roots = [cgroups / name for name in GROUP_CONTROLLERS[controller]]
        else:
            continue
        relative = Path(path.lstrip("/"))
        for root in roots:
            yield from (folder for part in (relative, *relative.parents) if (folder := root / part).is_dir())


def _quota(group: Path) -> float | None:
    """Returns the CPU quota of a cgroup in cores; None if there is no limit."""
    words = _text(group / "cpu.max").split()  # v2: "200000 100000", "max 100000"
    if not words:
        words = [*_text(group / "cpu.cfs_quota_us").split(), *_text(group / "cpu.cfs_period_us").split()]
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None  # v1: -1 means no limit


def _free_memory(group: Path) -> int | None:
    """Returns the bytes between a cgroup's limit and its usage. The page cache does not count, because it can be
    dropped."""
    for limit_file, used_file, cached_key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _text(group / limit_file).strip(), _text(group / used_file).strip()
        if limit.isdigit() and used.isdigit():
            cached = _numbers(group / "memory.stat").get(cached_key, 0)
            return max(0, int(limit) - max(0, int(used) - cached))
    return None


def _numbers(path: Path) -> dict[str, int]:
    """Reads a file of lines "key number ..." as a dictionary."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) >= 2 and words[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
