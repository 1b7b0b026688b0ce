"""No interruption changes a number: crashes, kills, signals, damaged checkpoints, two processes at once."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import sskd.training.step
from benchmarks.dispatch.worker import attempt
from sskd.__main__ import main
from sskd.console.signals import ENDING, stop_signal
from sskd.networks import NETWORKS
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.checkpoint import RunState
from sskd.training.run import Interrupted, StepEvent, train
from tests import small

SSKD = small.spec(small.student("sskd", with_head=True))
KD = small.spec(small.student("kd"))


class Crash(BaseException):
    """An exception that nothing catches, like a power failure."""


def crash_at(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Lets the ``at``-th write to a disk be the last thing that happens."""
    count = 0
    for name in ("replace", "fsync"):
        original = getattr(os, name)

        def hooked(*arguments: Any, original: Any = original) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise Crash
            return original(*arguments)

        monkeypatch.setattr(os, name, hooked)


@pytest.mark.slow
def test_a_crash_at_any_write_changes_nothing(runs: Path, tmp_path: Path) -> None:
    """Crashes at every write and rename of a run, resumes, and compares the end with an undisturbed run."""
    small.link_needs(runs, tmp_path / "whole", KD)
    small.train_all(KD, tmp_path / "whole")
    expected = small.metrics(tmp_path / "whole" / KD.id)
    at, crashed = 1, True
    while crashed:
        folder = tmp_path / str(at)
        small.link_needs(runs, folder, KD)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, at)
            try:
                train(KD, folder, small.EXECUTION)
                crashed = False
            except Crash:
                pass
        if crashed:
            train(KD, folder, small.EXECUTION)
        assert small.metrics(folder / KD.id) == expected, f"after a crash at write {at}"
        resumed, uninterrupted = (load_file(base / KD.id / "best.safetensors") for base in (folder, tmp_path / "whole"))
        assert all(torch.equal(resumed[key], uninterrupted[key]) for key in uninterrupted)
        at += 1
    assert at > 8


def test_stopped_inside_an_epoch_and_resumed(runs: Path, tmp_path: Path) -> None:
    small.link_needs(runs, tmp_path, SSKD)
    # of three steps in an epoch: in the middle of each, and when the last is trained
    assert small.train_with_stops(SSKD, tmp_path, every=2) == 3
    assert small.metrics(tmp_path / SSKD.id) == small.metrics(runs / SSKD.id)


def test_dropout_continues_inside_an_epoch(tmp_path: Path) -> None:
    """A network of one's own that draws from torch's own generator."""

    @NETWORKS.register("dropping")
    def dropping(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(48, num_classes))

    spec = small.spec(small.teacher(network="dropping"))
    train(spec, tmp_path / "whole", small.EXECUTION)
    assert small.train_with_stops(spec, tmp_path / "stopped", every=2) > 1
    assert small.metrics(tmp_path / "stopped" / spec.id) == small.metrics(tmp_path / "whole" / spec.id)


def test_of_equal_epochs_the_first_is_the_best() -> None:
    rows = [{"epoch": epoch, "test_top1": top1} for epoch, top1 in ((1, 50.0), (2, 70.0), (3, 70.0), (4, 60.0))]
    run: Any = SimpleNamespace(_main_rows=lambda: rows)
    assert RunState.highest(run, "test_top1")["epoch"] == 2


@pytest.mark.slow
def test_sigkill_and_resume(runs: Path, tmp_path: Path) -> None:
    """A real process, killed twice while it works, ends with the metrics of one that was left alone."""
    spec = small.spec(small.student("sskd", True, recipe=small.RECIPE | {"epochs": 12}))
    for place in ("killed", "whole"):
        small.link_needs(runs, tmp_path / place, spec)

    def start(place: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sskd", *small.train_command(spec, tmp_path / place)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    metrics = tmp_path / "killed" / spec.id / "metrics.jsonl"
    for lines in (2, 6):
        process = start("killed")
        while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < lines):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (metrics.parent / "result.json").exists()
    for place in ("killed", "whole"):
        process = start(place)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert small.metrics(tmp_path / "killed" / spec.id) == small.metrics(tmp_path / "whole" / spec.id)


def test_damaged_checkpoints(runs: Path, tmp_path: Path) -> None:
    """The last one damaged: on from the one before. Both: from the start. Each is named and set aside."""
    small.link_needs(runs, tmp_path, KD)
    folder = RunFolder(tmp_path, KD)
    calls = 0

    def in_the_second_epoch() -> bool:
        nonlocal calls
        calls += 1
        return calls == 4  # of three steps in each

    with pytest.raises(Interrupted):
        train(KD, tmp_path, small.EXECUTION, should_stop=in_the_second_epoch)
    assert folder.previous.exists()
    whole = folder.resume.read_bytes()
    folder.resume.write_bytes(whole[: len(whole) // 2])
    assert goes_on(KD, tmp_path) == ((2, 1), ["resuming from the previous one"])
    folder.resume.write_bytes(whole[: len(whole) // 2])
    folder.previous.write_bytes(b"garbage")
    assert goes_on(KD, tmp_path) == ((1, 1), ["resuming from the previous one", "starting again"])
    train(KD, tmp_path, small.EXECUTION)
    small.train_all(KD, runs)
    assert small.metrics(tmp_path / KD.id) == small.metrics(runs / KD.id)


def goes_on(spec: RunSpec, runs: Path) -> tuple[tuple[int, int], list[str]]:
    """The first (epoch, step) of a run that is stopped at once, and how what it said of its checkpoints ends."""
    steps: list[StepEvent] = []
    said: list[str] = []
    with pytest.raises(Interrupted):
        train(spec, runs, small.EXECUTION, steps.append, said.append, lambda: True)
    assert all("resume" in line and "cannot be used (" in line for line in said)
    return (steps[0].epoch, steps[0].step), [line.rpartition(", ")[2] for line in said]


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("empty", lambda state: {}),
        ("a list", lambda state: [1, 2]),
        ("a key less", lambda state: {key: value for key, value in state.items() if key != "rows"}),
        ("no modules", lambda state: state | {"modules": {}}),
        ("other modules", lambda state: state | {"modules": {"fc.weight": torch.zeros(3)}}),
        ("other shapes", lambda state: state | {"modules": {k: v[:1] for k, v in state["modules"].items() if v.dim()}}),
        ("no optimiser", lambda state: state | {"optimizer": {}}),
        ("another stage", lambda state: state | {"stage": 7}),
        ("a word for a number", lambda state: state | {"epoch": "two"}),
        ("epochs that nobody noted", lambda state: state | {"rows": []}),
        ("epochs without numbers", lambda state: state | {"rows": [{} for _ in state["rows"]]}),
        ("another run's", lambda state: state | {"run": "teacher-resnet8-digits-s0-000000000000"}),
        ("no random state", lambda state: state | {"random": torch.zeros(3, dtype=torch.uint8)}),
    ],
)
def test_checkpoints_that_load_and_do_not_fit(name: str, spoil: Any, two_checkpoints: Path) -> None:
    """Set aside, and the one before is tried: never a traceback, and the numbers of an undisturbed run."""
    folder = RunFolder(two_checkpoints, KD)
    torch.save(spoil(torch.load(folder.resume, weights_only=True)), folder.resume)
    assert goes_on(KD, two_checkpoints) == ((2, 1), ["resuming from the previous one"])
    assert (folder.path / "resume.damaged").exists()


@pytest.fixture(scope="module")
def stopped(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KD, stopped in its second epoch."""
    path = tmp_path_factory.mktemp("stopped")
    small.link_needs(runs, path, KD)
    asked = iter([False] * 4 + [True])  # of three steps in an epoch
    with pytest.raises(Interrupted):
        train(KD, path, small.EXECUTION, should_stop=lambda: next(asked))
    return path


@pytest.fixture
def two_checkpoints(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(stopped, tmp_path / "runs", symlinks=True))


# --- signals, and several processes: python -m sskd train -------------------------------------------------------------


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: signal.Signals) -> None:
    """This process gets the signals in the given step of the first epoch that is trained."""
    original, done = sskd.training.step.train_step, 0

    def stepped(run: Any, batch: Any) -> None:
        nonlocal done
        original(run, batch)
        done += 1
        if done == step:
            for number in numbers:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(sskd.training.step, "train_step", stepped)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_told_to_end_it_saves_inside_the_epoch(
    number: signal.Signals, status: int, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.link_needs(runs, tmp_path, KD)
    handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    outside = signal.signal(number, handler)  # tests that nohup started ignore SIGHUP
    try:
        with pytest.MonkeyPatch.context() as patch:
            signal_at(patch, 2, number)
            assert main(small.train_command(KD, tmp_path)) == status
        assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, outside)
    shown = capsys.readouterr().err.strip()
    assert shown.startswith(f"sskd: {KD.id} was asked to stop")
    assert "inside epoch 1 of 2" in shown
    assert "\n" not in shown
    state = torch.load(RunFolder(tmp_path, KD).resume, weights_only=True)
    assert (state["epoch"], state["step"]) == (0, 2)
    if number != signal.SIGTERM:  # how it goes on does not depend on the signal
        return
    assert main(small.train_command(KD, tmp_path)) == 0
    small.train_all(KD, runs)
    assert small.metrics(tmp_path / KD.id) == small.metrics(runs / KD.id)
    assert not (tmp_path / KD.id / "train.lock").exists()


def test_a_closed_terminal_ends_only_what_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started with nohup continues. Output to a file is kept; nothing more is written to the
    terminal."""
    left: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "dup2", lambda new, old: left.append((new, old)))
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result([stat.S_IFCHR if fd == 2 else stat.S_IFREG] + [0] * 9))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signal(*ENDING) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop_signal(*ENDING) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [old for _, old in left] == [2]


def test_a_second_ctrl_c_ends_at_once(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small.link_needs(runs, tmp_path, KD)
    signal_at(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    assert main(small.train_command(KD, tmp_path)) == 130
    assert "sskd: stopped" in capsys.readouterr().err
    assert not RunFolder(tmp_path, KD).resume.exists()


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print('{"pid": 7, "host": "another-host", "user": "ann", "job": ""}', file=file, flush=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second says who has the run, leaves its folder alone, and may have it when the first was killed."""
    small.link_needs(runs, tmp_path, KD)
    folder = RunFolder(tmp_path, KD)
    folder.create()
    arguments = [sys.executable, "-c", HOLD, str(folder.lock)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert main(small.train_command(KD, tmp_path)) == 2
        assert f"sskd: {KD.id} is being trained by process 7 of ann on another-host" in capsys.readouterr().err
        failure = attempt(KD, tmp_path, lambda: train(KD, tmp_path, small.EXECUTION) and None)
        assert failure is not None
        assert "process 7 of ann on another-host" in failure.message
        assert not folder.failure.exists()
        assert not folder.metrics.exists()
        other.kill()
    assert main(small.train_command(KD, tmp_path)) == 0


@pytest.mark.slow  # Python is started four times
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_several_processes_of_a_run_end_together(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """A real command, whose whole process group gets the signal, as from a terminal or from ``timeout``."""
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"epochs": 5000, "processes": 2}))
    arguments = [sys.executable, "-m", "sskd", *small.train_command(spec, tmp_path), "--threads", "1"]
    folder = RunFolder(tmp_path, spec)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not folder.read_metrics():
            time.sleep(0.1)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "inside epoch" in errors
    assert torch.load(folder.resume, weights_only=True)["step"] > 0
    assert not folder.lock.exists()


# --- the best weights, where an epoch that is trained again comes out otherwise: on a GPU -----------------------------

BEST = small.spec(small.teacher(recipe=small.RECIPE | {"epochs": 4}))


def train_scored(
    patch: pytest.MonkeyPatch, runs: Path, scores: dict[int, float], trained: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """Trains the run with these scores by epoch; notes in ``trained`` what each epoch has trained."""
    original = sskd.training.run._measure_epoch

    def measured(run: Any, first: bool) -> dict[str, Any]:
        row = original(run, first)
        with torch.no_grad():  # as sums in another order would change it
            for parameter in run.task.output.parameters():
                parameter.mul_(1 + 1e-3 * scores[row["epoch"]])
        trained[row["epoch"]] = {k: v.clone() for k, v in run.task.output.state_dict().items()}
        return row | {"test_top1": scores[row["epoch"]]}

    with patch.context() as inner:
        inner.setattr(sskd.training.run, "_measure_epoch", measured)
        return train(BEST, runs, small.EXECUTION, log=lambda _: None)


def crash_before(patch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """The ``at``-th call of a method of run folders is a power cut."""
    original, calls = getattr(RunFolder, name), 0

    def hooked(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Crash
        return original(*arguments)

    patch.setattr(RunFolder, name, hooked)


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("where", "at", "damaged", "again", "best"),
    [
        slow("save_checkpoint", 3, 0, {3: 5.0, 4: 6.0}, 2),  # the third epoch is done again
        ("write_weights", 3, 0, {4: 6.0}, 3),  # checkpoint and no weights: those of the checkpoint
        slow("append_metrics", 3, 0, {4: 6.0}, 3),
        ("append_metrics", 3, 1, {3: 5.0, 4: 6.0}, 2),  # back to the checkpoint before: its best weights are back
        slow("append_metrics", 3, 1, {3: 5.0, 4: 99.0}, 4),
        slow("append_metrics", 3, 2, {1: 1.0, 2: 9.0, 3: 5.0, 4: 6.0}, 2),  # no checkpoint is left
        slow("save_result", 1, 0, {}, 3),
        ("write_weights", 4, 0, {}, 3),  # the last epoch's: the checkpoint has them
    ],
)
def test_best_weights_are_of_the_epoch_that_the_result_names(
    where: str, at: int, damaged: int, again: dict[int, float], best: int, tmp_path: Path
) -> None:
    first = {1: 10.0, 2: 50.0, 3: 90.0, 4: 20.0}
    trained: dict[int, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        crash_before(patch, where, at)
        with pytest.raises(Crash):
            train_scored(patch, tmp_path, first, trained)
    folder = RunFolder(tmp_path, BEST)
    for path in folder.checkpoints()[:damaged]:
        path.write_bytes(b"garbage")
    with pytest.MonkeyPatch.context() as patch:
        result = train_scored(patch, tmp_path, first | again, trained)
    assert result["best"]["epoch"] == best
    for which, epoch in (("best", best), ("last", 4)):
        kept = load_file(folder.weights(which))
        assert all(torch.equal(kept[name], trained[epoch][name]) for name in kept)
    assert not folder.previous_best.exists()


@pytest.mark.slow
def test_a_checkpoint_whose_best_weights_are_gone_is_not_gone_on_from(tmp_path: Path) -> None:
    scores, trained = {1: 50.0, 2: 10.0, 3: 10.0, 4: 10.0}, dict[int, dict[str, Any]]()
    with pytest.MonkeyPatch.context() as patch:
        crash_before(patch, "append_metrics", 2)
        with pytest.raises(Crash):
            train_scored(patch, tmp_path, scores, trained)
        RunFolder(tmp_path, BEST).weights("best").unlink()
    with pytest.MonkeyPatch.context() as patch:
        assert train_scored(patch, tmp_path, scores, trained)["best"]["epoch"] == 1
    kept = load_file(RunFolder(tmp_path, BEST).weights("best"))
    assert all(torch.equal(kept[name], trained[1][name]) for name in kept)
