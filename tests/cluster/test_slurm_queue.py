"""Slurm's queue and limits, of a Slurm that says what a test wants."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch import slurm
from benchmarks.dispatch.retries import read_slurm_submission
from benchmarks.dispatch.slurm import submit
from benchmarks.dispatch.slurm_queue import Queue, job_limits
from tests import small
from tests.cluster.holding import asked_of_slurm, job, job_in, submitted
from tests.cluster.suite import Suite

KD = small.spec(small.student("kd"))
TEACHER = KD.dependencies[0]


def test_slurm_is_asked_once_for_all_jobs_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never where nothing was submitted; jobs that carry other names are passed over."""
    queue = job("7_1", "sskd-b") | job("9", "another's") | job("8", "sskd-c", "PENDING")
    commands = asked_of_slurm(monkeypatch, queue)
    assert Queue(tmp_path).runs() == set()
    assert commands == []
    submitted(tmp_path, "sskd-b", "x", "y")
    submitted(tmp_path, "sskd-c", "z", pool=True)
    submitted(tmp_path, "sskd-d", "over")
    found = Queue(tmp_path)
    assert len(commands) == 1
    assert {run_id: job.number for run_id, job in found.tasks.items()} == {"y": "7_1"}
    assert [job.ids for job in found.pools] == [["z"]]
    found.forget_old(tmp_path)
    assert sorted(file.name for file in (tmp_path / "batches").iterdir()) == ["sskd-b.json", "sskd-c.json"]


@pytest.mark.parametrize(
    ("settings", "limits", "refused"),
    [
        ("time=2:00:00", "gpu*|1:00:00", "the limit of partition 'gpu', 60 minutes"),
        ("time=1-0 partition=long", "gpu*|1:00:00\nlong|23:59:00", "partition 'long', 1439 minutes"),
        ("time=3:00:00 partition=gpu,big", "gpu|1:00:00\nbig|2:00:00", "partition 'big', 120 minutes"),
        ("time=90 partition=gpu,big", "gpu|1:00:00\nbig|2:00:00", ""),
        ("time=2-0", "gpu*|infinite", ""),
        ("time=2:00:00 qos=long", "gpu*|1:00:00", ""),  # which may have a limit of its own
        ("time=2:00:00 partition=nowhere", "gpu*|1:00:00", ""),  # sbatch says that
        ("time=null", "gpu*|1:00:00", ""),
        ("time=2:00:00", None, ""),
    ],
)
def test_a_plan_refuses_a_time_above_the_partitions_limit(
    settings: str,
    limits: str | None,
    refused: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``limits``: what sinfo prints; None: it does not answer."""
    asked_of_slurm(monkeypatch, {}, limits=limits or "", silent=limits is None)
    options = [f"cluster.{setting}" for setting in settings.split()]
    status = Suite(tmp_path, methods=["none"]).run("plan", "--cluster", "slurm", "--set", *options)
    assert status == (2 if refused else 0)
    assert refused in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "reason", "state", "replaced"),
    [
        ({}, "Priority", "PENDING", False),
        ({"time": 5}, "Priority", "PENDING", True),
        ({"gpus_per_run": 8}, "PartitionTimeLimit", "PENDING", True),
        ({"time": 5}, "None", "RUNNING", False),
        ({}, "PartitionTimeLimit", "PENDING", False),
    ],
)
def test_waiting_jobs_of_other_limits_are_replaced(
    before: dict[str, Any],
    reason: str,
    state: str,
    replaced: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And those that wait for one of them. Jobs that will never start are named."""
    work = replace(job_in(tmp_path / "s", KD, cluster="slurm", settings=["time=60"]), name="mine")
    queue = job("7", "sskd-b", state, reason) | job("8", "sskd-c", "PENDING", "Dependency")
    commands, said = asked_of_slurm(monkeypatch, queue), list[str]()
    again: list[tuple[list[str], str]] = []
    submitted(work.jobs_folder, "sskd-b", TEACHER.id, asked=job_limits(work.cluster) | before)
    submitted(work.jobs_folder, "sskd-c", KD.id, asked=job_limits(work.cluster))

    def submit_jobs(cluster: Any, jobs: Path, noted: Path, tasks: Any, processes: int, after: str) -> list[str]:
        assert noted.stem.startswith("sskd-mine-")
        again.append((read_slurm_submission(noted).ids, after))
        number = str(100 + len(again))
        queue.update(job(number, noted.stem, "PENDING", "Priority"))
        return [number for _ in tasks]

    monkeypatch.setattr(slurm, "submit_jobs", submit_jobs)
    monkeypatch.setattr(slurm, "check_parameters", lambda *_: None)
    assert submit(work, said.append) == {}
    assert any(command[0] == "scancel" for command in commands) == replaced
    assert again == ([([TEACHER.id], ""), ([KD.id], "afterok:101")] if replaced else [])
    assert any("outdated limits" in line for line in said) == replaced
    never = reason == "PartitionTimeLimit" and not replaced
    assert any("1 job will never start (PartitionTimeLimit)" in line for line in said) == never
    assert set(Queue(work.jobs_folder).tasks) == {TEACHER.id, KD.id}
