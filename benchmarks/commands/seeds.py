"""Adds the seeds that can decide claims: ``run_all.py decide C8,C9 --hours 10``.

After every seed its claims are judged again with sequential intervals. The loop ends when all claims are decided, when
the time does not suffice for the next decision, or when ten seeds would decide with a probability below 10 %.
Additional seeds are stored in the results folder (bought.json), so later reports and plans include them.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from benchmarks.analysis.comparability import exclude_incomparable
from benchmarks.analysis.frame import results_frame
from benchmarks.planning.cost import SEQUENTIAL, Concurrency, plan_cost
from benchmarks.planning.plan import make_plan, statuses
from benchmarks.profiles.profile import Profile
from benchmarks.statistics.claims import CLAIMS, Claim, method_claim
from benchmarks.statistics.comparison import rule_of
from benchmarks.statistics.judging import Verdict, judge
from benchmarks.statistics.power import tie_power_text
from benchmarks.statistics.seed_allocation import Allocation, SeedCost, allocate_seeds, first_seeds
from benchmarks.statistics.verdict import UNDECIDED, CellKeys, RequiredSeeds
from benchmarks.statistics.wording import chance_text
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.reference import row_named
from benchmarks.tables.spec_builder import SpecBuilder, unique_cells
from sskd.errors import UserError, unknown
from sskd.formatting import duration
from sskd.runs.files import read_json, write_json
from sskd.runs.spec import with_ancestors

EXTRA_SEEDS = "bought.json"
Failed = TypeVar("Failed")
BenchmarkCells = Mapping[str, list[Cell]]  # by benchmark


class ExtraSeed(NamedTuple):
    """An additional seed of some cells of a benchmark, beyond the profile's seeds."""

    benchmark: str
    seed: int
    cells: CellKeys


def read_extra_seeds(folder: Path) -> list[ExtraSeed]:
    """Returns the additional seeds; [] if there are none. Raises UserError for a damaged file."""
    path = folder / EXTRA_SEEDS
    rows: list[dict[str, Any]] = read_json(path) if path.exists() else []
    return [ExtraSeed(row["benchmark"], row["seed"], tuple((r, c) for r, c in row["cells"])) for row in rows]


def cells_of(profile: Profile, names: Iterable[str], folder: Path) -> dict[str, list[Cell]]:
    """Returns the benchmarks' cells: those of the profile, and the additional seeds."""
    cells = {
        name: unique_cells(name, BENCHMARKS[name].cells(SpecBuilder(profile.for_benchmark(name)))) for name in names
    }
    for entry in read_extra_seeds(folder):
        if entry.benchmark in cells:
            known = {(cell.row, cell.column, cell.spec.id) for cell in cells[entry.benchmark]}
            more = seed_cells(profile, entry.benchmark, (entry.seed,), entry.cells)
            cells[entry.benchmark] += [cell for cell in more if (cell.row, cell.column, cell.spec.id) not in known]
    return cells


def seed_cells(profile: Profile, benchmark: str, seeds: Sequence[int], keys: CellKeys | None = None) -> list[Cell]:
    """Returns the students of these seeds in a benchmark. keys: restricts them to cells, by row and column or published
    pair."""
    own = profile.for_benchmark(benchmark).model_copy(update={"seeds": tuple(seeds)})
    cells = [cell for cell in BENCHMARKS[benchmark].cells(SpecBuilder(own)) if cell.row != "Teacher"]
    if keys is None:
        return cells
    return [cell for cell in cells if (cell.row, cell.column) in keys or (cell.row, cell.pair) in keys]


class ClaimStatus(NamedTuple):
    """State of the claims, and the cost of the seeds that can decide them."""

    verdicts: list[Verdict]
    needs: list[RequiredSeeds]  # of those that seeds can decide
    remarks: list[str]  # why others cannot be, and the power of claims that hold for ties
    seed_cost: SeedCost
    planned: dict[str, tuple[int, ...]]

    def allocations(self, seconds: float) -> list[Allocation]:
        return allocate_seeds(self.needs, seconds, self.seed_cost, self.planned)


def assess(
    claims: Sequence[Claim], profile: Profile, folder: Path, concurrency: Concurrency = SEQUENTIAL
) -> ClaimStatus:
    """Judges the claims from the finished runs, and estimates the cost of the seeds that would decide them."""
    names = list(dict.fromkeys(claim.benchmark for claim in claims))
    cells, runs = cells_of(profile, names, folder), folder / "runs"
    frame, _ = exclude_incomparable(results_frame(cells, runs), profile)
    verdicts = [judge(claim, frame, rule=rule_of(profile)) for claim in claims]
    planned = {name: tuple(profile.for_benchmark(name).seeds) for name in names}
    possible = {name: seed_cells(profile, name, first_seeds(planned[name], rule_of(profile).last)) for name in names}
    plan = make_plan(cell.spec for group in possible.values() for cell in group)
    states, seconds = statuses(plan, runs), plan_cost(plan, runs, profile, concurrency).seconds

    @cache
    def seed_cost(benchmark: str, keys: CellKeys, seed: int) -> Mapping[str, float]:
        cells = [cell for cell in possible[benchmark] if cell.spec.seed == seed]
        here = [cell.spec for cell in cells if (cell.row, cell.column) in keys]
        # what a finished student was taught by does not count, even if its weights are gone
        wanted = [spec for spec in here if states[spec.id].state != "finished"]
        needed = with_ancestors(wanted)
        return {run: seconds[run] for run in sorted(needed) if states[run].state != "finished"}

    needs, remarks = [], []
    for claim, verdict in zip(claims, verdicts, strict=True):
        need, problem = verdict.need, ""
        if verdict.verdict != UNDECIDED:
            continue
        if need is None:
            problem = verdict.text
        else:
            there = {(cell.row, cell.column) for cell in cells[need.benchmark]}
            absent = [key for key in need.cells if key not in there]
            if absent:
                problem = f"the profile '{profile.name}' has no {absent[0][0]} in {absent[0][1]} of {need.benchmark}"
            elif need.seeds is None:
                problem = chance_text(need)
        if problem:
            remarks.append(f"{verdict.id} cannot be decided by more seeds: {problem}")
        elif need:
            needs.append(need)
            if math.isnan(need.chance) and (power := tie_power_text(claim, frame, rule_of(profile))):
                remarks.append(f"{verdict.id}: {power}")
    return ClaimStatus(verdicts, needs, remarks, seed_cost, planned)


def claims_named(names: Iterable[str], profile: Profile) -> list[Claim]:
    """Returns the claims with these ids. "sskd-kd" (or as in tables, "SSKD-KD") means the claim that the first method
    is above the second, in the first of the profile's benchmarks with both. Raises UserError for unknown names."""
    by_id = {claim.id: claim for claim in CLAIMS}
    return [by_id[name] if name in by_id else _of_methods(name, by_id, profile) for name in dict.fromkeys(names)]


def _of_methods(name: str, by_id: Mapping[str, Claim], profile: Profile) -> Claim:
    first, dash, second = name.partition("-")
    if not dash:
        raise unknown("claim", name, by_id)
    known: dict[str, None] = {}
    for benchmark in profile.benchmarks:
        cells = BENCHMARKS[benchmark].cells(SpecBuilder(profile.for_benchmark(benchmark)))
        rows = list(dict.fromkeys(cell.row for cell in cells if cell.row != "Teacher"))
        known |= dict.fromkeys(rows)
        ours, theirs = (method if method in rows else row_named(method) for method in (first, second))
        if BENCHMARKS[benchmark].rows == "method" and ours in rows and theirs in rows and ours != theirs:
            return method_claim(ours, theirs, benchmark)
    for method in (first, second):
        if method not in known and row_named(method) not in known:
            raise unknown("method", method, known)
    raise UserError(f"no benchmark of the profile '{profile.name}' compares {first} with {second}")


def need_rows(assessed: ClaimStatus) -> list[dict[str, Any]]:
    """Returns a row per claim: claim, verdict, seeds (number of seeds at which the claim is decided in half of the
    simulated futures that decide it; None if hardly any do), chance (probability that the claim is decided by the last
    look; None if unknown), and the cost of these seeds in seconds."""
    needs = {need.claim: need for need in assessed.needs}
    rows: list[dict[str, Any]] = []
    for verdict in assessed.verdicts:
        need = needs.get(verdict.id)
        runs: dict[str, float] = {}
        for seed in first_seeds(assessed.planned[need.benchmark], need.seeds or 0) if need else ():
            runs |= assessed.seed_cost(need.benchmark, need.cells, seed)  # type: ignore[union-attr]
        rows.append(
            {
                "claim": verdict.id,
                "verdict": verdict.verdict,
                "seeds": need.seeds if need else None,
                "chance": None if need is None or math.isnan(need.chance) else round(need.chance, 3),
                "seconds": sum(runs.values()),
            }
        )
    return rows


def need_lines(assessed: ClaimStatus) -> list[str]:
    """Formats the rows of need_rows."""
    lines = []
    for row in need_rows(assessed):
        if row["verdict"] != UNDECIDED:
            lines.append(f"{row['claim']}: {row['verdict']}")
        elif row["seeds"]:
            need = next(need for need in assessed.needs if need.claim == row["claim"])
            lines.append(f"{row['claim']}: {_odds(need)}, about {duration(row['seconds'])} more")
    return lines + assessed.remarks


def _odds(need: RequiredSeeds) -> str:
    if math.isnan(need.chance):
        return f"{need.seeds} seeds are needed to estimate the variance"
    return f"{chance_text(need)}, in half of these cases with {need.seeds}"


def allocation_lines(assessed: ClaimStatus, seconds: float) -> list[str]:
    """Describes the seeds that would be run."""
    allocations = assessed.allocations(seconds)
    lines = [
        f"{one.claim}: seeds {', '.join(map(str, one.seeds))} of {len(one.cells)} cells of {one.benchmark}, "
        f"about {duration(one.seconds)}"
        for one in allocations
    ]
    lines += [f"{v.id}: {v.effect_text}: already {v.verdict}" for v in assessed.verdicts if v.verdict != UNDECIDED]
    allocated = {allocation.claim for allocation in allocations}
    for need in assessed.needs:
        if need.claim not in allocated:
            lines.append(f"{need.claim}: {_odds(need)}; the time does not suffice")
    return lines + assessed.remarks


def decide_claims(
    claims: Sequence[Claim],
    seconds: float,
    profile: Profile,
    folder: Path,
    execute: Callable[[BenchmarkCells], dict[str, Failed]],
    log: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Failed]:
    """Trains one seed after another with ``execute`` until all claims are decided or ``seconds`` do not suffice.
    Returns the failures of the seed that ended the loop, by run id."""
    started, tried = clock(), set[ExtraSeed]()
    while True:
        assessed = assess(claims, profile, folder)
        left = seconds - (clock() - started)
        allocations = assessed.allocations(left)
        if not allocations:
            for line in allocation_lines(assessed, left):
                log(line)
            return {}
        allocation, seed = allocations[0], allocations[0].seeds[0]
        extra = ExtraSeed(allocation.benchmark, seed, allocation.cells)
        if extra in tried:  # cancelled by someone: it has neither ended nor failed
            log(f"{allocation.claim}: seed {seed} was not finished")
            return {}
        tried.add(extra)
        odds = next(_odds(need) for need in assessed.needs if need.claim == allocation.claim)
        cells = f"{len(allocation.cells)} cells of {allocation.benchmark}"
        log(f"{allocation.claim}: seed {seed} of {cells}; {odds}; {duration(left)} left")
        if seed not in assessed.planned[allocation.benchmark]:
            _note(folder, extra)
        failures = execute({allocation.benchmark: seed_cells(profile, allocation.benchmark, (seed,), allocation.cells)})
        if failures:
            return failures


def _note(folder: Path, allocated: ExtraSeed) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / EXTRA_SEEDS, [entry._asdict() for entry in dict.fromkeys([*read_extra_seeds(folder), allocated])]
    )
