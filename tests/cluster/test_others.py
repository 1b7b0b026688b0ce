"""Tests that status and cancel cover all runs in a results folder, independent of who started them."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.main import main
from benchmarks.dispatch.status import read_state
from sskd.console.progress import Standing
from tests import small
from tests.cluster.holding import Holds, asked_of_slurm, job, job_in, set_age, submitted
from tests.cluster.suite import Suite

KD = small.spec(small.student("kd"))


class Folder:
    """The results folder of a suite of one run, and what others have at work there."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str], holds: Holds) -> None:
        self.suite, self._capsys, self._holds = Suite(path, methods=["none"]), capsys, holds
        self.own = next(iter(self.state()["runs"]))["id"]

    def state(self) -> dict[str, Any]:
        assert self.suite.run("status", "--json") == 0
        return dict(json.loads(self.said()))

    def said(self) -> str:
        return self._capsys.readouterr().out

    def trained(self, run_id: str, **holder: str) -> "subprocess.Popen[str]":
        """Starts a process that holds the run's lock."""
        return self._holds(self.suite.runs / run_id / "train.lock", **holder)

    def launched(self, run_id: str, **holder: str) -> Path:
        """Starts a launcher of the run; its file."""
        file = self.suite.jobs / "launchers" / f"{run_id}.json"
        self._holds(file, runs=[run_id], starts=True, **holder)
        return file

    def progress(self, run_id: str, age: float = 0.0) -> None:
        """Writes a run's progress file with an age in seconds."""
        file = self.suite.runs / run_id / "progress.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        standing = Standing("main", 2, 12, 50.0, 651.0, 70, 2)._asdict()
        file.write_text(json.dumps(standing | {"host": "here", "job": "", "time": 0.0}))
        set_age(file, age)

    def cancel_all(self) -> str:
        assert main(["cancel", "--all", "--results", str(self.suite.results)]) == 0
        return self.said()


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], holds: Holds) -> Folder:
    return Folder(tmp_path, capsys, holds)


# --- what others have at work ---------------------------------------------------------------------------------------


def test_status_names_what_other_requests_have_at_work(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs are trained by a process, wait for a job, or are planned by a launcher or for a node. Finished runs and
    those of dead processes are not named."""
    asked_of_slurm(monkeypatch, job("7", "sskd-b", "PENDING", "Priority") | job("8", "sskd-n"))
    for name, pool in (("b", False), ("n", True), ("over", False)):
        submitted(folder.suite.jobs, f"sskd-{name}", f"student-{name}", pool=pool)
    for name in ("a", "done", "dead"):
        process = folder.trained(f"student-{name}")
        folder.progress(f"student-{name}")
    process.kill()
    process.wait()
    (folder.suite.runs / "student-done" / "result.json").touch()
    folder.launched(KD.id)
    found = folder.state()
    others = {row["id"]: (row["state"], row["why"], row["images_per_second"]) for row in found["others"]}
    assert others == {
        "student-a": ("running", "", 651),
        "student-b": ("waiting", "pending: Priority", None),
        "student-n": ("waiting", "for a free slot", None),
        KD.id: ("waiting", "for a free slot", None),
    }
    assert len(found["launchers"]) == 2
    assert folder.suite.run("status") == 0
    assert "of another request: student-a: running, epoch 2/12, top-1 50.00, 651 images/s" in folder.said()


@pytest.mark.parametrize("everything", [True, False])
def test_cancel_ends_all_in_the_folder_or_what_was_asked_for(
    everything: bool, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the launchers that would start the next run."""
    queue = job("7")
    asked_of_slurm(monkeypatch, queue)
    submitted(folder.suite.jobs, "sskd-b", "student-job")
    runs = (folder.own, "student-other")
    processes, files = [folder.trained(run_id) for run_id in runs], [folder.launched(run_id) for run_id in runs]
    if everything:
        shown = folder.cancel_all()
        assert "3 runs told to save and end" in shown
        assert processes[1].wait(10) == -signal.SIGTERM
    else:
        assert folder.suite.run("cancel", "--only", "comparison", "--seeds", "0") == 0
        shown = folder.said()
        assert "1 run told to save and end" in shown
        assert "2 runs of other requests continue: student-job, student-other" in shown
        assert processes[1].poll() is None
    assert processes[0].wait(10) == -signal.SIGTERM
    assert (not queue) == everything
    assert [file.exists() for file in files] == [False, not everything]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another user's", r"student-x: process \d+ of bob on \S+ belongs to another user"),
        ("gone meanwhile", ""),
        ("on another host", r"student-x: process \d+ of bob on elsewhere cannot be ended from this host"),
        ("on another host, with its launcher", ""),
        ("another user's job", "1 job of bob: scancel failed: denied"),
    ],
)
def test_what_cannot_be_cancelled_is_a_line(
    kind: str, words: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are ended, and nothing is a traceback."""
    asked_of_slurm(monkeypatch, job("7"), refused="scancel failed: denied")
    elsewhere = {"host": "elsewhere"} if "host" in kind else {}
    folder.suite.jobs.mkdir(parents=True)
    if "job" in kind:
        submitted(folder.suite.jobs, "sskd-b", "student-x", user="bob")
    else:
        folder.trained("student-x", user="bob", **elsewhere)
    if "launcher" in kind:
        folder.launched("student-x", **elsewhere)
    errors = {"another user's": PermissionError(1, "no"), "gone meanwhile": ProcessLookupError(3, "no")}

    def kill(pid: int, number: int) -> None:
        raise errors[kind]

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", kill)
        shown = folder.cancel_all()
    assert f"{int('launcher' in kind)} run" in shown
    assert re.search(words, shown)
    assert len(shown.splitlines()) == (2 if words else 1)


def test_what_earlier_versions_left_is_passed_over(folder: Folder) -> None:
    """Claims, launchers, counts and notes of cancelling, also damaged ones."""
    claim = json.dumps({"token": "a", "host": "here", "pid": os.getpid(), "born": "1", "user": "u", "batch": "b"})
    files = {
        f"claims/{folder.own}/1.json": claim,
        "launchers/here-7/1.json": claim,
        "launchers/here-7/runs.json": json.dumps([folder.own]),
        "launchers/here.json": "[]",
        f"attempts/{folder.own}.json": '{"lost": 3}',
        "cancelled": f"{folder.own}\n",
        "batches/sskd-x.json": "{",
        "batches/sskd-y.json": '{"runs": "r", "ids": 7, "retries": {}}',
    }
    for name, text in files.items():
        (folder.suite.jobs / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.suite.jobs / name).write_text(text)
    found = folder.state()
    assert ([row["state"] for row in found["runs"]], found["launchers"], found["others"]) == (["to do"], [], [])
    assert folder.suite.run("cancel") == 0
    assert "0 runs told" in folder.said()


# --- what is said of a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slurm", "held", "age", "expected"),
    [
        # whatever the run itself said before it was requeued
        (("PENDING", "Resources"), False, 2, ("waiting", None, "pending: Resources")),
        (("COMPLETING", "None"), True, 2, ("waiting", None, "completing: None")),
        (("REQUEUE_HOLD", "JobHoldMaxRequeue"), False, 2, ("waiting", None, "requeue_hold: JobHoldMaxRequeue")),
        (("RUNNING", "None"), False, 5, ("running", 651, "")),
        # a job that has been started again, or a process that hangs, says nothing for a while
        (("RUNNING", "None"), False, 3600, ("running", None, "last heartbeat 1 h 0 min ago")),
        (None, True, 5, ("running", 651, "")),
        (None, True, 3600, ("running", None, "last heartbeat 1 h 0 min ago")),
        (None, False, 600, ("to do", None, "interrupted: run_all.py resumes it; last heartbeat 10 min 0 s ago")),
    ],
)
def test_what_is_said_of_a_run(
    slurm: tuple[str, str] | None,
    held: bool,
    age: float,
    expected: tuple[str, int | None, str],
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if slurm:
        asked_of_slurm(monkeypatch, job("7", "sskd-b", *slurm))
        submitted(folder.suite.jobs, "sskd-b", folder.own)
    if held:
        folder.trained(folder.own)
    folder.progress(folder.own, age)
    (row,) = folder.state()["runs"]
    assert (row["state"], row["images_per_second"], re.sub(r"\d+ s ago", "0 s ago", row["why"])) == expected
    assert row["last_sign"] == pytest.approx(age, abs=30)


def test_of_a_silent_slurm_nothing_is_taken_for_lost(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of_slurm(monkeypatch, {}, silent=True)
    submitted(folder.suite.jobs, "sskd-b", folder.own)
    found = folder.state()
    assert found["runs"][0]["state"] == "waiting"
    assert "Unable to contact" in found["slurm"]
    assert folder.suite.run("cancel") == 2
    folder.trained(folder.own)  # it goes on, as its lock says
    assert folder.state()["runs"][0]["state"] == "running"


def test_a_failed_need_is_named(tmp_path: Path) -> None:
    (teacher,) = KD.dependencies
    job = job_in(tmp_path, KD)
    job.folder(teacher).create()
    job.folder(teacher).save_failure("it broke")
    found = [(row.id, row.state, row.why) for row in read_state(job, {}).runs]
    why = f"not started: it needs {teacher.id}, which failed"
    assert found == [(teacher.id, "failed", "it broke"), (KD.id, "failed", why)]
