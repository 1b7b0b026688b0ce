"""What a plan costs: multiply-adds counted from the networks, and hours from a measured rate."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.plan import Plan
from benchmarks.profiles.profile import Profile
from sskd.config.networks import NetworkSettings
from sskd.data.datasets.registry import Extent, extent
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.networks import build_network
from sskd.networks.build import PLAIN
from sskd.pretext import PRETEXTS
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec, TeacherSpec
from sskd.training.words import duration, plural

TRAINING = 3  # a training step costs a forward pass and about two more for the gradients


class AtOnce(NamedTuple):
    """How a cluster's runs go on at the same time."""

    runs: int
    share: float  # runs that share one GPU, or all cores: what one run alone would have


ONE_BY_ONE = AtOnce(1, 1)


class PlanCost(NamedTuple):
    multiply_adds: dict[str, float]
    seconds: dict[str, float]
    left: float  # seconds of what is not finished
    rate: float  # multiply-adds per second
    source: str  # where the rate is from
    assumed: str = ""  # what was taken as known because the images are not there
    at_once: AtOnce = ONE_BY_ONE
    elapsed: float = 0.0  # seconds that what is not finished takes with so many runs at once
    alone: bool = True  # whether the rate is that of one run that shares with none

    @property
    def text(self) -> str:
        return (
            f"about {duration(self.left)} one after another{self._side_by_side}, "
            f"at {self.rate / 1e9:.0f} G multiply-adds/s ({self.source}){self.assumed and '; '}{self.assumed}"
        )

    @property
    def _side_by_side(self) -> str:
        runs, share = self.at_once
        if runs == 1 or not self.left:
            return ""
        condition = ""
        if share > 1 and self.alone:
            condition = " if those that share a GPU, or the cores, gain nothing by it"
        elif not self.alone:
            condition = " if the finished ones were as many at once"
        return f", {duration(self.elapsed)} with {runs} at once{condition}"


def plan_cost(
    plan: Plan, runs: Path, profile: Profile, at_once: AtOnce = ONE_BY_ONE, anew: Collection[str] = ()
) -> PlanCost:
    """Counted work of every run, and its time at the rate of the finished runs, or of a measurement made now.

    ``anew``: ids of finished runs that are to be trained again. Finished runs had their rate beside as many others as
    ran then; a measurement made now is of one run alone, which runs that share a GPU or the cores divide among them.
    """
    root = Path(profile.execution.dataset_root)
    known = {dataset: extent(dataset, root) for dataset in dict.fromkeys(spec.dataset for spec in plan.runs)}
    work = {spec.id: run_multiply_adds(spec, known[spec.dataset][0]) for spec in plan.runs}
    took = {spec.id: _took(RunFolder(runs, spec)) for spec in plan.runs if spec.trains}
    finished = [run_id for run_id, seconds in took.items() if seconds is not None]
    done_seconds, done_work = sum(took[i] or 0.0 for i in finished), sum(work[i] for i in finished)
    if done_seconds:
        rate, source = done_work / done_seconds, f"as {plural(len(finished), 'finished run')} had"
    else:
        rate, source = measured_rate(), "measured now with one convolution; real runs reach a part of it"
    seconds = {run_id: value / rate for run_id, value in work.items()}
    # if damaged, too
    there = {spec.id for spec in plan.runs if spec.trains and RunFolder(runs, spec).result.exists()}
    todo = {run_id: value for run_id, value in seconds.items() if run_id not in there or run_id in anew}
    alone = not done_seconds
    machines = at_once.runs / at_once.share if alone else at_once.runs
    elapsed = makespan(plan, todo, at_once.runs, machines)
    assumed = " and ".join(
        f"{dataset.name} is not in {dataset.path or root.resolve()}: counted as {count.train_images:,} images"
        for dataset, (count, absent) in known.items()
        if absent
    )
    return PlanCost(work, seconds, sum(todo.values()), rate, source, assumed, at_once, elapsed, alone)


def makespan(plan: Plan, seconds: Mapping[str, float], runs: int, machines: float) -> float:
    """Seconds until all runs of ``seconds`` (their own, each alone) are done, started as benchmarks.dispatch.scheduler
    does: whatever is ready, what others wait for first, at most ``runs`` at once. More than ``machines`` at once share
    them evenly and gain nothing by it."""
    needs = {spec.id: {needed.id for needed in spec.needs} for spec in plan.runs}
    waited_for = set().union(*needs.values())
    todo = sorted((run_id for run_id in needs if run_id in seconds), key=lambda run_id: run_id not in waited_for)
    active: dict[str, float] = {}  # seconds that are left of each
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


def run_prices(specs: Iterable[RunSpec], runs: Path, profile: Profile) -> dict[str, float]:
    """Seconds that the runs will take, by id, at the rate of those that are finished. Empty while none is, and where
    nobody knows how many images there are: a report is the same whatever machine makes it."""
    plan = Plan([list(specs)])
    if not any(_took(RunFolder(runs, spec)) for spec in plan.runs if spec.trains):
        return {}
    try:
        return plan_cost(plan, runs, profile).seconds
    except UserError:
        return {}


def _took(folder: RunFolder) -> float | None:
    """What a finished run's result.json says; None where there is none, or it is damaged: the report names it."""
    try:
        seconds = json.loads(folder.result.read_bytes())["seconds"]
        return float(seconds) if math.isfinite(seconds) and seconds > 0 else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def describe_cost(cost: PlanCost, run_id: str) -> str:
    if not cost.multiply_adds[run_id]:
        return "measured, not trained"
    return f"{cost.multiply_adds[run_id] / 1e12:.3g} T multiply-adds, about {duration(cost.seconds[run_id])}"


def run_multiply_adds(spec: RunSpec, data: Extent) -> float:
    """Multiply-adds of convolutions and linear layers in a run's training steps, evaluation left out."""
    if not spec.trains:
        return 0.0
    images = spec.split.fraction * (1 - spec.split.holdout) * data.train_images * spec.recipe.epochs
    own = forward_multiply_adds(spec.network, data.image_size, spec.used_as)
    match spec:
        case TeacherSpec():
            return images * TRAINING * own
        case HeadSpec():
            return images * _views(spec) * own
        case StudentSpec():
            views = _views(spec.head) if spec.head else METHODS[spec.method.name].views_per_image
            given = spec.teacher
            teacher = forward_multiply_adds(given.network, data.image_size, given.network_settings) if given else 0
            return images * views * (TRAINING * own + teacher)


def _views(head: HeadSpec) -> int:
    """Of each image, as the head's pretext task makes them."""
    return PRETEXTS[head.pretext.name].views(head.pretext).per_image


@lru_cache(maxsize=256)
def forward_multiply_adds(name: str, size: int, settings: NetworkSettings = PLAIN) -> float:
    """Of one image through a network, counted on the meta device."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            per_output = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            total += output.numel() * per_output
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.MultiheadAttention):  # it calls none of its layers; (B, N, D), as in torchvision's
            tokens, width = inputs[0].shape[-2:]
            total += tokens * width * (4 * width + 2 * tokens)

    with torch.device("meta"):
        network = build_network(name, 100, settings).eval()
        for module in network.modules():
            module.register_forward_hook(count)
        network(torch.empty(1, 3, size, size))
    return total


@cache  # a plan asks twice: for the runs, and for the seeds that would decide a claim
def measured_rate(seconds: float = 0.5) -> float:
    """Multiply-adds per second of a 3x3 convolution, 64 channels at 16 x 16, batch 64, in this machine's precision."""
    import time

    from sskd.config.execution import Execution
    from sskd.device import autocast, device_of, resolve_precision

    device = device_of(Execution())
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(device)
    images = torch.randn(64, 64, 16, 16, device=device)
    done, started = 0, 0.0
    with torch.inference_mode(), autocast(device, resolve_precision("auto", device)):
        layer(images)
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or not done:
            layer(images).sum().item()
            done += 1
    return done * images.numel() * 64 * 9 / elapsed
