"""The one lock of a run, and the files of launchers: one taker, whatever happens at the same time."""

import getpass
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch.launchers import launchers, launching, note_background, planned_by
from sskd.errors import UserError
from sskd.runs.files import Holder, Locked, hold, lock_holder, read_lock, this_process
from sskd.runs.run_folder import RunFolder, RunLocked
from tests import small
from tests.cluster.holding import Holds, job_in

SPEC = small.spec(small.teacher())


def take(lock: Path, results: "multiprocessing.Queue[bool]", start: float, end: Any) -> None:
    while time.time() < start:
        pass
    try:
        with hold(lock):
            results.put(True)
            end.wait(30)
    except Locked:
        results.put(False)


@pytest.mark.parametrize("left_by_the_dead", [False, True])
def test_a_race_has_one_winner(tmp_path: Path, left_by_the_dead: bool, holds: Holds) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        lock = tmp_path / f"{attempt}.lock"
        if left_by_the_dead:
            other = holds(lock)
            other.kill()
            other.wait()
            assert lock.exists()
        results: multiprocessing.Queue[bool] = context.Queue()
        start, end = time.time() + 0.05, context.Event()
        processes = [context.Process(target=take, args=(lock, results, start, end)) for _ in range(6)]
        for process in processes:
            process.start()
        assert sum(results.get(timeout=30) for _ in processes) == 1
        end.set()
        for process in processes:
            process.join()
        assert not lock.exists()


def test_who_holds_a_run(tmp_path: Path, holds: Holds) -> None:
    """Also for a user who may not write there; the system frees the lock of a process that was killed."""
    folder = RunFolder(tmp_path, SPEC)
    other = holds(folder.lock, job="17_3")
    assert folder.lock_holder() == this_process()._replace(pid=other.pid, job="17_3")
    folder.lock.chmod(0o444)
    assert str(folder.lock_holder()) == f"job 17_3 of {this_process().user}"
    with pytest.raises(RunLocked, match="job 17_3"), folder.locked():
        pytest.fail("it is held")
    other.kill()
    other.wait()
    assert folder.lock_holder() is None
    with folder.locked():
        assert json.loads(folder.lock.read_text())["pid"] == os.getpid()


def test_one_that_only_asks_does_not_keep_a_run_from_being_trained(tmp_path: Path) -> None:
    lock = tmp_path / "train.lock"
    with hold(lock):
        pass
    lock.touch()
    assert read_lock(lock) == (False, {})
    with hold(lock):
        assert lock.exists()


# the numbers mean other processes, or none
DAMAGED = ["", "{", "[]", "[" * 100_000, "\x00", *(json.dumps({"pid": pid}) for pid in (-1, 0, 2**40, None, "7", True))]


@pytest.mark.parametrize("content", DAMAGED)
def test_what_a_lock_file_says_may_be_damaged(tmp_path: Path, content: str, holds: Holds) -> None:
    lock = tmp_path / "train.lock"
    holds(lock)
    lock.write_text(content)
    assert lock_holder(lock) == Holder()
    assert str(lock_holder(lock)) == "another process"


@pytest.mark.parametrize("place", ["/proc/nowhere/lock", "file/below", "a" * 300])
def test_a_lock_that_cannot_be_made_is_an_error(tmp_path: Path, place: str) -> None:
    """Else the launcher would wait for whoever has the run, for ever."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), hold(tmp_path / place):
        pytest.fail("there is none")
    assert read_lock(tmp_path / place) == (False, {})


@pytest.mark.parametrize(
    "error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set in the environment")]
)
def test_a_user_and_a_machine_without_names(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user has only a number, as in some containers: the number is used as the name, and locks work."""

    def fails() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fails)
    monkeypatch.setattr(platform, "node", lambda: "")
    with hold(tmp_path / "lock"):
        said = json.loads((tmp_path / "lock").read_text())
    assert (said["user"], said["host"]) == (str(os.getuid()), "localhost")


# --- launchers ------------------------------------------------------------------------------------------------------


def test_a_launcher_is_told_to_end_by_its_file(tmp_path: Path, holds: Holds) -> None:
    job, file = job_in(tmp_path, SPEC), tmp_path / "jobs" / "launchers" / "node-7.json"
    holds(file, host="node", runs=[SPEC.id], starts=True)
    (launcher,) = launchers(job.jobs_folder)
    assert planned_by([launcher, launcher._replace(starts=False, runs=frozenset("x"))]) == {SPEC.id}
    launcher.cancel()
    assert launchers(job.jobs_folder) == []
    with launching(job) as cancelled:
        (own,) = (job.jobs_folder / "launchers").iterdir()
        assert not cancelled()
        own.unlink()
        assert cancelled()
    with launching(job) as cancelled:
        assert not cancelled()
    assert not list((job.jobs_folder / "launchers").iterdir())


def test_the_dead_launch_nothing(tmp_path: Path, holds: Holds) -> None:
    job = job_in(tmp_path, SPEC)
    other = holds(tmp_path / "jobs" / "launchers" / "a.json", runs=[SPEC.id], starts=True)
    note_background(job, other.pid)  # which has not begun: it is known by its number and its birth
    assert [launcher.began for launcher in launchers(job.jobs_folder)] == [True, False]
    (noted,) = (job.jobs_folder / "launchers").glob(f"*-{other.pid}.json")
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"born": "1"}))  # another process of this number
    assert [launcher.began for launcher in launchers(job.jobs_folder)] == [True]
    other.kill()
    other.wait()
    assert launchers(job.jobs_folder) == []


def test_where_nothing_can_be_noted_a_plan_is_executed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "jobs").touch()
    with launching(job_in(tmp_path, SPEC)) as cancelled:
        assert not cancelled()
