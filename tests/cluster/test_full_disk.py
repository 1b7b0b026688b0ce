"""A real disk that is full: one line says so, nothing is left half-written, and with space again all goes on."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from benchmarks.dispatch.retries import SlurmSubmission, read_slurm_submission, retry
from benchmarks.dispatch.worker import ProgressFile, log_line
from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.runs.files import check_writable, hold
from sskd.runs.run_folder import RunFolder
from sskd.training.run import StepEvent, train
from tests import small
from tests.benchmarks.made import finish
from tests.cluster.suite import Suite

PAGE = 4096  # tmpfs gives space by pages: up to the end of one, a file grows on a full disk too
LONG = "x" * (2 * PAGE)
FULL = "cannot .*: (No space left on device|the disk is full)"


class Disk:
    """A disk of a few MB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def fill(self, but: int = 0) -> None:
        """Leaves so many bytes."""
        there = os.statvfs(self.path)
        self.ballast.write_bytes(bytes(there.f_bavail * there.f_frsize - but))

    def empty(self) -> None:
        self.ballast.unlink()

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path != self.ballast
        }


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


SPEC = small.spec(small.teacher())
WEIGHTS = {"weight": torch.ones(5000)}
ROW = {"epoch": 1, "note": LONG}
STEP = StepEvent("main", 1, 2, 3, 4, 5.0, ROW)


ACTS: dict[str, Callable[[RunFolder], object]] = {
    "place": lambda folder: check_writable(jobs_of(folder)),
    "spec": lambda folder: folder.create(),
    "metrics": lambda folder: folder.append_metrics(ROW),
    "all metrics": lambda folder: folder.rewrite_metrics([ROW, ROW]),
    "checkpoint": lambda folder: folder.save_checkpoint(WEIGHTS),
    "weights": lambda folder: folder.write_weights("best", folder.weights_file(WEIGHTS, 1)),
    "result": lambda folder: folder.save_result(ROW),
    "failure": lambda folder: folder.save_failure(LONG),
    "log": lambda folder: log_line(folder.path, LONG),
    "progress": lambda folder: ProgressFile(folder.path)(STEP),
    "submission": lambda folder: SlurmSubmission(folder.path, [LONG], 2, "", {}).save(jobs_of(folder) / "sent.json"),
    "retry": lambda folder: retry(folder.path, 0, 1, LONG),
    "lost": lambda folder: retry(folder.path, 0, 0, LONG),
}


def jobs_of(folder: RunFolder) -> Path:
    return folder.path.parent.parent / "jobs"


FITS = ["place", "spec", "progress"]  # into a page
SILENT = ["log", "progress", "retry"]


@pytest.mark.parametrize("but", [0, PAGE])
@pytest.mark.parametrize("kind", ACTS)
def test_every_kind_of_file(disk: Disk, kind: str, but: int) -> None:
    """The disk has no space, or only for the first part of the file. The file stays as it was or absent, and is later
    written completely."""
    folder = RunFolder(disk.path / "runs", SPEC)
    folder.path.mkdir(parents=True)
    (disk.path / "jobs").mkdir()
    folder.append_metrics({"epoch": 0})
    log_line(folder.path, "before")
    before = disk.files()
    disk.fill(but)
    fits = bool(but) and kind in FITS
    with nullcontext() if fits or kind in SILENT else pytest.raises(UserError, match=FULL):
        ACTS[kind](folder)
    assert fits or disk.files() == before
    disk.empty()
    ACTS[kind](folder)
    now = disk.files()
    assert (now == before) == (kind == "place")
    assert not [name for name in now if re.search(r"partial|draft|/\.now", name)]
    if kind == "metrics":
        assert [row["epoch"] for row in folder.read_metrics()] == [0, 1]
    if kind == "log":
        assert [len(line) for line in now[f"runs/{SPEC.id}/log.txt"].splitlines()] == [26, 20 + len(LONG)]
    if kind == "submission":
        assert read_slurm_submission(disk.path / "jobs" / "sent.json").ids == [LONG]


def test_a_lock_needs_no_space(disk: Disk) -> None:
    """Only who holds it cannot be read; with space again it can."""
    lock = disk.path / "train.lock"
    disk.fill()
    with hold(lock):
        assert lock.exists()
    assert not lock.exists()
    disk.empty()
    with hold(lock):
        assert "pid" in lock.read_text()


def test_report(disk: Disk) -> None:
    """Wherever the space ends, every file of the report is the old one or the new one, whole; with space again all are
    new."""
    profile = read_profile("paper", ["seeds=[0,1]", "methods=[none,kd]"])
    cells = {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile.for_benchmark("comparison")))}
    report = disk.path / "report"

    def finished(points: float) -> None:
        shutil.rmtree(report / "runs", ignore_errors=True)
        finish(cells, report / "runs", lambda spec: points + spec.seed + 0.1 * len(spec.id))

    def found() -> dict[str, bytes]:
        return {name: text for name, text in disk.files().items() if "/runs/" not in name}

    def reported(points: float) -> dict[str, bytes]:
        finished(points)
        write_report(profile, cells, report)
        return found()

    new, old = reported(72.0), reported(71.0)
    assert all(
        old[name] != new[name] for name in ("report/index.html", "report/comparison.csv", "report/comparison.png")
    )
    finished(72.0)
    for but in (0, 6 * PAGE):
        disk.fill(but)
        with pytest.raises(UserError, match="cannot write .*: No space left on device"):
            write_report(profile, cells, report)
        assert found().keys() == old.keys()
        assert [name for name, text in found().items() if text not in (old[name], new[name])] == []
        disk.empty()
        for name, text in old.items():
            (disk.path / name).write_bytes(text)
    assert reported(72.0) == new


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the thread that writes
def test_curves_for_tensorboard_do_not_end_a_run(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = partial(SummaryWriter, str(disk.path / "board"), max_queue=1)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", lambda _, purge_step: board(purge_step=purge_step))

    def report(step: StepEvent) -> None:
        if step.epoch == step.step == 1:
            disk.fill()

    spec = small.spec(small.teacher(recipe=small.RECIPE | {"epochs": 12}))  # more than what the last page takes
    said: list[str] = []
    train(spec, tmp_path, small.EXECUTION, report, log=said.append)
    assert (tmp_path / spec.id / "result.json").exists()
    (line,) = said
    assert line.startswith("tensorboard "), line


INLINE = ("--cluster", "inline")
LOCAL = ("--cluster", "local", "--set", "cluster.runs_at_once=2", "cluster.cpus_per_run=1")
FREE = [0, 4 * PAGE, 16 * PAGE, 64 * PAGE, 150 * PAGE, 250 * PAGE]


@pytest.mark.parametrize(
    ("cluster", "but"),
    [(INLINE, FREE[1])]
    + [pytest.param(INLINE, but, marks=pytest.mark.slow) for but in (FREE[0], *FREE[2:])]
    + [pytest.param(LOCAL, but, marks=pytest.mark.slow) for but in FREE],
)
def test_a_suite(
    disk: Disk, tmp_path: Path, cluster: tuple[str, ...], but: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the space ends: status 2 and one line; the same command then ends with the metrics of one left alone."""
    whole = Suite(tmp_path / "whole", *INLINE, "--only", "comparison", methods=["none"])
    suite = Suite(disk.path, *cluster, "--only", "comparison", methods=["none"])
    assert whole.run() == 0
    capsys.readouterr()
    disk.fill(but)
    assert suite.run() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(r"^run_all: .*(No space left on device|the disk is full)", line)
    disk.empty()
    assert suite.run() == 0
    assert suite.metrics() == whole.metrics()
    assert names_of(suite) - {"local.log"} <= names_of(whole)


def names_of(suite: Suite) -> set[str]:
    return {re.sub(r"events.*", "events", path.name) for path in suite.results.rglob("*") if path.is_file()}
