"""Every method: five steps of a plain loop are the suite's own, bit for bit, and no step makes the device wait."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sskd.data.splits import Subset
from sskd.data.views import SingleView
from sskd.distillation.distiller import Distiller
from sskd.distillation.stages import DistillerStage
from sskd.methods import METHODS, Method
from sskd.networks import build_network
from sskd.networks.weights import load_network
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import HeadSpec, StudentSpec
from sskd.runtime.seeding import stream_seed
from sskd.training.checkpoint import RunState
from sskd.training.run import _begin_epoch
from sskd.training.setup import Setup, prepare
from sskd.training.step import train_step, why_eager
from sskd.training.tasks import build_task
from sskd.training.tasks.head import new_head, trained_head
from tests import small
from tests.waits import Waits

SHORTER = {"crd": {"negatives": 64}, **{name: {"initial_epochs": 1} for name in ("ab", "ft", "fsp")}}
STEPS, STOPPED_AFTER, IMAGES = 5, 2, 12
VARIANTS: list[dict[str, Any]] = [
    *({"name": name, "standardise": True} for name in ("kd", "dkd", "mlkd", "ctkd")),
    {"name": "ctkd", "host": "dkd"},
    {"name": "crd", "kd_weight": 1.0, "warmup_epochs": 2.0},
]


def spec_of(method: str, recipe: dict[str, Any] = small.RECIPE, **settings: Any) -> StudentSpec:
    kind = METHODS[method]
    data = small.student({"name": method, **SHORTER.get(method, {}), **settings}, recipe=recipe)
    if kind.needs_head:
        data |= {"head": small.head(kind.head_task or "contrastive")}
    found = small.spec(data if kind.needs_teacher else data | {"teacher": None})
    assert isinstance(found, StudentSpec)
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and heads in their first state: what a step is does not depend on what they have learned."""
    path = tmp_path_factory.mktemp("shared")
    teacher = RunFolder(path, small.spec(small.teacher()))
    teacher.create()
    torch.manual_seed(0)
    save_file(build_network("resnet8", 10).state_dict(), teacher.weights("best"))
    for task in ("contrastive", "hsakd"):
        spec = small.spec(small.head(task))
        assert isinstance(spec, HeadSpec)
        folder = RunFolder(path, spec)
        folder.create()
        save_file(new_head(prepare(spec, path, small.EXECUTION), spec).state_dict(), folder.weights("last"))
    return path


class Trace:
    """Losses of each step of a stage, and gradients and state after the last step."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.gradients: dict[str, Any] = {}
        self.state: dict[str, Any] = {}

    def end(self, modules: nn.Module) -> None:
        self.gradients = {name: p.grad for name, p in modules.named_parameters() if p.grad is not None}
        self.state = {name: value.clone() for name, value in modules.state_dict().items()}


def of_the_suite(setup: Setup) -> dict[str, Trace]:
    """Every stage's steps as ``train`` does them, stopped after some and gone on from what was saved."""
    traces: dict[str, Trace] = {}
    run = RunState(setup, build_task(setup), {"plugins": []})
    number = 0
    while number < len(run.task.stages):
        run.stage_number, run.epoch, run.step, run.rows = number, 0, 0, []
        run.enter_stage()
        trace = traces[run.stage.name] = Trace()
        _begin_epoch(run)
        for step in range(STEPS):
            if step == STOPPED_AFTER:
                run = gone_on_from(run)
            batch = next(iter(run.loader.epoch(0, start=step)))
            run.meter.reset()
            run.set_learning_rate()
            with Waits() as waits:
                train_step(run, batch)
            assert step == 0 or not waits.lines, "tables are made once, in the first step; then nothing waits"
            run.count_step(len(batch.labels))
            trace.losses.append(run.meter.means())
        trace.end(run.task.modules)
        number += 1
    return traces


def gone_on_from(run: RunState) -> RunState:
    file = io.BytesIO()
    state = run.state_dict()
    torch.save(state | {"rows": [{"stage": s.name} for s in run.task.stages[: run.stage_number]]}, file)
    file.seek(0)
    again = RunState(run.setup, build_task(run.setup), run.machine)
    torch.manual_seed(99)  # whatever ran in between
    again.load_state_dict(torch.load(file, weights_only=True))
    _begin_epoch(again)
    return again


def of_a_plain_loop(setup: Setup, spec: StudentSpec) -> dict[str, Trace]:
    """The same as somebody would write it who has two networks and a loader."""
    torch.manual_seed(stream_seed(spec.random_seed, "network"))
    student = build_network(spec.network, 10).to(memory_format=torch.channels_last)
    teacher = None
    if spec.teacher is not None:
        weights = RunFolder(setup.runs, spec.dependencies[0]).weights("best")
        teacher = load_network(weights, spec.teacher.network, 10).to(memory_format=torch.channels_last)
    distiller = Distiller(
        student,
        teacher,
        spec.method,
        num_classes=10,
        sample=torch.rand(2, 3, 32, 32),
        train_labels=setup.split.labels,
        head=trained_head(setup, spec.head) if spec.head is not None else None,
        recipe=spec.recipe,
        seed=spec.random_seed,
    )
    traces: dict[str, Trace] = {}
    for stage in distiller.initial_stages():
        traces[stage.name] = steps_of(distiller, stage, setup, stage.name, stage.learning_rate or 0.02)
    study(distiller, setup)
    distiller.begin_epoch(0, spec.recipe.epochs)
    traces["main"] = steps_of(distiller, distiller, setup, "main", 0.02)
    return traces


def study(distiller: Distiller, setup: Setup) -> None:
    """The images as the method wants them: as test images are, or as in training."""
    part = setup.test._replace(subset=Subset(setup.split.indices, setup.split.labels))
    plain = setup.data.subset_batches(part.subset, part.eval_batch_size, setup.loader_config)
    batches = setup.loader(SingleView(), "study").epoch(0)
    loaders = {"plain": plain, "augmented": ((batch.images, batch.labels) for batch in batches)}
    if distiller.method.studies:
        distiller.study(loaders[distiller.method.studies])


def steps_of(distiller: Distiller, step: Distiller | DistillerStage, setup: Setup, name: str, rate: float) -> Trace:
    views = distiller.method.view_transform() if step is distiller else SingleView()
    optimizer: Any = None
    if isinstance(step, Distiller) and type(step.method).optimizer is not Method.optimizer:
        optimizer = step.optimizer(setup.spec.recipe)
    optimizer = optimizer or torch.optim.SGD(step.parameters(), rate, momentum=0.9, weight_decay=5e-4, fused=True)
    trace = Trace()
    torch.manual_seed(stream_seed(setup.spec.random_seed, "torch", name, 0))  # of dropout
    for _, batch in zip(range(STEPS), setup.loader(views, name).epoch(0), strict=False):
        more = {"generator": batch.generator} if step is distiller else {}
        loss, terms = step(batch.images, batch.labels, batch.indices, **more)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step is distiller:
            distiller.after_step()
        losses = {key: value.item() for key, value in terms.items()}
        trace.losses.append({"total": loss.item()} | losses)
    trace.end(distiller)
    return trace


@pytest.mark.parametrize(
    "method", [*({"name": name} for name in METHODS), *VARIANTS], ids=lambda m: "-".join(map(str, m.values()))
)
def test_five_steps_of_a_plain_loop_are_the_suites(method: dict[str, Any], shared: Path) -> None:
    """Losses, gradients, weights and the method's state, also after an interruption inside the stage."""
    settings = {key: value for key, value in method.items() if key != "name"}
    spec = spec_of(method["name"], small.RECIPE | {"batch_size": IMAGES}, **settings)
    setup = prepare(spec, shared, small.EXECUTION)
    wanted, found = of_the_suite(setup), of_a_plain_loop(setup, spec)
    assert list(found) == list(wanted)
    for name, trace in wanted.items():
        assert len(trace.losses) == len(found[name].losses) == STEPS
        for row, own in zip(trace.losses, found[name].losses, strict=True):
            assert {key.removeprefix("loss_"): value for key, value in row.items() if key != "loss"} == {
                key: value for key, value in own.items() if key != "total"
            }
            assert row["loss"] == own["total"]
        for what in ("gradients", "state"):
            theirs, ours = getattr(trace, what), getattr(found[name], what)
            assert theirs.keys() == ours.keys()
            assert not [key for key in theirs if not torch.equal(theirs[key], ours[key])], f"{what} of {name}"


def test_stopped_in_each_of_its_stages_a_run_ends_the_same(shared: Path, tmp_path: Path) -> None:
    """All objects are rebuilt from the saved state after each stop."""
    small.assert_resumes(spec_of("ab"), tmp_path, shared)


class Operations(TorchDispatchMode):
    """Notes the operations within, with their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [tuple(value.shape) for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        self.done.append((func, shapes))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_a_step_does_follows_from_its_draws_only_where_the_method_says_so(method: str, shared: Path) -> None:
    """A CUDA graph holds one sequence of operations: a method whose host draws choose among several is not captured."""
    setup = prepare(spec_of(method, small.RECIPE | {"batch_size": IMAGES}), shared, small.EXECUTION)
    run = RunState(setup, build_task(setup), {"plugins": []})
    run.stage_number = len(run.task.stages) - 1
    run.enter_stage()
    _begin_epoch(run)
    batch = next(iter(run.loader.epoch(0)))
    with torch.no_grad():
        run.stage.loss(batch)  # tables are made once
    sequences = []
    for seed in range(4):
        with Operations() as operations, torch.no_grad():
            run.stage.loss(batch._replace(generator=torch.Generator().manual_seed(seed)))
        sequences.append(operations.done)
    assert all(sequence == sequences[0] for sequence in sequences) != METHODS[method].draws_on_host
    assert ("the host" in why_eager(run)) == METHODS[method].draws_on_host
