"""No interruption changes a number: crashes, kills, signals, damaged checkpoints, two processes at once."""

import itertools
import os
import shutil
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import sskd.training.step
from sskd.__main__ import main
from sskd.console.signals import ENDING, stop_signal
from sskd.networks import NETWORKS
from sskd.runs.run_folder import RunFolder
from sskd.training.run import Interrupted, StepEvent, train
from tests import small
from tests.cluster.holding import Holds

SSKD = small.spec(small.student("sskd", with_head=True))
KD = small.spec(small.student("kd"))


class Crash(BaseException):
    """An exception that nothing catches, like a power failure."""


def crash_at(patch: pytest.MonkeyPatch, at: int, owner: Any, *names: str) -> None:
    """The ``at``-th call of one of these functions is a power cut."""
    calls = 0
    for name in names:
        original = getattr(owner, name)

        def hooked(*arguments: Any, original: Any = original) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Crash
            return original(*arguments)

        patch.setattr(owner, name, hooked)


@pytest.mark.slow
def test_a_crash_at_any_write_changes_nothing(runs: Path, tmp_path: Path) -> None:
    """Crashes at every write and rename of a run, resumes, and compares the end with an undisturbed run."""
    small.train_all(KD, runs)
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        small.link_needs(runs, folder, KD)
        with pytest.MonkeyPatch.context() as patch, suppress(Crash):
            crash_at(patch, at, os, "replace", "fsync")
            train(KD, folder, small.EXECUTION)
            break
        train(KD, folder, small.EXECUTION)
        assert small.metrics(folder / KD.id) == small.metrics(runs / KD.id), f"after a crash at write {at}"
        resumed, uninterrupted = (load_file(base / KD.id / "best.safetensors") for base in (folder, runs))
        assert all(torch.equal(resumed[key], uninterrupted[key]) for key in uninterrupted)
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
    small.assert_resumes(spec, tmp_path)


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
def two_checkpoints(stopped: Path, tmp_path: Path) -> RunFolder:
    """A copy of it."""
    return RunFolder(Path(shutil.copytree(stopped, tmp_path / "runs", symlinks=True)), KD)


def resumed_at(folder: RunFolder) -> tuple[tuple[int, int], list[str]]:
    """The first (epoch, step) of a run that is stopped at once, and how what it said of its checkpoints ends."""
    steps: list[StepEvent] = []
    said: list[str] = []
    with pytest.raises(Interrupted):
        train(folder.spec, folder.path.parent, small.EXECUTION, steps.append, said.append, lambda: True)
    assert all("resume" in line and "cannot be used (" in line for line in said)
    return (steps[0].epoch, steps[0].step), [line.rpartition(", ")[2] for line in said]


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda state: [1, 2],
    "a key less": lambda state: {key: value for key, value in state.items() if key != "rows"},
    "other modules": lambda state: state | {"modules": {"fc.weight": torch.zeros(3)}},
    "an optimiser of other modules": lambda state: state | {"optimizer": cut(state["optimizer"])},
    "another stage": lambda state: state | {"stage": 7},
    "an epoch too many": lambda state: state | {"rows": state["rows"] * 2},
    "epochs without numbers": lambda state: state | {"rows": [{} for _ in state["rows"]]},
    "another run's": lambda state: state | {"run": "teacher-resnet8-digits-s0-000000000000"},
}


def cut(optimizer: dict[str, Any]) -> dict[str, Any]:
    """The optimiser's state with averages of other shapes."""
    averages = {number: {"momentum_buffer": torch.zeros(7)} for number in optimizer["state"]}
    return optimizer | {"state": averages}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_does_not_fit_is_set_aside(damage: str, two_checkpoints: RunFolder) -> None:
    newest = two_checkpoints.resume
    torch.save(DAMAGES[damage](torch.load(newest, weights_only=True)), newest)
    assert resumed_at(two_checkpoints) == ((2, 1), ["resuming from the previous one"])
    assert (two_checkpoints.path / "resume.damaged").exists()


def test_without_a_usable_checkpoint_it_starts_again(two_checkpoints: RunFolder, runs: Path) -> None:
    two_checkpoints.resume.write_bytes(two_checkpoints.resume.read_bytes()[:9999])
    two_checkpoints.previous.write_bytes(b"garbage")
    assert resumed_at(two_checkpoints) == ((1, 1), ["resuming from the previous one", "starting again"])
    train(KD, two_checkpoints.path.parent, small.EXECUTION)
    small.train_all(KD, runs)
    assert small.metrics(two_checkpoints.path) == small.metrics(runs / KD.id)


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


@pytest.mark.parametrize(
    ("numbers", "status"),
    [((signal.SIGTERM,), 143), ((signal.SIGINT,), 130), ((signal.SIGHUP,), 129), ((signal.SIGINT, signal.SIGINT), 130)],
)
def test_told_to_end_it_saves_inside_the_epoch(
    numbers: tuple[signal.Signals, ...], status: int, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a second Ctrl-C it ends at once."""
    small.link_needs(runs, tmp_path, KD)
    handler = signal.default_int_handler if signal.SIGINT in numbers else signal.SIG_DFL
    outside = signal.signal(numbers[0], handler)  # tests that nohup started ignore SIGHUP
    try:
        with pytest.MonkeyPatch.context() as patch:
            signal_at(patch, 2, *numbers)
            assert main(small.train_command(KD, tmp_path)) == status
        assert signal.getsignal(numbers[0]) == handler
    finally:
        signal.signal(numbers[0], outside)
    (line,) = capsys.readouterr().err.strip().splitlines()
    folder = RunFolder(tmp_path, KD)
    assert folder.resume.exists() == ("inside epoch 1 of 2" in line) == (len(numbers) == 1)
    if folder.resume.exists():
        state = torch.load(folder.resume, weights_only=True)
        assert (state["epoch"], state["step"]) == (0, 2)


@pytest.mark.parametrize(("handler", "received"), [(signal.SIG_IGN, None), (signal.SIG_DFL, signal.SIGHUP)])
def test_a_closed_terminal_ends_only_what_it_belongs_to(
    handler: signal.Handlers, received: signal.Signals | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process under nohup continues; any other writes nothing more to the terminal, but still to files."""
    left: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda new, old: left.append(old))
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result([stat.S_IFCHR if fd == 2 else stat.S_IFREG] + [0] * 9))
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with stop_signal(*ENDING) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received == received
    finally:
        signal.signal(signal.SIGHUP, before)
    assert left == ([2] if received else [])


def test_one_process_at_a_time(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], holds: Holds) -> None:
    """The second names the first and leaves its folder alone; it trains the run after the first was killed."""
    small.link_needs(runs, tmp_path, KD)
    folder = RunFolder(tmp_path, KD)
    other = holds(folder.lock, user="ann")
    assert main(small.train_command(KD, tmp_path)) == 2
    assert f"sskd: {KD.id} is being trained by process {other.pid} of ann on " in capsys.readouterr().err
    assert not folder.failure.exists()
    assert not folder.metrics.exists()
    other.kill()
    other.wait()
    assert main(small.train_command(KD, tmp_path)) == 0


# --- the best weights, where an epoch that is trained again comes out otherwise: on a GPU -----------------------------

BEST = small.spec(small.teacher(recipe=small.RECIPE | {"epochs": 4}))


def train_scored(runs: Path, scores: dict[int, float], trained: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Trains the run with these scores by epoch; notes in ``trained`` what each epoch has trained."""
    original = sskd.training.run._measure_epoch

    def measured(run: Any, first: bool) -> dict[str, Any]:
        row = original(run, first)
        with torch.no_grad():  # as sums in another order would change it
            for parameter in run.task.output.parameters():
                parameter.mul_(1 + 1e-3 * scores[row["epoch"]])
        trained[row["epoch"]] = {k: v.clone() for k, v in run.task.output.state_dict().items()}
        return row | {"test_top1": scores[row["epoch"]]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sskd.training.run, "_measure_epoch", measured)
        return train(BEST, runs, small.EXECUTION, log=lambda _: None)


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("where", "at", "damaged", "again", "best"),
    [
        slow("save_checkpoint", 3, 0, {3: 5.0, 4: 6.0}, 1),  # the third epoch is done again
        ("write_weights", 2, 0, {4: 6.0}, 3),  # checkpoint and no weights: those of the checkpoint
        ("append_metrics", 3, 1, {3: 5.0, 4: 6.0}, 1),  # back to the checkpoint before: its best weights are back
        slow("append_metrics", 3, 2, {1: 1.0, 2: 9.0, 3: 5.0, 4: 6.0}, 2),  # no checkpoint is left
        slow("save_result", 1, 0, {}, 3),
        ("write_weights", 3, 0, {}, 3),  # the last epoch's: the checkpoint has them
        slow("append_metrics", 4, "best", {4: 90.0}, 3),  # the checkpoint before has the best weights
    ],
)
def test_best_weights_are_of_the_epoch_that_the_result_names(
    where: str, at: int, damaged: int | str, again: dict[int, float], best: int, tmp_path: Path
) -> None:
    first = {1: 50.0, 2: 10.0, 3: 90.0, 4: 90.0}  # of equal epochs the first is the best
    trained: dict[int, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, at, RunFolder, where)
        with pytest.raises(Crash):
            train_scored(tmp_path, first, trained)
    folder = RunFolder(tmp_path, BEST)
    for path in [folder.weights("best")] if damaged == "best" else folder.checkpoints()[:damaged]:
        path.write_bytes(b"garbage")
    anew: dict[int, dict[str, Any]] = {}
    result = train_scored(tmp_path, first | again, anew)
    assert anew.keys() == again.keys()
    trained |= anew
    assert result["best"]["epoch"] == best
    for which, epoch in (("best", best), ("last", 4)):
        kept = load_file(folder.weights(which))
        assert all(torch.equal(kept[name], trained[epoch][name]) for name in kept)
    assert not folder.previous_best.exists()
