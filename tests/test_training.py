"""The loop: the same spec gives the same numbers, and no interruption changes them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sskd.training.loop
import sskd.training.student
from benchmarks.dispatch.worker import attempt
from sskd.__main__ import main
from sskd.errors import UserError
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, spec_yaml
from sskd.training.loop import Interrupted, StepEvent, train
from sskd.training.meter import Meter
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs: a teacher, its head, and an SSKD student of it."""
    path = tmp_path_factory.mktemp("runs")
    small.train_all(SSKD, path)
    return path


SSKD = small.spec(small.student("sskd", with_head=True))


def copy_needs(runs: Path, target: Path, spec: RunSpec) -> None:
    """Makes the runs that ``spec`` needs known in another folder."""
    target.mkdir(exist_ok=True)
    for needed in spec.needs:
        os.symlink(runs / needed.id, target / needed.id)


def test_what_a_run_leaves(runs: Path) -> None:
    folder = runs / SSKD.id
    assert {p.name.split(".tfevents")[0] for p in folder.iterdir()} >= {
        "spec.yaml",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "result.json",
        "events.out",
    }
    assert not list(folder.glob("resume*"))
    assert not list(folder.glob("*.partial"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert set(rows[0]) >= {
        *(
            "stage",
            "rate",
            "loss",
            "loss_ce",
            "loss_kd",
            "loss_t",
            "loss_ss",
            "head_accuracy",
            "ss_kept",
            "t_kept",
        ),
        *("test_top1", "test_top5", "test_loss", "seconds", "images_per_second"),
    }
    weights = {"ce": 0.1, "kd": 0.9, "t": 2.7, "ss": 10.0}
    assert rows[0]["loss"] == pytest.approx(sum(w * rows[0][f"loss_{name}"] for name, w in weights.items()), rel=1e-5)
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["epoch"] == 2
    best = max(rows, key=lambda row: row["test_top1"])
    assert result["best"]["test_top1"] == best["test_top1"]
    assert 0 <= result["cka"] <= 1
    assert result["kl"] > 0
    assert result["machine"]["torch"] == torch.__version__


def test_same_spec_same_metrics(runs: Path, tmp_path: Path) -> None:
    copy_needs(runs, tmp_path, SSKD)
    torch.manual_seed(99)  # what ran before must not matter
    small.train_all(SSKD, tmp_path)
    assert small.metrics(tmp_path / SSKD.id) == small.metrics(runs / SSKD.id)
    resumed, uninterrupted = (load_file(base / SSKD.id / "last.safetensors") for base in (tmp_path, runs))
    assert all(torch.equal(resumed[key], uninterrupted[key]) for key in uninterrupted)


def test_only_the_student_and_its_method_are_trained(runs: Path, tmp_path: Path) -> None:
    copy_needs(runs, tmp_path, SSKD)
    job = build_task(prepare(SSKD, tmp_path, small.EXECUTION))
    learned = {id(p) for p in job.modules.parameters()}
    trained = {id(p) for stage in job.stages for p in stage.parameters}
    assert trained == learned  # all that is saved is trained, and nothing else: no teacher, no teacher's head


def test_no_run_changes_its_teacher(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights and running statistics, after a whole training with it."""
    kept = []
    original = sskd.training.student.load_teacher

    def remember(setup: Any, teacher: Any) -> Any:
        network = original(setup, teacher)
        kept.append((network, {key: value.clone() for key, value in network.state_dict().items()}))
        return network

    monkeypatch.setattr(sskd.training.student, "load_teacher", remember)
    copy_needs(runs, tmp_path, SSKD)
    train(SSKD, tmp_path, small.EXECUTION)
    network, before = kept[0]
    assert not network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


class Crash(BaseException):
    """As a power cut: nothing catches it."""


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


KD = small.spec(small.student("kd"))


@pytest.mark.slow
def test_a_crash_at_any_write_changes_nothing(runs: Path, tmp_path: Path) -> None:
    """Crashes at every write and rename of a run, resumes, and compares the end with an undisturbed run."""
    copy_needs(runs, tmp_path / "whole", KD)
    small.train_all(KD, tmp_path / "whole")
    expected = small.metrics(tmp_path / "whole" / KD.id)
    at, crashed = 1, True
    while crashed:
        folder = tmp_path / str(at)
        copy_needs(runs, folder, KD)
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
    copy_needs(runs, tmp_path, SSKD)
    steps = 0

    def after_two_steps() -> bool:
        nonlocal steps
        steps += 1
        return steps % 2 == 0  # of three in an epoch: in the middle of each, and when the last is trained

    stops = 0
    while True:
        try:
            train(SSKD, tmp_path, small.EXECUTION, should_stop=after_two_steps)
            break
        except Interrupted:
            stops += 1
    assert stops == 3
    assert small.metrics(tmp_path / SSKD.id) == small.metrics(runs / SSKD.id)


@pytest.mark.slow
def test_sigkill_and_resume(runs: Path, tmp_path: Path) -> None:
    """A real process, killed twice while it works, ends with the metrics of one that was left alone."""
    spec = small.spec(small.student("sskd", True, recipe=small.RECIPE | {"epochs": 12}))
    for place in ("killed", "whole"):
        copy_needs(runs, tmp_path / place, spec)
    (tmp_path / "spec.yaml").write_text(spec_yaml(spec))

    def start(place: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "sskd",
            "train",
            str(tmp_path / "spec.yaml"),
            "--runs",
            str(tmp_path / place),
        ]
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
    copy_needs(runs, tmp_path, KD)
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
    assert goes_on(KD, tmp_path) == ((2, 1), ["going on from the one before"])
    folder.resume.write_bytes(whole[: len(whole) // 2])
    folder.previous.write_bytes(b"garbage")
    assert goes_on(KD, tmp_path) == ((1, 1), ["going on from the one before", "starting again"])
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
    assert goes_on(KD, two_checkpoints) == ((2, 1), ["going on from the one before"])
    assert (folder.path / "resume.damaged").exists()


@pytest.fixture
def two_checkpoints(runs: Path, tmp_path: Path) -> Path:
    """KD, stopped in its second epoch."""
    copy_needs(runs, tmp_path, KD)
    asked = iter([False] * 4 + [True])  # of three steps in an epoch
    with pytest.raises(Interrupted):
        train(KD, tmp_path, small.EXECUTION, should_stop=lambda: next(asked))
    return tmp_path


# --- the head ---------------------------------------------------------------------------------------------------------


def test_a_head_is_measured_once(runs: Path, tmp_path: Path) -> None:
    """After its last epoch, which alone is used; also when it was stopped before."""
    head = SSKD.head
    assert head is not None
    rows = small.metrics(runs / head.id)
    assert ["test_head_top1" in row for row in rows] == [False, True]
    result = json.loads((runs / head.id / "result.json").read_text())
    assert result["best"] == result["last"]
    assert result["last"]["epoch"] == 2
    assert result["last"]["test_head_top1"] == rows[-1]["test_head_top1"]
    best, last = (load_file(runs / head.id / f"{epoch}.safetensors") for epoch in ("best", "last"))
    assert all(torch.equal(best[key], last[key]) for key in last)
    copy_needs(runs, tmp_path, head)
    for asked in (iter([False, True]), iter([False, False, False, True])):
        with pytest.raises(Interrupted):
            train(head, tmp_path, small.EXECUTION, should_stop=asked.__next__)
    train(head, tmp_path, small.EXECUTION)
    assert small.metrics(tmp_path / head.id) == rows


# --- python -m sskd train ---------------------------------------------------------------------------------------------


def command(spec: RunSpec, runs: Path) -> list[str]:
    (runs / "spec.yaml").write_text(spec_yaml(spec))
    return ["train", str(runs / "spec.yaml"), "--runs", str(runs)]


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: signal.Signals) -> None:
    """This process gets the signals in the given step of the first epoch that is trained."""
    original, done = sskd.training.loop.train_step, 0

    def stepped(run: Any, batch: Any) -> None:
        nonlocal done
        original(run, batch)
        done += 1
        if done == step:
            for number in numbers:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(sskd.training.loop, "train_step", stepped)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_end_it_saves_inside_the_epoch(
    number: signal.Signals, status: int, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_needs(runs, tmp_path, KD)
    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, 2, number)
        assert main(command(KD, tmp_path)) == status
    assert signal.getsignal(number) == before
    shown = capsys.readouterr().err.strip()
    where = "saved inside epoch 1 of 2; the same command goes on from there"
    assert shown == f"sskd: {KD.id} was asked to stop, and is {where}"
    state = torch.load(RunFolder(tmp_path, KD).resume, weights_only=True)
    assert (state["epoch"], state["step"]) == (0, 2)
    assert main(command(KD, tmp_path)) == 0
    small.train_all(KD, runs)
    assert small.metrics(tmp_path / KD.id) == small.metrics(runs / KD.id)
    assert not (tmp_path / KD.id / "train.lock").exists()


def test_a_second_ctrl_c_ends_at_once(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_needs(runs, tmp_path, KD)
    signal_at(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    assert main(command(KD, tmp_path)) == 130
    assert "ended at once" in capsys.readouterr().err
    assert not RunFolder(tmp_path, KD).resume.exists()


def test_a_finished_run_is_not_trained_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = SSKD.head
    assert head is not None
    before = {path: path.stat().st_mtime_ns for path in (runs / head.id).iterdir()}
    assert main(command(head, runs)) == 0
    result = runs / head.id / "result.json"
    assert f"{head.id} is finished already; its result is in {result}" in capsys.readouterr().out
    assert train(head, runs, small.EXECUTION) == json.loads(result.read_text())
    assert {path: path.stat().st_mtime_ns for path in (runs / head.id).iterdir()} == before


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("process 7 on another-host", file=file, flush=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second says who has the run, leaves its folder alone, and may have it when the first was killed."""
    copy_needs(runs, tmp_path, KD)
    folder = RunFolder(tmp_path, KD)
    folder.create()
    arguments = [sys.executable, "-c", HOLD, str(folder.lock)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert main(command(KD, tmp_path)) == 2
        assert f"sskd: {KD.id} is being trained by process 7 on another-host" in capsys.readouterr().err
        failure = attempt(KD, tmp_path, lambda: train(KD, tmp_path, small.EXECUTION) and None)
        assert failure is not None
        assert "process 7 on another-host" in failure.message
        assert not folder.failure.exists()
        assert not folder.metrics.exists()
        other.kill()
    assert main(command(KD, tmp_path)) == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_train(precision: str, tmp_path: Path) -> None:
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"precision": precision, "epochs": 3}))
    result = small.train_all(spec, tmp_path)
    rows = small.metrics(tmp_path / spec.id)
    assert result["precision"] == precision
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_students_of_a_seed_start_and_see_the_same(runs: Path, tmp_path: Path) -> None:
    """Paired comparisons: the same first weights and the same batches, whatever the method."""
    copy_needs(runs, tmp_path, KD)
    starts = []
    for method in ("kd", "at", "vid"):
        spec = small.spec(small.student(method))
        job = build_task(prepare(spec, tmp_path, small.EXECUTION))
        loader = prepare(spec, tmp_path, small.EXECUTION).loader(job.stages[-1].views, "main")
        starts.append((job.modules["network"].state_dict(), next(iter(loader.epoch(0))).images))
    for weights, images in starts[1:]:
        assert all(torch.equal(weights[key], starts[0][0][key]) for key in weights)
        assert torch.equal(images, starts[0][1])


def test_errors_before_training(runs: Path, tmp_path: Path) -> None:
    def error(data: dict[str, Any], match: str) -> None:
        with pytest.raises(UserError, match=match):
            train(small.spec(data), tmp_path, small.EXECUTION)

    error(small.student("kd"), "needs the weights of teacher-resnet8.*train that run first")
    error(
        small.teacher(recipe=small.RECIPE | {"batch_size": 512}),
        "batch_size is 512, but the training set has",
    )
    weights = {"network": "resnet8", "weights": str(tmp_path / "t.safetensors")}
    error(small.student("kd", teacher=weights), "no weights file")
    from sskd.networks import build_network

    save_file(build_network("resnet8", 100).state_dict(), weights["weights"])
    error(small.student("kd", teacher=weights), "resnet8 with 10 classes: its classifier has 100 classes")
    error(small.student("kd", teacher=weights | {"sha256": "0" * 64}), "is not the file that the spec means")


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"learning_rate": 1e30}))
    with pytest.raises(UserError, match=r"diverged in epoch 1 of stage 'main': loss.* not finite"):
        train(spec, tmp_path, small.EXECUTION)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot create .*: Permission denied"):
        train(small.spec(small.teacher()), tmp_path, small.EXECUTION)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create .*: Not a directory"):
        train(small.spec(small.teacher()), tmp_path / "file", small.EXECUTION)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*spec\.yaml: No space left on device"):
        train(small.spec(small.teacher()), tmp_path, small.EXECUTION)


def test_meter_weighs_by_images_and_survives_saving() -> None:
    from sskd.methods import LossTerms

    meter = Meter()
    meter.add(torch.tensor(1.0), LossTerms({"ce": torch.tensor(2.0)}), 30)
    meter.count(30)
    saved = meter.state_dict()
    meter = Meter()
    meter.load_state_dict(saved)
    meter.add(torch.tensor(4.0), LossTerms({"ce": torch.tensor(5.0)}), 10)
    meter.count(10)
    assert meter.means() == {"loss": 1.75, "loss_ce": 2.75}
    meter.add(torch.tensor(1.0), LossTerms({"kd": torch.tensor(8.0)}), 10)  # other terms than before
    meter.count(10)
    assert meter.means() == {"loss": 1.6, "loss_ce": 2.2, "loss_kd": 1.6}
    meter.reset()
    meter.add(torch.tensor(3.0), LossTerms({"ce": torch.tensor(5.0)}), 2)
    meter.count(2)
    assert meter.means() == {"loss": 3.0, "loss_ce": 5.0, "loss_kd": 0.0}


@pytest.mark.slow  # compiling takes longer than training here
def test_compiled_networks_learn_the_same(tmp_path: Path) -> None:
    spec = small.spec(small.student("kd"))
    small.train_all(spec, tmp_path)
    plain = small.metrics(tmp_path / spec.id)
    (tmp_path / spec.id).rename(tmp_path / "plain")
    train(spec, tmp_path, small.EXECUTION.model_copy(update={"compile": "default"}), say=lambda _: None)
    for line, expected in zip(small.metrics(tmp_path / spec.id), plain, strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.slow  # Python is started four times
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_several_processes_of_a_run_end_together(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """A real command, whose whole process group gets the signal, as from a terminal or from ``timeout``."""
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"epochs": 5000, "processes": 2}))
    arguments = [sys.executable, "-m", "sskd", *command(spec, tmp_path), "--threads", "1"]
    folder = RunFolder(tmp_path, spec)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not folder.read_metrics():
            time.sleep(0.1)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "is saved inside epoch" in errors
    assert torch.load(folder.resume, weights_only=True)["step"] > 0
    assert not folder.lock.exists()
