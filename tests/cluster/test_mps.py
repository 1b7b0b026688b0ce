"""Several runs on one GPU, without one: the daemon is a script of the same name, the machine is told how many GPUs."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.dispatch import local
from benchmarks.dispatch.local import Machine, ProcessSlot, RunResources
from sskd import mps
from sskd.console.signals import Stopped, StopSignal
from sskd.mps import PIPES, Sharing, sharing
from tests import small
from tests.cluster.holding import job_in
from tests.cluster.slurm_site import wait_for
from tests.cluster.suite import Suite

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
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_daemon_for_as_long_as_runs_share_a_gpu(calls: Path, tmp_path: Path) -> None:
    said: list[str] = []
    logs = tmp_path / "mps"
    with sharing([("GPU-8a",), ("5",), ("GPU-8a",), ("5",)], logs, said.append) as shared:
        assert lines(calls) == [f"start GPU-8a,5 {logs}"]
        pipes = Path(shared.environment[PIPES])
        pid = int((pipes / f"{mps.CONTROL}.pid").read_text())
        assert alive(pid)
        assert len(str(pipes)) < 60  # a socket lies in it
        assert shared.visible(("5", "GPU-8a")) == ("1", "GPU-8a")  # the daemon's second; names hold everywhere
    assert lines(calls)[1:] == ["quit"]
    wait_for(lambda: not alive(pid), 30, "the end of the daemon")
    assert not pipes.exists()
    assert len(said) == 1


SHARED = [("0",), ("0",)]


@pytest.mark.parametrize(
    ("gpu_sets", "variables", "said"),
    [
        ([("0",), ("1",)], {}, []),  # each run has its own
        ([(), ()], {}, []),
        (SHARED, {"PATH": "/nowhere"}, ["runs that share a GPU are time-sliced: there is no nvidia-cuda-mps-control"]),
        (SHARED, {"BROKEN": "no"}, ["runs that share a GPU are time-sliced: nvidia-cuda-mps-control -d: no"]),
        (SHARED, {PIPES: "."}, ["runs that share a GPU use the running MPS daemon"]),
    ],
)
def test_no_daemon(
    gpu_sets: list[tuple[str, ...]],
    variables: dict[str, str],
    said: list[str],
    calls: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason why runs cannot share a GPU is printed once; a daemon that the user started is left alone."""
    monkeypatch.chdir(tmp_path)
    Path(f"{mps.CONTROL}.pid").write_text("0")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []
    with sharing(gpu_sets, tmp_path, told.append) as shared:
        assert shared == Sharing()
    assert told == said
    assert lines(calls) == []


def test_one_that_does_not_obey_is_ended(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSTINATE", "1")
    monkeypatch.setattr(mps, "PATIENCE", 0.3)
    with sharing([("0",), ("0",)], tmp_path, print) as shared:
        pid = int((Path(shared.environment[PIPES]) / f"{mps.CONTROL}.pid").read_text())
    wait_for(lambda: not alive(pid), 30, "the end of the daemon")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(
    number: signal.Signals, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Callable[..., str] = mps._start

    def interrupted(*arguments: object) -> str:
        os.kill(os.getpid(), number)
        return start(*arguments)

    monkeypatch.setattr(mps, "_start", interrupted)
    with pytest.raises(Stopped) as end, sharing(SHARED, tmp_path, print):
        pytest.fail("runs were started")
    assert end.value.status == 128 + number
    assert lines(calls)[1:] == ["quit"]


def test_a_process_is_told_of_its_gpu_and_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Any] = {}
    context = SimpleNamespace(
        Pipe=lambda duplex: (None, nullcontext()),
        Process=lambda **given: started.update(given) or SimpleNamespace(start=lambda: None),
    )
    spec = small.spec(small.teacher())
    job = job_in(tmp_path, spec, cluster="local")
    shared = Sharing({PIPES: "/tmp/p"}, {"6": "1"})
    ProcessSlot(job, RunResources(1, ("6",)), context, shared).start(spec, StopSignal())
    seen = tmp_path / "seen"
    monkeypatch.setattr(
        local, "execute", lambda *_: seen.write_text(f"{os.environ[mps.VISIBLE]} {os.environ[PIPES]}") and None
    )
    process = multiprocessing.get_context("fork").Process(target=started["target"], args=started["args"])
    process.start()
    process.join()
    assert seen.read_text() == "1 /tmp/p"


def test_the_daemon_of_runs_side_by_side_ends_at_ctrl_c(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two GPUs, two runs each."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.dispatch.local.this_machine", lambda: Machine([0], 1, None, ("4", "6")))
    monkeypatch.setattr("benchmarks.dispatch.scheduler._Loop.collect", end)
    settings = ("cluster.runs_per_gpu=2", "cluster.cpus_per_run=1", "execution.threads=1", "execution.device=cpu")
    suite = Suite(tmp_path / "suite", "--cluster", "local", "--set", *settings, methods=["none"], seeds=[0, 1, 2, 3])
    assert suite.run() == 130
    assert lines(calls) == [f"start 4,6 {suite.jobs / 'mps'}", "quit"]
    assert capsys.readouterr().out.count("runs that share a GPU use MPS") == 1
