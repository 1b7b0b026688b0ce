"""Measures how planning and reporting scale: 10,000 planned runs, and a report of 5,000 finished runs of 240 epochs.

    python perf/report_scale.py [--planned 10000] [--finished 5000] [--folder DIR]

Goals on a fast machine: 100,000 planned runs expanded, hashed and checked in 15 s; the report of 5,000 runs in 10 s and
1 GB with a page of 5 MB, and of 10 MB for 20,000 runs. Process times are printed next to wall times, because they are
more reliable on a busy machine. The run folders are generated, so their numbers are meaningless. Asserts nothing.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.planning.plan import make_plan, statuses
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.runs.spec import RunSpec


def planned_cells(seeds: int) -> tuple[Profile, dict[str, list[Cell]]]:
    """Returns the paper profile with ``seeds`` seeds, and its benchmarks' cells."""
    profile = read_profile("paper", [f"seeds={json.dumps(list(range(seeds)))}"])
    return profile, {
        name: BENCHMARKS[name].cells(SpecBuilder(profile.for_benchmark(name))) for name in profile.benchmarks
    }


def seeds_for(runs: int) -> int:
    """Returns the number of seeds that gives about ``runs`` runs."""
    few, more = (len(make_plan(c.spec for g in planned_cells(n)[1].values() for c in g if c.spec).runs) for n in (1, 2))
    return max(1, round((runs - few) / (more - few)) + 1)


def write_finished(spec: RunSpec, runs: Path, rng: random.Random) -> None:
    """Writes a finished run's folder with generated numbers and without weights."""
    folder = runs / spec.id
    folder.mkdir(parents=True)
    level = rng.gauss(70, 2)
    score = "test_head_top1" if spec.role == "head" else "test_top1"
    rows: list[dict[str, Any]] = []
    for epoch in range(1, spec.recipe.epochs + 1):
        top1 = level * (1 - 0.8 * 0.97**epoch) + rng.gauss(0, 0.3)
        rows.append(
            {
                "stage": "main",
                "epoch": epoch,
                "rate": 0.05,
                "loss": 400 / epoch,
                "loss_ce": 1 / epoch,
                "loss_kd": 2 / epoch,
            }
            | {score: top1, "test_top5": 90.0, "test_loss": 1.2345678901234567, "test_images": 10000}
            | {"seconds": 12.345, "evaluation_seconds": 1.234, "images_per_second": 4321.0}
        )
    best = max(rows, key=lambda row: row[score])
    tests = [{k: v for k, v in row.items() if k == "epoch" or k.startswith("test_")} for row in (best, rows[-1])]
    result = {"id": spec.id, "best": tests[0], "last": tests[1], "parameters": 1000, "train_images": 50000}
    result |= {
        "precision": "bf16",
        "seconds": 3259.0,
        "images_per_second": 4321.0,
        "finished": "2026-01-01T00:00:00+00:00",
    }
    result["machine"] = {
        "host": "generated",
        "device": "none",
        "python": "3",
        "torch": "2",
        "commit": "0",
        "dirty": False,
    }
    if spec.role == "student" and spec.teacher is not None:
        result |= {"kl": abs(rng.gauss(0.2, 0.02)), "cka": rng.uniform(0.7, 0.9)}
    (folder / "spec.yaml").write_text("generated: true\n", encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def measure_plan(runs: int, folder: Path) -> str:
    """Plans about ``runs`` runs: expands, hashes and checks them."""
    seeds = seeds_for(runs)
    started, used = time.perf_counter(), time.process_time()
    _, cells = planned_cells(seeds)
    plan = make_plan(cell.spec for group in cells.values() for cell in group if cell.spec)
    statuses(plan, folder / "runs")
    seconds, used = time.perf_counter() - started, time.process_time() - used
    return f"{len(plan.runs)} planned runs expanded, hashed and checked: {seconds:.1f} s, {used:.1f} s of this process"


def generate(runs: int, folder: Path) -> str:
    """Writes the folders of about ``runs`` finished runs."""
    _, cells = planned_cells(seeds_for(runs))
    plan = make_plan(cell.spec for group in cells.values() for cell in group if cell.spec)
    rng = random.Random(0)
    for spec in plan.runs:
        write_finished(spec, folder / "runs", rng)
    return f"{len(plan.runs)} run folders generated"


def measure_report(runs: int, folder: Path) -> str:
    """Writes the report of the generated runs, including the plan."""
    seeds = seeds_for(runs)
    started, used = time.perf_counter(), time.process_time()
    profile, cells = planned_cells(seeds)
    write_report(profile, cells, folder)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    page = (folder / "index.html").stat().st_size / 2**20
    return (
        f"report over them: {seconds:.1f} s, {used:.1f} s of this process, peak {peak:.2f} GB (goal: 1), "
        f"page {page:.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--planned", type=int, default=10_000)
    parser.add_argument("--finished", type=int, default=5_000)
    parser.add_argument("--folder", type=Path, help="where to generate (default: a temporary folder, removed)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place) / "paper"
        steps = ((measure_plan, options.planned), (generate, options.finished), (measure_report, options.finished))
        for step, runs in steps:  # separate processes, because peak memory is measured per process
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                print(process.submit(step, runs, folder).result(), flush=True)


if __name__ == "__main__":
    main()
