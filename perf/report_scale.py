"""Measures how planning and reporting scale: 10,000 planned runs, and a report of 5,000 finished runs of 240 epochs.

    python -m perf.report_scale [--planned 10000] [--finished 5000] [--folder DIR]

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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.planning.plan import Plan, make_plan, statuses
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.runs.spec import RunSpec

MACHINE = {"host": "generated", "device": "none", "python": "3", "torch": "2", "commit": "0", "dirty": False}
EPOCH: dict[str, Any] = {"stage": "main", "rate": 0.05, "seconds": 12.345, "evaluation_seconds": 1.234}
TEST = {"test_top5": 90.0, "test_loss": 1.2345678901234567, "test_images": 10000}
RESULT: dict[str, Any] = {"parameters": 1000, "train_images": 50000, "precision": "bf16", "seconds": 3259.0}
RESULT |= {"images_per_second": 4321.0, "finished": "2026-01-01T00:00:00+00:00", "machine": MACHINE}


def planned(runs: int) -> tuple[Profile, dict[str, list[Cell]], Plan]:
    """Returns the paper profile with as many seeds as give about ``runs`` runs, its cells and its plan."""

    def with_seeds(number: int) -> tuple[Profile, dict[str, list[Cell]], Plan]:
        profile = read_profile("paper", [f"seeds={json.dumps(list(range(number)))}"])
        cells = {name: BENCHMARKS[name].cells(SpecBuilder(profile.for_benchmark(name))) for name in profile.benchmarks}
        return profile, cells, make_plan(cell.spec for group in cells.values() for cell in group)

    few, more = (len(with_seeds(number)[2].runs) for number in (1, 2))
    return with_seeds(max(1, round((runs - few) / (more - few)) + 1))


def write_finished(spec: RunSpec, runs: Path, rng: random.Random) -> None:
    """Writes a finished run's folder with generated numbers and without weights."""
    folder, level = runs / spec.id, rng.gauss(70, 2)
    folder.mkdir(parents=True)
    score = "test_head_top1" if spec.role == "head" else "test_top1"
    rows = [
        EPOCH | {"epoch": epoch, score: level * (1 - 0.8 * 0.97**epoch) + rng.gauss(0, 0.3), "loss": 400 / epoch} | TEST
        for epoch in range(1, spec.recipe.epochs + 1)
    ]
    epochs = {"best": max(rows, key=lambda row: row[score]), "last": rows[-1]}
    numbers = {which: {key: row[key] for key in ("epoch", score, *TEST)} for which, row in epochs.items()}
    result = RESULT | {"id": spec.id} | numbers
    if spec.role == "student" and spec.teacher is not None:
        result |= {"kl": abs(rng.gauss(0.2, 0.02)), "cka": rng.uniform(0.7, 0.9)}
    (folder / "spec.yaml").write_text("generated: true\n", encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def measure_plan(runs: int, folder: Path) -> str:
    """Plans about ``runs`` runs: expands, hashes and checks them."""
    *_, plan = planned(runs)
    statuses(plan, folder / "runs")
    return f"{len(plan.runs)} planned runs expanded, hashed and checked"


def generate(runs: int, folder: Path) -> str:
    """Writes the folders of about ``runs`` finished runs."""
    specs, rng = planned(runs)[2].runs, random.Random(0)
    for spec in specs:
        write_finished(spec, folder / "runs", rng)
    return f"{len(specs)} run folders generated"


def measure_report(runs: int, folder: Path) -> str:
    """Writes the report of the generated runs, including the plan."""
    profile, cells, _ = planned(runs)
    write_report(profile, cells, folder)
    page = (folder / "index.html").stat().st_size / 2**20
    return f"report over them, with a page of {page:.1f} MB"


def timed(action: Callable[[int, Path], str], runs: int, folder: Path) -> str:
    """Executes an action and describes it with its times and its peak memory."""
    started, used = time.perf_counter(), time.process_time()
    text = action(runs, folder)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{text}: {seconds:.1f} s, {used:.1f} s of this process, peak {peak:.2f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--planned", type=int, default=10_000)
    parser.add_argument("--finished", type=int, default=5_000)
    parser.add_argument("--folder", type=Path, help="where to generate (default: a temporary folder, removed)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        actions = ((measure_plan, options.planned), (generate, options.finished), (measure_report, options.finished))
        for action, runs in actions:  # separate processes, because peak memory is measured per process
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                print(process.submit(timed, action, runs, Path(place) / "paper").result(), flush=True)


if __name__ == "__main__":
    main()
