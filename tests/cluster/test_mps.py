"""Several runs on one GPU, without one: the daemon is a script of the same name, the machine is told how many GPUs."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.dispatch.cluster import read_cluster
from benchmarks.dispatch.job import Job
from benchmarks.dispatch.local import Machine, ProcessSlot, RunResources
from benchmarks.planning.plan import make_plan
from sskd import mps
from sskd.console.signals import Stopped, StopSignal
from sskd.mps import PIPES, Sharing, sharing
from tests import small
from tests.cluster.suite import PLUGIN, Suite

# what nvidia-cuda-mps-control does, as far as we ask for it; every call is noted in $CALLS
CONTROL = """#!/bin/sh
pid=${CUDA_MPS_PIPE_DIRECTORY:-$CALLS.none}/nvidia-cuda-mps-control.pid
if [ "$1" = -d ]; then
    [ -n "$BROKEN" ] && { echo "$BROKEN" >&2; exit 1; }
    echo "start $CUDA_VISIBLE_DEVICES $CUDA_MPS_LOG_DIRECTORY" >> "$CALLS"
    sleep 600 > /dev/null 2>&1 &
    echo $! > "$pid"
    exit 0
fi
read -r command
[ -f "$pid" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
[ "$command" = quit ] || exit 0
echo quit >> "$CALLS"
[ -n "$OBSTINATE" ] && exit 0
kill $(cat "$pid") && rm "$pid"
"""
PER_PROCESS = """
import os
with open(os.environ["SEEN"], "a") as file:
    print(os.environ.get("CUDA_VISIBLE_DEVICES", "-"), os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "-"), file=file)
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the control program on PATH; the file that its calls are noted in."""
    control = tmp_path / "bin" / mps.CONTROL
    control.parent.mkdir()
    control.write_text(CONTROL)
    control.chmod(0o755)
    monkeypatch.setenv("PATH", str(control.parent), prepend=os.pathsep)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv(PIPES, raising=False)
    return tmp_path / "calls"


def lines(calls: Path) -> list[str]:
    return calls.read_text().splitlines() if calls.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def ends(pid: int) -> bool:
    """Returns True if the process ends within 30 seconds; on a busy machine, ending takes time."""
    until = time.monotonic() + 30
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def test_a_daemon_for_as_long_as_runs_share_a_gpu(calls: Path, tmp_path: Path) -> None:
    said: list[str] = []
    logs = tmp_path / "mps"
    with sharing([("2",), ("5",), ("2",), ("5",)], logs, said.append) as shared:
        assert lines(calls) == [f"start 2,5 {logs}"]
        pipes = Path(shared.environment[PIPES])
        pid = int((pipes / f"{mps.CONTROL}.pid").read_text())
        assert alive(pid)
        assert len(str(pipes)) < 60  # a socket lies in it
        assert shared.visible(("5",)) == ("1",)  # the daemon's second
    assert lines(calls)[1:] == ["quit"]
    assert ends(pid)
    assert not pipes.exists()
    assert len(said) == 1


def test_names_that_hold_everywhere_are_kept(calls: Path, tmp_path: Path) -> None:
    with sharing([("GPU-8a",), ("GPU-8a",)], tmp_path, print) as shared:
        assert shared.visible(("GPU-8a",)) == ("GPU-8a",)


def test_none_where_each_run_has_its_own(calls: Path, tmp_path: Path) -> None:
    with sharing([("0",), ("1",)], tmp_path, pytest.fail) as shared:
        assert shared.visible(("1",)) == ("1",)
    with sharing([(), ()], tmp_path, pytest.fail):
        pass
    assert lines(calls) == []


def test_where_there_is_no_mps_it_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    with sharing([("0",)] * 4, tmp_path, said.append) as shared:
        assert shared.environment == {}
    assert said == ["runs that share a GPU are time-sliced: there is no nvidia-cuda-mps-control"]


def test_one_that_does_not_start(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "An instance of this daemon is already running")
    said: list[str] = []
    with sharing([("0",), ("0",)], tmp_path, said.append) as shared:
        assert shared.environment == {}
    (line,) = said
    assert line.endswith("nvidia-cuda-mps-control -d: An instance of this daemon is already running")


def test_one_of_the_users_is_left_alone(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIPES, str(tmp_path))
    (tmp_path / f"{mps.CONTROL}.pid").write_text("0")
    with sharing([("0",), ("0",)], tmp_path, print) as shared:
        assert shared.environment == {}
    assert lines(calls) == []


def test_one_that_does_not_obey_is_ended(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSTINATE", "1")
    monkeypatch.setattr(mps, "PATIENCE", 0.3)
    with sharing([("0",), ("0",)], tmp_path, print) as shared:
        pid = int((Path(shared.environment[PIPES]) / f"{mps.CONTROL}.pid").read_text())
    assert ends(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(
    number: signal.Signals, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Callable[..., str] = mps._start

    def interrupted(*arguments: object) -> str:
        os.kill(os.getpid(), number)
        return start(*arguments)

    monkeypatch.setattr(mps, "_start", interrupted)
    with pytest.raises(Stopped) as end, sharing([("0",), ("0",)], tmp_path, print):
        pytest.fail("runs were started")
    assert end.value.status == 128 + number
    assert lines(calls)[1:] == ["quit"]


def test_a_process_is_told_of_its_gpu_and_of_the_daemon(tmp_path: Path) -> None:
    started: dict[str, Any] = {}
    context = SimpleNamespace(
        Pipe=lambda duplex: (None, nullcontext()),
        Process=lambda **given: started.update(given) or SimpleNamespace(start=lambda: None),
    )
    spec = small.spec(small.teacher())
    job = Job(make_plan([spec]), tmp_path / "runs", small.EXECUTION, read_cluster("local", []))
    shared = Sharing({PIPES: "/tmp/p"}, {"6": "1"})
    ProcessSlot(job, RunResources(1, ("6",)), context, tmp_path / "log", shared).start(spec, StopSignal())
    task, environment, _, _ = started["args"]
    assert task.resources.gpus == ("1",)
    assert environment[PIPES] == "/tmp/p"


@pytest.mark.parametrize("stopped", [pytest.param(False, marks=pytest.mark.slow), True])
def test_runs_side_by_side(
    stopped: bool, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two GPUs, two runs each: every process sees its own GPU and the daemon, which ends with them, or at Ctrl-C."""
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    machine = Machine([0], 1, None, ("4", "6"))
    monkeypatch.setattr("benchmarks.dispatch.local.this_machine", lambda: machine)
    (tmp_path / "note.py").write_text(PER_PROCESS)
    suite = Suite(
        tmp_path / "suite",
        *("--cluster", "local", "--only", "comparison"),
        *("--set", "cluster.runs_per_gpu=2", "cluster.cpus_per_run=1", "execution.threads=1", "execution.device=cpu"),
        methods=["none"],
        seeds=[0, 1, 2, 3],
        plugins=[PLUGIN, str(tmp_path / "note.py")],
    )
    if stopped:

        def end(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("benchmarks.dispatch.scheduler._Loop.collect", end)
    assert suite.run() == (130 if stopped else 0)
    assert lines(calls) == [f"start 4,6 {suite.jobs / 'mps'}", "quit"]
    assert capsys.readouterr().out.count("runs that share a GPU use MPS") == 1
    if not stopped:
        seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
        runs = sorted(gpu for gpu, pipes in seen if pipes != "-")
        assert runs == ["0", "0", "1", "1"]
        assert len({pipes for _, pipes in seen} - {"-"}) == 1
