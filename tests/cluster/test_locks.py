"""RunLocks: one taker, whatever happens at the same time."""

import dataclasses
import getpass
import json
import multiprocessing
import os
import socket
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch.run_lock import LockHolder, RunLocks, file_time, process_birth, process_is_alive
from benchmarks.dispatch.slurm_queue import HolderMonitor
from sskd.errors import UserError

YEAR = 365 * 86400.0


def test_taken_once_updated_released_and_taken_again(tmp_path: Path) -> None:
    locks, first, second = RunLocks(tmp_path), LockHolder(), LockHolder()
    assert locks.acquire("run", first, lambda _: True)
    assert not locks.acquire("run", second, lambda _: True)
    assert locks.holder("run") == first
    assert not locks.update("run", second)
    assert locks.update("run", dataclasses.replace(first, job="17_3"))
    assert locks.all()["run"].job == "17_3"
    locks.release("run", second.token)  # not its to release
    assert locks.holder("run") is not None
    locks.release("run", first.token)
    assert locks.holder("run") is None
    assert locks.acquire("run", second, lambda _: True)
    locks.delete("run")
    assert not locks.all()


def acquire(folder: Path, results: "multiprocessing.Queue[bool]", start: float) -> None:
    while time.time() < start:
        pass
    results.put(RunLocks(folder).acquire("run", LockHolder(), lambda holder: holder.token != "dead"))


@pytest.mark.parametrize("stale", [False, True])
def test_a_race_has_one_winner(tmp_path: Path, stale: bool) -> None:
    """Also over a claim whose holder is dead: one takes it over, and nobody takes it from that one."""
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        if stale:
            assert RunLocks(folder).acquire("run", LockHolder(token="dead"), lambda _: True)
        results: multiprocessing.Queue[bool] = context.Queue()
        start = time.time() + 0.05
        processes = [context.Process(target=acquire, args=(folder, results, start)) for _ in range(6)]
        for process in processes:
            process.start()
        assert sum(results.get(timeout=30) for _ in processes) == 1
        for process in processes:
            process.join()


def test_dead_processes_and_reused_numbers() -> None:
    alive = LockHolder()
    assert process_is_alive(alive)
    assert not process_is_alive(dataclasses.replace(alive, born="1"))  # the number is another process's now
    child = subprocess.Popen(["sleep", "60"])
    holder = LockHolder(pid=child.pid, born=process_birth(child.pid))
    assert process_is_alive(holder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now: dead, though its number is taken
    assert not process_is_alive(holder)
    child.wait()
    assert not process_is_alive(holder)


def write_elsewhere(suite: Path, age: float, **more: Any) -> None:
    """A claim of a process on another host, written so many seconds ago by the file system's clock."""
    claim = suite / "jobs" / "claims" / "run" / "1.json"
    claim.parent.mkdir(parents=True, exist_ok=True)
    data = dataclasses.asdict(LockHolder(host="elsewhere", pid=1)) | {"time": time.time()} | more
    claim.write_text(json.dumps(data))
    set_age(claim, age)


def set_age(path: Path, seconds: float) -> None:
    now = file_time(path.parent)
    assert now is not None
    os.utime(path, (now - seconds, now - seconds))


def is_free(suite: Path) -> bool:
    """Whether another process may take the run."""
    return RunLocks(suite / "jobs" / "claims").acquire(
        "run", LockHolder(), partial(HolderMonitor(suite / "runs"), "run")
    )


@pytest.mark.parametrize("skew", [-62 * 60.0, 0.0, 62 * 60.0, 10 * YEAR])
@pytest.mark.parametrize("stamped", [-10 * YEAR, 0.0, 10 * YEAR])
@pytest.mark.parametrize("more", [{}, {"batch": "b", "job": ""}])
def test_clocks_of_hosts_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float, stamped: float, more: dict[str, str]
) -> None:
    """Neither ours, which is wrong by ``skew``, nor the holder's, which is wrong by ``stamped``."""
    monkeypatch.setattr("benchmarks.dispatch.slurm_queue.read_queue", lambda _: {})
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + skew)
    stamp = right() + stamped
    write_elsewhere(tmp_path, age=60, time=stamp, **more)
    assert not is_free(tmp_path)
    write_elsewhere(tmp_path, age=3700, time=stamp, **more)
    if not more:  # of Slurm the queue tells more
        (tmp_path / "runs" / "run").mkdir(parents=True)
        progress = tmp_path / "runs" / "run" / "progress.json"
        progress.touch()
        assert not is_free(tmp_path)
        set_age(progress, 3700)
    assert is_free(tmp_path)


@pytest.mark.parametrize("more", [{}, {"batch": "b", "job": "17"}])
def test_a_claim_from_the_future_does_not_live_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    """Of the file system's clock, which was set back meanwhile. Whoever lives goes on giving signs."""
    monkeypatch.setattr("benchmarks.dispatch.slurm_queue.read_queue", lambda _: {})
    write_elsewhere(tmp_path, age=-YEAR, **more)
    assert is_free(tmp_path)
    if not more:
        write_elsewhere(tmp_path / "live", age=-YEAR)
        (tmp_path / "live" / "runs" / "run").mkdir(parents=True)
        (tmp_path / "live" / "runs" / "run" / "progress.json").touch()
        assert not is_free(tmp_path / "live")


def test_a_job_claimed_after_the_look_at_the_queue_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.dispatch.slurm_queue.read_queue", lambda _: {})
    liveness, locks = HolderMonitor(tmp_path / "runs"), RunLocks(tmp_path / "jobs" / "claims")
    write_elsewhere(tmp_path, age=5, batch="b", job="17")
    holder = locks.holder("run")
    assert holder is not None
    assert not liveness("run", holder)
    write_elsewhere(tmp_path, age=0, batch="b", job="18")
    holder = locks.holder("run")
    assert holder is not None
    assert liveness("run", holder)


def test_where_nothing_can_be_written_nobody_is_taken_for_dead(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert file_time(tmp_path / "file" / "below") is None
    assert process_is_alive(LockHolder(host="elsewhere"), lambda: file_time(tmp_path / "file" / "below"))


WRONG = [
    "",
    '{"token": ',
    "[]",
    "{}",
    "null",
    "7",
    '"text"',
    "[" * 100_000,
    "\x00\xff",
    '{"released": 1}',
    json.dumps(dataclasses.asdict(LockHolder()) | {"pid": "7"}),
    json.dumps(dataclasses.asdict(LockHolder()) | {"pid": -1}),
    json.dumps(dataclasses.asdict(LockHolder()) | {"pid": 10**30}),
    json.dumps(dataclasses.asdict(LockHolder()) | {"host": None}),
]


@pytest.mark.parametrize("content", WRONG)
def test_a_damaged_claim_is_nobodys(tmp_path: Path, content: str) -> None:
    locks = RunLocks(tmp_path)
    assert locks.acquire("run", LockHolder(), lambda _: True)
    (tmp_path / "run" / "1.json").write_bytes(content.encode("latin-1"))
    assert locks.holder("run") is None
    assert not locks.all()
    assert locks.acquire("run", LockHolder(), lambda _: True)
    assert list(locks.all()) == ["run"]


@pytest.mark.parametrize("name", ["x.json", "-1.json", "1_0.json", "0.json", "\u0663.json", ".json", "2.json.txt"])
def test_stray_files_among_the_claims(tmp_path: Path, name: str) -> None:
    locks, holder = RunLocks(tmp_path), LockHolder()
    assert locks.acquire("run", holder, lambda _: True)
    (tmp_path / name).write_text("[]")
    (tmp_path / "run" / name).write_text("[]")
    assert locks.all() == {"run": holder}
    assert not locks.acquire("run", LockHolder(), lambda _: True)
    locks.release("run", holder.token)
    assert locks.acquire("run", LockHolder(), lambda _: True)


def test_a_folder_among_the_claims(tmp_path: Path) -> None:
    (tmp_path / "run" / "1.json").mkdir(parents=True)
    assert RunLocks(tmp_path).holder("run") is None
    assert RunLocks(tmp_path).acquire("run", LockHolder(), lambda _: True)


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/below", "file", "a" * 300])
def test_a_claim_that_cannot_be_made_is_an_error(tmp_path: Path, place: str) -> None:
    """Else the launcher would wait for whoever has the run, for ever."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot (claim a run in|read)"):
        RunLocks(tmp_path / place).acquire("run", LockHolder(), lambda _: True)


def test_a_run_that_is_finished_while_it_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder of claims is removed before the claim is linked: not an error, and not taken."""
    locks = RunLocks(tmp_path)
    link = os.link

    def forgotten(*paths: Any) -> None:
        locks.delete("run")
        link(*paths)

    monkeypatch.setattr(os, "link", forgotten)
    assert not locks.acquire("run", LockHolder(), lambda _: True)


@pytest.mark.parametrize(
    "error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set in the environment")]
)
def test_a_user_and_a_machine_without_names(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in containers that are started under a number: the number is the name, and claims work."""

    def fails() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fails)
    monkeypatch.setattr(socket, "gethostname", lambda: "" if isinstance(error, KeyError) else fails())
    holder = LockHolder()
    assert (holder.user, holder.host) == (str(os.getuid()), "localhost")
    locks = RunLocks(tmp_path)
    assert locks.acquire("run", holder, process_is_alive)
    assert not locks.acquire("run", LockHolder(), process_is_alive)
