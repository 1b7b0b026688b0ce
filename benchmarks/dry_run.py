"""``--dry-run``: the runs of a plan, what they wait for and cost, and what the paper's claims lack."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.analysis.claims import Claim
from benchmarks.analysis.probes import probes_cost, probes_of
from benchmarks.analysis.seeds import look, need_lines, need_rows, offer_lines
from benchmarks.changes import changed_runs, describe_changes
from benchmarks.cost import AtOnce, describe_cost, plan_cost
from benchmarks.plan import Plan, statuses
from benchmarks.profiles.profile import Profile
from benchmarks.tables.benchmark import Cell
from benchmarks.tables.spec_builder import run_label
from sskd.runs.spec import RunSpec
from sskd.training.words import plural


def _label(spec: RunSpec) -> str:
    """The method as tables name it: an id has its name alone, the same for crd and crd+kd."""
    return f" ({label})" if (label := run_label(spec)) else ""


def print_plan(
    plan: Plan,
    folder: Path,
    profile: Profile,
    cells: Mapping[str, list[Cell]],
    claims: Sequence[Claim],
    anew: Sequence[RunSpec],
    at_once: AtOnce,
    options: argparse.Namespace,
) -> None:
    """The runs, what they cost, and what the paper's claims lack; with --decide what would be bought."""
    market, runs = look(claims, profile, folder, at_once), folder / "runs"
    again = {spec.id for spec in anew}
    known, cost = statuses(plan, runs, again), plan_cost(plan, runs, profile, at_once, again)
    changed = changed_runs(plan.runs, runs)
    probes = probes_cost(probes_of(cells, profile), runs, Path(profile.execution.dataset_root), cost.rate)
    if options.json:
        rows = [
            {
                "id": spec.id,
                "label": run_label(spec),
                "stage": number,
                "state": known[spec.id].state,
                "why": known[spec.id].message,
                "changed": changed.get(spec.id, ""),
                "needs": [needed.id for needed in spec.needs],
                "multiply_adds": cost.multiply_adds[spec.id],
                "seconds": cost.seconds[spec.id],
            }
            for number, stage in enumerate(plan.stages)
            for spec in stage
        ]
        rate = {"rate": cost.rate, "rate_from": cost.source, "assumed": cost.assumed}
        times = {"seconds": cost.left, "runs_at_once": cost.at_once.runs, "seconds_at_once": cost.elapsed}
        more = {"claims": need_rows(market), "probes": probes._asdict()}
        print(json.dumps({"runs": rows, **times, **rate, **more}, indent=1))
        return
    for number, stage in enumerate(plan.stages, start=1):
        print(f"stage {number}: {plural(len(stage), 'run')}")
        for spec in stage:
            waits = f", after {', '.join(needed.id for needed in spec.needs)}" if spec.needs else ""
            other = f" with other code ({changed[spec.id]})" if spec.id in changed else ""
            why = f" ({known[spec.id].message})" if known[spec.id].message else ""
            state = f"{known[spec.id].state}{why}{other}"
            print(f"  {spec.id}{_label(spec)}: {state}{waits}, {describe_cost(cost, spec.id)}")
    if probes.number:
        print(probes.text)
    print("\n".join([cost.text, *describe_changes(plan, runs)]))
    if claims:
        print("the paper's claims:")
    for line in offer_lines(market, 3600 * options.hours) if options.decide else need_lines(market):
        print(f"  {line}")
