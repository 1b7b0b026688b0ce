"""Cost of a plan: multiply-adds counted from the networks, and time from a measured throughput."""

import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.planning.memory import views_of
from benchmarks.planning.plan import Plan
from benchmarks.planning.staleness import finished_results
from benchmarks.profiles.profile import Profile
from sskd.config.execution import Execution
from sskd.config.networks import NetworkSettings
from sskd.data.datasets.registry import DatasetInfo, dataset_info
from sskd.data.splits import given_indices
from sskd.errors import UserError
from sskd.formatting import duration, plural
from sskd.networks import build_network
from sskd.networks.build import PLAIN
from sskd.runs.run_folder import RunFolder, Status
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec, TeacherSpec, with_ancestors
from sskd.runtime.device import autocast, device_of, resolve_precision

TRAINING = 3  # a training step costs a forward pass and about two more for the gradients
ASSUMED_GPU_THROUGHPUT = 5e12  # multiply-adds/s of training on one GPU (10 TFLOP/s), if no GPU can be measured
# start-up seconds of a run (data, networks, files): measured CPU time of runs with one epoch, without their training
STARTING = 0.5
STARTING_A_JOB = 8.5  # start-up seconds in a new Python process, which imports torch
STEP = 4e9  # maximum multiply-adds of a timed step on a CPU; limits the batch of large networks


class Concurrency(NamedTuple):
    """Runs of a cluster that are executed in parallel."""

    runs: int
    share: float  # number of runs that share the resources of one (a GPU, or all cores)
    gpus: bool | None = None  # whether runs have GPUs; None: like the finished runs, else like this machine
    starting: float = STARTING  # start-up seconds per run
    gpu: str = ""  # text in the GPU's name; "": any GPU


SEQUENTIAL = Concurrency(1, 1)


class PlanCost(NamedTuple):
    multiply_adds: dict[str, float]
    seconds: dict[str, float]
    left: float  # seconds of the unfinished runs, sequentially
    throughput: float  # multiply-adds per second
    source: str  # origin of the throughput
    assumed: str = ""  # assumption about missing data sets
    concurrency: Concurrency = SEQUENTIAL
    elapsed: float = 0.0  # seconds of the unfinished runs, in parallel
    alone: bool = True  # whether the throughput was measured with a single run
    gpus: bool = False  # whether the throughput is that of a GPU

    @property
    def text(self) -> str:
        runs, share = self.concurrency.runs, self.concurrency.share
        parallel = f", {duration(self.elapsed)} with {runs} in parallel" if runs > 1 and self.left else ""
        if parallel and share > 1 and self.alone:
            parallel += " (if sharing a GPU or the cores gains nothing)"
        elif parallel and not self.alone:
            parallel += " (if as many finished runs ran in parallel)"
        return (
            f"about {duration(self.left)} sequentially{parallel}, "
            f"at {self.throughput / 1e9:.3g} G multiply-adds/s{' per GPU' if self.gpus else ''} ({self.source}) plus "
            f"{self.concurrency.starting:g} s of start-up per run{self.assumed and '; '}{self.assumed}"
        )


def plan_cost(
    plan: Plan, runs: Path, profile: Profile, concurrency: Concurrency = SEQUENTIAL, rerun: Collection[str] = ()
) -> PlanCost:
    """Counts the multiply-adds of every run, and estimates the time from the throughput of finished runs or of a
    measurement.

    rerun: ids of finished runs that will be trained again. The throughput of finished runs includes the effect of runs
    that were executed in parallel; a measurement is made with one run alone, and runs that share a GPU or the cores
    then divide it. If the runs will have GPUs, and neither a finished run nor this machine has one of that kind, the
    throughput is assumed. Each process of a run has its own GPU; without GPUs the processes share the cores.
    """
    root = Path(profile.execution.dataset_root)
    known = {dataset: dataset_info(dataset, root) for dataset in dict.fromkeys(spec.dataset for spec in plan.runs)}
    work = {spec.id: run_multiply_adds(spec, known[spec.dataset][0]) for spec in plan.runs}
    trained = [spec for spec in plan.runs if spec.trains]
    here, gpus, took = torch.cuda.is_available(), concurrency.gpus, dict[str, float]()
    for spec, result in finished_results(trained, runs):
        machine = result.get("machine", {})
        on_gpu, device = machine.get("driver") is not None, str(machine.get("device"))
        if result["seconds"] > 0 and concurrency.gpus in (None, on_gpu) and _is_called(device, concurrency.gpu):
            took[spec.id], gpus = result["seconds"], gpus or on_gpu
    gpus = here if gpus is None else gpus
    devices = {spec.id: spec.recipe.processes if gpus else 1 for spec in plan.runs}
    done_seconds = sum(value * devices[run_id] for run_id, value in took.items())
    if done_seconds:
        throughput = sum(work[run_id] for run_id in took) / done_seconds
        source = f"from {plural(len(took), 'finished run')}"
    elif gpus and not (here and _is_called(torch.cuda.get_device_name(), concurrency.gpu)):
        throughput = ASSUMED_GPU_THROUGHPUT
        source = (
            f"assumed: {2 * throughput / 1e12:.0f} TFLOP/s per GPU; neither this machine nor a finished run has "
            f"{concurrency.gpu or 'a GPU'}"
        )
    elif trained:
        spec = max(trained, key=lambda spec: work[spec.id])
        throughput = measure_throughput(
            spec.network, known[spec.dataset][0].image_size, spec.recipe.batch_size, spec.used_as
        )
        source = f"measured now, training {spec.network} on this machine's {'GPU' if here else 'CPU'}"
    else:
        throughput, source = ASSUMED_GPU_THROUGHPUT, "no run trains"
    seconds = {
        run_id: value / throughput / devices[run_id] + (concurrency.starting if value else 0)
        for run_id, value in work.items()
    }
    # finished runs, even if damaged
    there = {spec.id for spec in plan.runs if spec.trains and RunFolder(runs, spec).is_finished()}
    todo = {run_id: value for run_id, value in seconds.items() if run_id not in there or run_id in rerun}
    alone = not done_seconds
    elapsed = makespan(
        plan, todo, concurrency.runs, concurrency.runs / concurrency.share if alone else concurrency.runs
    )
    assumed = " and ".join(
        f"{dataset.name} is not in {dataset.path or root.resolve()}: counted as {count.train_images:,} images"
        for dataset, (count, absent) in known.items()
        if absent
    )
    return PlanCost(work, seconds, sum(todo.values()), throughput, source, assumed, concurrency, elapsed, alone, gpus)


class TableCost(NamedTuple):
    """Cost of a table, if its runs are executed sequentially. seconds: all runs. seconds_left: unfinished runs, and the
    heads that unfinished students need."""

    runs: int
    left: int
    seconds: float
    seconds_left: float


def table_costs(
    specs: Mapping[str, Iterable[RunSpec]], seconds: Mapping[str, float], known: Mapping[str, Status]
) -> dict[str, TableCost]:
    """Returns the cost of each table. specs: its runs. seconds, known: time and state of every run. Runs that tables
    share count in each of them."""
    costs, unfinished = {}, {run_id for run_id, status in known.items() if status.state != "finished"}
    for name, own in specs.items():
        every = with_ancestors(own)
        todo = with_ancestors(spec for spec in every.values() if spec.role == "student" and spec.id in unfinished)
        todo |= {run_id: spec for run_id, spec in every.items() if spec.role == "teacher"}  # those of the table itself
        left = [run_id for run_id in todo if run_id in unfinished]
        times = [sum(seconds[run_id] for run_id in ids) for ids in (every, left)]
        costs[name] = TableCost(len(every), len(left), *times)
    return costs


def _is_called(device: str, name: str) -> bool:
    return name.lower() in device.lower()


def makespan(plan: Plan, seconds: Mapping[str, float], runs: int, machines: float) -> float:
    """Returns the seconds until all runs of ``seconds`` (each alone) are done, in the scheduler's order
    (benchmarks.dispatch.scheduler): runs that others depend on first, at most ``runs`` in parallel. More than
    ``machines`` runs share the machines evenly, without a gain."""
    needs = {spec.id: {needed.id for needed in spec.dependencies} for spec in plan.runs}
    waited_for = set().union(*needs.values())
    todo = sorted((run_id for run_id in needs if run_id in seconds), key=lambda run_id: run_id not in waited_for)
    active: dict[str, float] = {}  # remaining seconds per run
    now = 0.0
    while todo or active:
        undone = {*todo, *active}
        ready = (run_id for run_id in todo if needs[run_id].isdisjoint(undone))
        for run_id in list(islice(ready, runs - len(active))):
            active[run_id] = seconds[run_id]
            todo.remove(run_id)
        soonest = min(active.values())
        now += soonest * max(1.0, len(active) / machines)
        active = {run_id: left - soonest for run_id, left in active.items() if left > soonest}
    return now


def expected_seconds(specs: Iterable[RunSpec], runs: Path, profile: Profile) -> dict[str, float]:
    """Estimates the seconds of the runs by id, from the throughput of finished runs. Returns {} if none or all are
    finished, or if the number of images is unknown, so that a report does not depend on the machine that writes it."""
    specs = list(specs)
    trained = [spec for spec in specs if spec.trains]
    finished = sum(result["seconds"] > 0 for _, result in finished_results(trained, runs))
    if finished in (0, len(trained)):
        return {}
    try:
        return plan_cost(Plan([specs]), runs, profile).seconds
    except UserError:
        return {}


def known_work(specs: Iterable[RunSpec], profile: Profile) -> dict[str, float]:
    """Returns the multiply-adds of every run's training by id; {} if the number of images is unknown."""
    root = Path(profile.execution.dataset_root)
    try:
        return {spec.id: run_multiply_adds(spec, dataset_info(spec.dataset, root)[0]) for spec in specs}
    except UserError:
        return {}


def run_multiply_adds(spec: RunSpec, data: DatasetInfo) -> float:
    """Returns the multiply-adds of convolutions and linear layers in a run's training steps, without evaluation."""
    if not spec.trains:
        return 0.0
    listed = len(given_indices(spec.split, data.train_images))
    images = spec.split.fraction * (1 - spec.split.holdout) * listed * spec.recipe.epochs
    own = forward_multiply_adds(spec.network, data.image_size, spec.used_as)
    match spec:
        case TeacherSpec():
            return images * TRAINING * own
        case HeadSpec():
            return images * views_of(spec) * (TRAINING if spec.pretext.trains_network else 1) * own
        case StudentSpec():
            given = spec.teacher
            teacher = forward_multiply_adds(given.network, data.image_size, given.network_settings) if given else 0
            return images * views_of(spec) * (TRAINING * own + teacher)


@lru_cache(maxsize=256)
def forward_multiply_adds(name: str, size: int, settings: NetworkSettings = PLAIN) -> float:
    """Returns the multiply-adds of one image of ``size`` x ``size`` pixels: convolutions, matrix products and
    attention, counted by torch on the meta device."""
    with torch.device("meta"):
        network, images = build_network(name, 100, settings).eval(), torch.empty(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 2


@cache  # a plan asks twice: for the runs, and for the seeds that would decide a claim
def measure_throughput(
    name: str, size: int, batch: int, settings: NetworkSettings = PLAIN, seconds: float = 0.5
) -> float:
    """Measures the multiply-adds per second of plain training steps of a network, in this machine's precision. They
    include the overhead of small kernels and of waiting that real runs have. On a CPU these are seconds of its own
    threads, so other programs that use the machine now do not change it."""
    device = device_of(Execution())
    on_cpu = device.type == "cpu"
    clock, clocked = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    step_work = TRAINING * forward_multiply_adds(name, size, settings)
    batch = max(2, min(batch, int(STEP / step_work))) if on_cpu else batch
    network = build_network(name, 100, settings).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    images, labels = torch.randn(batch, 3, size, size, device=device), torch.zeros(batch, dtype=torch.int64).to(device)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, resolve_precision("auto", device)):
            loss = nn.functional.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # synchronises with the device

    step()
    done, started = 0, clock()
    while (elapsed := (clock() - started) / clocked) < seconds or not done:
        step()
        done += 1
    return done * batch * step_work / elapsed
