"""Claims: one taker, whatever happens at the same time."""

import dataclasses
import multiprocessing
import os
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.locks import Claims, Owner, process_birth, process_is_alive


def test_taken_once_updated_released_and_taken_again(tmp_path: Path) -> None:
    claims, first, second = Claims(tmp_path), Owner(), Owner()
    assert claims.take("run", first, lambda _: True)
    assert not claims.take("run", second, lambda _: True)
    assert claims.owner("run") == first
    assert not claims.update("run", second)
    assert claims.update("run", dataclasses.replace(first, job="17_3"))
    assert claims.all()["run"].job == "17_3"
    claims.release("run", second.token)  # not its to release
    assert claims.owner("run") is not None
    claims.release("run", first.token)
    assert claims.owner("run") is None
    assert claims.take("run", second, lambda _: True)
    claims.forget("run")
    assert not claims.all()


def take(folder: Path, results: "multiprocessing.Queue[bool]", start: float) -> None:
    while time.time() < start:
        pass
    results.put(Claims(folder).take("run", Owner(), lambda owner: owner.token != "dead"))


@pytest.mark.parametrize("stale", [False, True])
def test_a_race_has_one_winner(tmp_path: Path, stale: bool) -> None:
    """Also over a claim whose owner is dead: one takes it over, and nobody takes it from that one."""
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        if stale:
            assert Claims(folder).take("run", Owner(token="dead"), lambda _: True)
        results: multiprocessing.Queue[bool] = context.Queue()
        start = time.time() + 0.05
        processes = [context.Process(target=take, args=(folder, results, start)) for _ in range(6)]
        for process in processes:
            process.start()
        assert sum(results.get(timeout=30) for _ in processes) == 1
        for process in processes:
            process.join()


def test_dead_processes_and_reused_numbers() -> None:
    alive = Owner()
    assert process_is_alive(alive, time.time)
    assert not process_is_alive(dataclasses.replace(alive, born="1"), time.time)  # the number is another process's now
    child = subprocess.Popen(["sleep", "60"])
    owner = Owner(pid=child.pid, born=process_birth(child.pid))
    assert process_is_alive(owner, time.time)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now: dead, though its number is taken
    assert not process_is_alive(owner, time.time)
    child.wait()
    assert not process_is_alive(owner, time.time)


def test_another_host_is_given_up_after_an_hour_of_silence() -> None:
    now = time.time()
    elsewhere = Owner(host="elsewhere", pid=1, time=now - 7200)
    assert process_is_alive(elsewhere, lambda: now - 60)
    assert not process_is_alive(elsewhere, lambda: now - 4000)
    assert process_is_alive(dataclasses.replace(elsewhere, time=now), lambda: 0.0)


def test_a_damaged_claim_is_nobodys(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert claims.take("run", Owner(), lambda _: True)
    (tmp_path / "run" / "1.json").write_text('{"token": ')
    assert claims.owner("run") is None
    assert claims.take("run", Owner(), lambda _: True)
