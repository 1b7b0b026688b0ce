"""From what benchmarks ask for to what is to be run: ancestors added, duplicates dropped, in an order that works."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sskd.config import DatasetSpec, Pretrained, RunSpec
from sskd.data.datasets import load_dataset
from sskd.errors import UserError
from sskd.folder import RunFolder, Status
from sskd.methods import METHODS
from sskd.networks import NETWORKS, feature_shapes
from sskd.weights import check_weights


@dataclass(frozen=True)
class Plan:
    """Stages of runs: those of one stage need only runs of the stages before it."""

    stages: list[list[RunSpec]]

    @property
    def runs(self) -> list[RunSpec]:
        return [spec for stage in self.stages for spec in stage]


def make_plan(wanted: Iterable[RunSpec]) -> Plan:
    """All wanted runs and what they need, each once. Refuses impossible combinations before anything is trained."""
    stage_of: dict[str, int] = {}
    by_id: dict[str, RunSpec] = {}

    def place(spec: RunSpec) -> int:
        if spec.id not in stage_of:
            by_id[spec.id] = spec
            stage_of[spec.id] = 1 + max((place(needed) for needed in spec.needs), default=-1)
        return stage_of[spec.id]

    for spec in wanted:
        place(spec)
    stages: list[list[RunSpec]] = [[] for _ in range(max(stage_of.values(), default=-1) + 1)]
    for run_id, number in stage_of.items():
        stages[number].append(by_id[run_id])
    plan = Plan(stages)
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """UserError for a network that does not exist, or a pair that a method cannot be used with."""
    checked = set()
    for spec in plan.runs:
        NETWORKS[spec.network]
        if isinstance(spec.teacher, Pretrained) and spec.teacher.published:
            check_weights(spec.teacher)  # a name; whether a file is there matters only to who runs the plan
        if spec.method is None or spec.teacher is None:
            continue
        combination = (spec.network, spec.teacher.network, spec.method)
        if combination in checked:
            continue
        checked.add(combination)
        try:
            METHODS[spec.method.name].check(
                spec.method, feature_shapes(spec.network), feature_shapes(spec.teacher.network)
            )
        except UserError as error:
            raise UserError(f"{spec.teacher.network}/{spec.network} with '{spec.method.name}': {error}") from None


def refuse_hopeless(specs: Iterable[RunSpec], root: Path) -> None:
    """UserError, the first found, if none of the runs can start: data or weights are missing for each. Where some can,
    they are run, and the others fail one by one."""

    @cache
    def problem(of: DatasetSpec | Pretrained) -> UserError | None:
        try:
            load_dataset(of, root) if isinstance(of, DatasetSpec) else check_weights(of)
        except UserError as error:
            return error
        return None

    hopeless = []
    for spec in specs:
        inputs: list[DatasetSpec | Pretrained] = [spec.dataset]
        if isinstance(spec.teacher, Pretrained):
            inputs.append(spec.teacher)
        wrong = [error for error in map(problem, inputs) if error]
        if not wrong:
            return
        hopeless += wrong
    if hopeless:
        raise hopeless[0]


def statuses(plan: Plan, runs: Path, anew: Collection[str] = ()) -> dict[str, Status]:
    """Where each planned run stands, by id. "weights lost": finished, but to be trained again, for what needs it;
    "anew": finished, and one of those that are to be trained anew."""
    known = {s.id: Status("anew") if s.id in anew else RunFolder(runs, s).status() for s in plan.runs}
    for spec in reversed(plan.runs):  # what a run needs comes before it
        if known[spec.id].state != "finished":
            for needed in spec.needs:
                if needed.id not in anew and needed.trains and RunFolder(runs, needed).lost_weights():
                    known[needed.id] = Status("weights lost")
    return known
