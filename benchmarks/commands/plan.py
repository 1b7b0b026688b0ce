"""``run_all.py plan``: prints the runs of a request, their dependencies and cost, and the seeds that claims need."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands.request import Outcome, Request, add_cluster, add_json, add_request, job_of, read_request
from benchmarks.commands.run import add_rerun
from sskd.errors import UserError

if TYPE_CHECKING:
    from benchmarks.planning.cost import Concurrency
    from sskd.runs.run_folder import Status
    from sskd.runs.spec import RunSpec

EXAMPLE = "plan --profile paper --only table3 --gpu A100 --count 8"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_request(parser)
    add_cluster(parser)
    add_rerun(parser)
    parser.add_argument(
        "--gpu", default="", metavar="NAME", help="estimate the cost for GPUs with this text in their name (A100)"
    )
    parser.add_argument("--count", type=int, metavar="N", help="number of these GPUs, one run each (default: 1)")
    add_json(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.commands.preflight import room
    from benchmarks.dispatch.local import concurrency_of
    from benchmarks.dispatch.slurm_queue import check_time
    from benchmarks.planning.plan import check_runs, check_teachers, statuses
    from benchmarks.planning.staleness import runs_to_rerun

    request = read_request(options)
    job = job_of(request)
    root = Path(job.execution.dataset_root)
    rerun = runs_to_rerun(request.plan, request.folder / "runs", options.rerun)
    known = statuses(request.plan, request.folder / "runs", {spec.id for spec in rerun})
    todo = [spec for spec in request.plan.runs if known[spec.id].state != "finished"]
    check_runs(todo, request.profile, root, room(job))
    if job.cluster.kind == "slurm":
        check_time(job.cluster)
    print_plan(request, known, rerun, _on_gpus(options.gpu, options.count) or concurrency_of(job.cluster))
    for line in check_teachers(todo, root):  # last, because a plan can be made without the weights
        print(line, file=sys.stderr if options.json else sys.stdout)
    return Outcome()


def _on_gpus(gpu: str, count: int | None) -> Concurrency | None:
    """Returns the GPUs that --gpu and --count name; None without these options."""
    from benchmarks.planning.cost import Concurrency

    if count is not None and (count < 1 or not gpu):
        raise UserError(f"--count {count}: expected the number of GPUs, at least 1, together with --gpu NAME")
    return Concurrency(count or 1, 1, True, gpu=gpu) if gpu else None


def print_plan(
    request: Request, known: Mapping[str, Status], rerun: Sequence[RunSpec], concurrency: Concurrency
) -> None:
    """Prints the runs, their cost, and the state of the paper's claims; as JSON with --json."""
    from benchmarks.analysis.probes import probes_cost, probes_of
    from benchmarks.commands.seeds import assess, need_lines, need_rows
    from benchmarks.planning.cost import plan_cost, table_costs
    from benchmarks.planning.staleness import changed_runs, describe_changes
    from benchmarks.statistics.claims import CLAIMS
    from benchmarks.tables.spec_builder import run_label
    from sskd.formatting import duration, plural

    plan, profile, runs = request.plan, request.profile, request.folder / "runs"
    again = {spec.id for spec in rerun}
    cost = plan_cost(plan, runs, profile, concurrency, again)
    changed = changed_runs(plan.runs, runs)
    assessed = assess(
        [claim for claim in CLAIMS if claim.benchmark in request.cells], profile, request.folder, concurrency
    )
    specs = {name: [cell.spec for cell in group] for name, group in request.cells.items()}
    tables = table_costs(specs, cost.seconds, known)
    images = Path(profile.execution.dataset_root)
    probes = probes_cost(probes_of(request.cells, profile), runs, images, cost.throughput)
    rows = [
        {
            "id": spec.id,
            "label": run_label(spec),
            "stage": number,
            "state": known[spec.id].state,
            "why": known[spec.id].message,
            "changed": changed.get(spec.id, ""),
            "needs": [needed.id for needed in spec.dependencies],
            "multiply_adds": cost.multiply_adds[spec.id],
            "seconds": cost.seconds[spec.id],
        }
        for number, stage in enumerate(plan.stages)
        for spec in stage
    ]
    if request.options.json:
        content = {
            "runs": rows,
            "seconds": cost.left,
            "runs_at_once": cost.concurrency.runs,
            "seconds_at_once": cost.elapsed,
            "rate": cost.throughput,
            "rate_from": cost.source,
            "assumed": cost.assumed,
            "tables": {name: table._asdict() for name, table in tables.items()},
            "claims": need_rows(assessed),
            "probes": probes._asdict(),
        }
        print(json.dumps(content, indent=1))
        return
    for number, stage in enumerate(plan.stages, start=1):
        print(f"stage {number}: {plural(len(stage), 'run')}")
        for row in rows:
            if row["stage"] == number - 1:
                print(f"  {_line(row)}")
    if probes.number:
        print(probes.text)
    print("by table, sequentially; a shared run counts in each:")
    for name, table in tables.items():
        left = f"{table.left} left, {duration(table.seconds_left)}" if table.left else "all finished"
        print(f"  {name}: {plural(table.runs, 'run')}, {duration(table.seconds)}; {left}")
    print("\n".join([cost.text, *describe_changes(plan, runs)]))
    if assessed.verdicts:
        print("the paper's claims:")
    for line in need_lines(assessed):
        print(f"  {line}")


def _line(row: Mapping[str, Any]) -> str:
    """Describes a run of the plan."""
    from sskd.formatting import duration

    label = f" ({row['label']})" if row["label"] else ""  # ids of crd and crd+kd differ only in their hash
    why = f" ({row['why']})" if row["why"] else ""
    other = f" with other code ({row['changed']})" if row["changed"] else ""
    waits = f", after {', '.join(row['needs'])}" if row["needs"] else ""
    trained = f"{row['multiply_adds'] / 1e12:.3g} T multiply-adds, about {duration(row['seconds'])}"
    costs = trained if row["multiply_adds"] else "measured, not trained"
    return f"{row['id']}{label}: {row['state']}{why}{other}{waits}, {costs}"
