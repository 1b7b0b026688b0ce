"""Tests the progress display: the screen in a terminal, plain lines in a log, and a notification at the end."""

import io
import json
import multiprocessing
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.commands.notify import notify
from benchmarks.dispatch import status
from benchmarks.dispatch.launch import launch
from benchmarks.dispatch.status import RunRow, State, read_state, watch
from sskd.console.progress import Progress, Standing
from sskd.console.screen import ScreenRow, totals
from sskd.console.signals import Stopped, StopSignal
from tests import small
from tests.cluster.holding import job_in
from tests.cluster.suite import Suite

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines_with(self, *words: str) -> list[str]:
        """The lines that it has shown, without colours, with these words."""
        lines = ESCAPES.sub("", self.getvalue()).splitlines()
        return [line for line in lines if all(word in line for word in words)]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, lines: int = 30) -> Iterator[Terminal]:
    """A terminal in place of stdout."""
    with monkeypatch.context() as patch:
        for name, value in (("TERM", "xterm"), ("COLUMNS", "200"), ("LINES", str(lines))):
            patch.setenv(name, value)
        shown = Terminal()
        patch.setattr(sys, "stdout", shown)
        yield shown


def test_the_screen_of_a_suite_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown, Progress(5) as progress:
        progress.wait("student-a", "for teacher-b")
        progress.show("teacher-b", Standing("main", 2, 3, 50.0, 120.0, 70, 2))
        progress.show("teacher-c", Standing("main", 1, 3, None, 900.0, 7, 4, 1))
        progress.failed("student-d", "it diverged")
        progress._screen.refresh()
        progress.hide("teacher-b")
    assert shown.lines_with("teacher-b", "running", "2/3", "50.00", "120", "1 min 10 s", "2 cores")
    assert shown.lines_with("teacher-c", "running", "1/3", "900", "7 s", "1 GPU")
    assert shown.lines_with("student-d", "failed", "it diverged")
    assert shown.lines_with("student-a", "waiting", "for teacher-b")
    assert shown.lines_with("0/5 finished, 2 running on 1 GPU and 2 cores, 1020 images/s, 1 failed, 1 waiting")


def test_what_a_terminal_has_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, lines=12) as shown, Progress(40) as progress:
        for number in range(30):
            progress.wait(f"student-{number}", "for its turn")
        progress.failed("student-x", "it diverged")
        progress._screen.refresh()
    assert shown.lines_with("student-x", "failed")
    assert shown.lines_with("and 25 waiting")
    assert not shown.lines_with("student-29")


def test_totals() -> None:
    rows = [ScreenRow("a", "running", images_per_second=10.0, cores=1), ScreenRow("b", "waiting")]
    assert totals(rows, 3, 5, "2 s") == "3/5 finished, 1 running on 1 core, 10 images/s, 1 waiting, about 2 s left"
    assert totals([], 5, 5) == "5/5 finished"


# --- what others run ------------------------------------------------------------------------------------------------


def states() -> list[State]:
    """A suite of two runs as it gets on: begun, taught, between two runs, done."""

    def state(first: RunRow, second: RunRow, *launchers: str) -> State:
        return State([first, second], {"comparison": dict.fromkeys(status.STATES, 0)}, launchers=launchers)

    done = RunRow("teacher-a", "finished", epoch=3, epochs=3, top1=90.0)
    waits = RunRow("student-b", "waiting", "for teacher-a")
    runs = RunRow("teacher-a", "running", epoch=2, epochs=3, images_per_second=55.0, seconds_left=9, cores=1)
    return [
        state(runs, waits, "process 7"),
        state(done, RunRow("student-b", "to do"), "process 7"),
        state(done, RunRow("student-b", "running", epoch=1, epochs=3, cores=1)),
        state(done, RunRow("student-b", "failed", "it diverged")),
    ]


@pytest.fixture
def a_suite_of_others(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has ``watch`` see the states of ``states()``, one a look."""
    sequence = iter(states())
    monkeypatch.setattr(status, "read_state", lambda job, cells: next(sequence))
    monkeypatch.setattr(status, "REFRESH_SECONDS", 0.0)
    return SimpleNamespace(cluster=SimpleNamespace(kind="local"))


def test_watching_in_a_log(a_suite_of_others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    state = watch(a_suite_of_others, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "teacher-a: running, epoch 2/3, 55 images/s, 9 s left"
    assert [line.split(" ", 1)[1] for line in lines[3:7]] == [
        "teacher-a: finished, epoch 3/3, top-1 90.00",
        "student-b: to do",
        "student-b: running, epoch 1/3",
        "student-b: failed, it diverged",
    ]
    assert lines[7:] == ["1/2 finished, 1 failed"]
    assert not state.all_finished


def test_watching_in_a_terminal(a_suite_of_others: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        watch(a_suite_of_others, {})
    assert shown.lines_with("teacher-a", "running", "2/3", "55", "9 s", "1 core")
    assert shown.lines_with("student-b", "waiting", "for teacher-a")
    assert shown.lines_with("1/2 finished, 1 failed")


@pytest.mark.slow
def test_a_suite_that_another_process_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status shows the suite immediately, before the background process has locked any run."""
    places = ("cluster.runs_at_once=2", "cluster.cpus_per_run=1", "cluster.poll_seconds=0.2")
    suite = Suite(tmp_path, "--cluster", "local", "--set", *places, "--only", "comparison")
    message = tmp_path / "message"
    assert suite.run("--detach") == 0
    assert suite.run("watch", "--notify", f"printf '%s: %s' $SSKD_STATUS >{message}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "5/5 finished"
    assert any(": waiting, for teacher-" in line for line in lines), lines
    assert any(": finished, " in line for line in lines)
    assert message.read_text() == "finished: tiny: 5/5 finished"
    assert not list((suite.jobs / "launchers").iterdir())
    progress = json.loads(next(suite.runs.glob("student-*/progress.json")).read_text())
    assert (progress["cores"], progress["gpus"]) == (1, 0)


def test_who_executes_a_plan_is_known_while_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_in(tmp_path, small.spec(small.student("kd")))
    context = multiprocessing.get_context("fork")
    seen: multiprocessing.Queue[dict[str, tuple[str, str]]] = context.Queue()

    def seen_by_another() -> None:
        seen.put({row.id.partition("-")[0]: (row.state, row.why) for row in read_state(job, {}).runs})

    def start(slot: Any, spec: Any, stop: StopSignal) -> None:
        other = context.Process(target=seen_by_another)
        other.start()
        other.join()
        stop.receive(signal.SIGTERM, None)

    monkeypatch.setattr("benchmarks.dispatch.local.InlineSlot.start", start)
    with pytest.raises(Stopped), Progress(2) as progress:
        launch(job, progress)
    assert not read_state(job, {}).at_work
    rows = seen.get(timeout=30)
    assert rows["teacher"] == ("waiting", "for a free slot")
    assert rows["student"][0] == "waiting"


# --- a message at the end -------------------------------------------------------------------------------------------


# the summary is also the command's last argument
TELL = """printf '%s|%s|%s\\n' "$SSKD_STATUS" "$SSKD_SUMMARY" >>told"""


def told() -> list[str]:
    """The last message: state, summary and argument."""
    return Path("told").read_text().splitlines()[-1].split("|")


def test_a_message_when_all_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.dispatch.launch.launch", lambda *_: {})
    monkeypatch.chdir(tmp_path)
    suite = Suite(tmp_path / "suite", "--only", "comparison", methods=["none"])
    assert suite.run("--notify", TELL) == 0
    words = f"tiny: 1 run; {(suite.results / 'tiny').resolve()}"
    assert told() == ["finished", words, words]


def test_a_message_when_it_fails_or_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = Suite(tmp_path / "suite", "--notify", TELL, dataset={"name": "npz", "path": "nowhere.npz"})
    assert suite.run() == 2
    assert told()[:2] == ["failed", capsys.readouterr().err.strip().removeprefix("run_all: ")]

    def stopped(*_: Any) -> None:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("benchmarks.commands.run.act", stopped)
    assert suite.run() == 128 + signal.SIGTERM
    assert told()[0] == "interrupted"
    assert told()[1].startswith("stopped; the same command resumes")


def test_a_message_that_cannot_be_sent_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, problem in (
        ("exit 3 #", "ended with status 3"),
        ("no-such-program", "ended with status 127"),
        ("echo wrong >&2; false", "ended with status 1 (wrong)"),
    ):
        notify(command, 0, "all is well")
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"run_all: the command of --notify {problem}")
        assert line.endswith(command)
    monkeypatch.setattr("benchmarks.commands.notify.PATIENCE", 0.1)
    notify("sleep 5 #", 0, "all is well")
    assert "has not ended within 0 s" in capsys.readouterr().err
