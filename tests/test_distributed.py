"""Several processes for one run: the same batches, losses and weights as one; and an end for all when one fails."""

import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sskd.config.recipe import Recipe
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.runs.run_folder import RunFolder
from sskd.runtime.distributed import Rank, join, wrap_in_ddp
from sskd.training.processes import Launch, train_in_processes, train_launched
from sskd.training.run import Interrupted, StepEvent, train
from tests import group_norm, small

RECIPE = small.RECIPE | {"batch_size": 30, "epochs": 2}  # 68 images: a last, smaller batch of 8
assert group_norm  # registers the network
METHODS = ("none", "crd", "ab", "sskd")  # test_distiller.py has others, whose losses are gathered as these are
EXECUTION = small.EXECUTION.model_copy(update={"threads": 1})


def registered() -> None:
    """Done by importing this module, as a process must to find this function."""


def teacher(network: str = "group_norm", **recipe: Any) -> dict[str, Any]:
    return small.teacher(network=network, recipe=RECIPE | recipe)


def specs(network: str = "group_norm", methods: tuple[str, ...] = METHODS, **recipe: Any) -> dict[str, Any]:
    """Students, and with them their teacher's and head's own runs, all with this recipe; the ones that students
    learn from are trained by one process."""
    base = teacher(network)
    head = base | {"role": "head", "teacher": {"run": base}, "pretext": "contrastive"}
    wanted = {"teacher": teacher(network, **recipe), "head": head | {"recipe": RECIPE | recipe}}
    for name in methods:
        settings = {"crd": {"negatives": 8}, "ab": {"initial_epochs": 1}}.get(name, {})
        wanted[name] = base | {
            "role": "student",
            "method": {"name": name, **settings},
            "recipe": RECIPE | recipe,
            **({} if name == "none" else {"teacher": {"run": base}}),
            **({"head": head} if name == "sskd" else {}),
        }
    return {name: small.spec(data) for name, data in wanted.items()}


def work(rank: int, size: int, meeting: str, runs: Path, wanted: list[dict[str, Any]]) -> None:
    """One process: trains all, one after another; the last is also trained with a stop that only one process asks
    for."""
    join(rank, size, meeting, on_gpu=False)
    (runs / f"gradients{rank}.json").write_text(json.dumps(average(rank)))
    *_, last = specs = [small.spec(data) for data in wanted]
    for spec in specs:
        train(spec, runs, EXECUTION, log=lambda _: None)
    asked = iter([False, True])
    with suppress(Interrupted):
        train(last, runs / "stopped", EXECUTION, should_stop=lambda: rank == 1 and next(asked))
        raise AssertionError("it was not stopped")
    train(last, runs / "stopped", EXECUTION)
    os._exit(0)


def average(rank: int) -> list[tuple[int, float, float, bool]]:
    """Three steps of a loss that does not reach one of two layers: weight and gradient of the one, and whether the
    other has no gradient."""
    reached, unused = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    loss = wrap_in_ddp(lambda x: (reached(x).sum(), None), [*reached.parameters(), *unused.parameters()])
    found = []
    for step in range(3):
        reached.zero_grad()
        loss(torch.full((1, 1), float(rank + step)))[0].backward()
        assert reached.weight.grad is not None
        found.append((step, reached.weight.item(), reached.weight.grad.item(), unused.weight.grad is None))
    return found


def train_by_two(runs: Path, wanted: dict[str, Any]) -> None:
    """All in one pair of processes: starting Python is what takes the time."""
    context = mp.get_context("spawn")
    data = [json.loads(spec.model_dump_json(exclude_defaults=True)) for spec in wanted.values()]
    arguments = (2, f"file://{runs}/meeting", runs, data)
    workers = [context.Process(target=work, args=(rank, *arguments)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Every run by one process, and by two."""
    runs = tmp_path_factory.mktemp("runs")
    one, two = specs(), specs(processes=2)
    one["bn"], two["bn"] = specs("resnet8", ("kd",))["kd"], specs("resnet8", ("kd",), processes=2)["kd"]
    two["none"] = two.pop("none")  # the last is stopped
    for spec in one.values():
        small.train_all(spec, runs)
    train_by_two(runs, two)
    return runs, one, two


def losses(runs: Path, spec: Any) -> list[float]:
    return [row["loss"] for row in small.metrics(runs / spec.id)]


@pytest.mark.parametrize("name", ["teacher", "head", *METHODS])
def test_two_processes_are_as_one(both: Any, name: str) -> None:
    runs, one, two = both
    torch.testing.assert_close(
        torch.tensor(losses(runs, two[name])), torch.tensor(losses(runs, one[name])), rtol=2e-5, atol=2e-6
    )
    by_two, by_one = (load_file(runs / made[name].id / "last.safetensors") for made in (two, one))
    for key, value in by_one.items():
        torch.testing.assert_close(by_two[key], value, rtol=2e-3, atol=2e-5)


def test_batch_norm_is_of_each_process(both: Any) -> None:
    """Statistics of 15 images instead of 30: another training, of the same kind."""
    runs, one, two = both
    by_two, by_one = losses(runs, two["bn"]), losses(runs, one["bn"])
    assert by_two != by_one
    assert max(abs(a / b - 1) for a, b in zip(by_two, by_one, strict=True)) < 0.1


def test_a_stopped_run_ends_where_it_would_have(both: Any) -> None:
    runs, _, two = both
    assert losses(runs / "stopped", two["none"]) == losses(runs, two["none"])
    resumed, whole = (load_file(folder / two["none"].id / "last.safetensors") for folder in (runs / "stopped", runs))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_gradients_are_averaged_and_what_no_loss_reaches_has_none(both: Any) -> None:
    """An optimiser leaves alone what has no gradient: a zero would let its weights decay."""
    rows = [row for rank in range(2) for row in json.loads((both[0] / f"gradients{rank}.json").read_text())]
    assert sorted((step, gradient) for step, _, gradient, _ in rows) == [(s, s + 0.5) for s in (0, 0, 1, 1, 2, 2)]
    assert all(without for *_, without in rows)
    assert len({weight for _, weight, *_ in rows}) == 1  # the first one's, in both


def test_only_one_process_writes(both: Any) -> None:
    runs, _, two = both
    for spec in two.values():
        rows = [json.loads(line) for line in (runs / spec.id / "metrics.jsonl").read_text().splitlines()]
        assert len(rows) == len({(row["stage"], row["epoch"]) for row in rows})
        assert json.loads((runs / spec.id / "result.json").read_text())["id"] == spec.id
        assert len(list((runs / spec.id).glob("events.*"))) == 1


# --- started by torchrun ----------------------------------------------------------------------------------------------


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.slow  # Python is started eight times
@pytest.mark.parametrize(
    ("launcher", "options", "number"),
    [((), ("--processes", "2"), signal.SIGINT), (TORCHRUN, (), signal.SIGTERM)],
    ids=["its own", "torchrun"],
)
def test_a_command_stops_and_resumes(
    launcher: tuple[str, ...], options: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    """Told to end, as from a terminal, its two processes save inside the epoch; they end where they would have."""
    spec = small.spec(teacher("resnet8", processes=2, epochs=40))
    words = small.train_command(small.spec(teacher("resnet8", epochs=40)), tmp_path)
    command, pipe = [sys.executable, *launcher, "-m", "sskd", *words, *options, "--threads", "1"], subprocess.PIPE
    folder = RunFolder(tmp_path, spec)
    with subprocess.Popen(command, stderr=pipe, text=True, start_new_session=True) as process:
        while process.poll() is None and not folder.read_metrics():
            time.sleep(0.05)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=600)
    assert "inside epoch" in errors
    assert torch.load(folder.resume, weights_only=True)["epoch"] < 40
    assert not folder.lock.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.count("finished in") == 1  # one of them speaks
    start(spec, tmp_path / "whole")
    resumed, whole = (torch.tensor(losses(runs, spec)) for runs in (tmp_path, tmp_path / "whole"))
    torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("changes", "launch"),
    [
        ({}, Launch(5, 1, 8, 4)),
        ({"LOCAL_WORLD_SIZE": ""}, Launch(5, 1, 8, 8)),  # other launchers may not set it: all are on one machine
        ({"MASTER_ADDR": ""}, None),
        ({"WORLD_SIZE": "1"}, None),
        ({"WORLD_SIZE": "eight"}, UserError),
    ],
)
def test_what_torchrun_says(changes: dict[str, str], launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "here"}
    for name, value in (said | changes).items():
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    if launch is UserError:
        with pytest.raises(UserError, match="WORLD_SIZE.*eight"):
            Launch.of_environment()
    else:
        assert Launch.of_environment() == launch


# --- started and ended by train_in_processes --------------------------------------------------------------------------


def start(spec: Any, runs: Path, **more: Any) -> dict[str, Any]:
    return train_in_processes(spec, runs, EXECUTION, log=lambda _: None, prepare=registered, **more)


def test_told_to_stop_all_processes_stop_at_the_same_step(tmp_path: Path) -> None:
    spec, steps = specs(methods=(), processes=2)["teacher"], list[StepEvent]()
    with pytest.raises(Interrupted):
        start(spec, tmp_path, on_step=steps.append, should_stop=lambda: len(steps) >= 1)
    state = torch.load(RunFolder(tmp_path, spec).resume, weights_only=True)
    assert state["epoch"] + state["step"] > 0
    assert not RunFolder(tmp_path, spec).result.exists()


def test_a_failure_of_one_ends_all(tmp_path: Path) -> None:
    spec = specs(methods=("kd",), processes=2)["kd"]  # its teacher was never trained
    with pytest.raises(UserError, match="train that run first"):
        start(spec, tmp_path)


def kill_the_second() -> None:
    if int(mp.current_process().name.rpartition("-")[2]) % 2:
        os._exit(9)


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    spec = specs(methods=(), processes=2)["teacher"]
    with pytest.raises(RuntimeError, match=r"process \d of 2 of teacher-group_norm.*status 9"):
        train_in_processes(spec, tmp_path, EXECUTION, log=lambda _: None, prepare=kill_the_second)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size 6 is too small for 4 processes"):
        from_dict(Recipe, {"batch_size": 6, "processes": 4}, "here")
    with pytest.raises(UserError, match="recipe.processes is 3, but torchrun started 8"):
        train_launched(Launch(5, 1, 8, 4), small.spec(teacher(processes=3)), tmp_path, EXECUTION)
    assert Rank(1, 3).rows(8) == slice(2, 5)
    assert Rank(0, 3).sizes(8) == [2, 3, 3]
