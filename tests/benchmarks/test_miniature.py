"""The profile miniature: it plans all committed runs, its tables have the pairs that it names, and claims say so."""

import json
from pathlib import Path

import pytest

from benchmarks.analysis.comparability import exclude_incomparable
from benchmarks.analysis.frame import results_frame
from benchmarks.analysis.setting import same_runs
from benchmarks.commands.main import main
from benchmarks.commands.seeds import cells_of
from benchmarks.planning.cost import table_costs
from benchmarks.planning.plan import make_plan, statuses
from benchmarks.profiles.read import read_profile
from benchmarks.statistics.claims import CLAIMS
from benchmarks.statistics.judging import judge
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.runs.run_folder import Status
from tests.benchmarks.made import made_frame

RESULTS = Path(__file__).parents[2] / "results" / "miniature"
BY_ID = {claim.id: claim for claim in CLAIMS}


def test_every_committed_run_is_planned_finished_and_comparable() -> None:
    profile = read_profile("miniature", [])
    cells = cells_of(profile, profile.benchmarks, RESULTS)
    plan = make_plan(cell.spec for group in cells.values() for cell in group)
    committed = {folder.name for folder in (RESULTS / "runs").iterdir()}
    known = statuses(plan, RESULTS / "runs")
    assert len(committed) > 70
    assert committed <= known.keys()
    # a head's weights are not committed, and students that are not trained yet need them
    assert {known[run].state for run in committed} <= {"finished", "weights lost"}
    assert all(known[run].state == "finished" for run in committed if run.startswith("student"))
    _, cards = exclude_incomparable(results_frame(cells, RESULTS / "runs"), profile)
    assert [card.refused for card in cards.values()] == [[]] * len(cells)


def test_a_table_has_the_pairs_that_stand_for_the_papers_and_each_once() -> None:
    profile = read_profile("miniature", ["seeds=[0]"])
    for name, pairs in (("table2", 1), ("table3", 3), ("table4", 4)):
        cells = cells_of(profile, [name], RESULTS.parent / "nothing")[name]
        columns = dict.fromkeys((cell.column, cell.run_pair) for cell in cells)
        assert len(columns) == len({run_pair for _, run_pair in columns}) == pairs
    left_out = read_profile("miniature", ["pairs.vgg13/vgg8=null"])
    assert "vgg13/vgg8" not in {cell.pair for cell in BENCHMARKS["table3"].cells(SpecBuilder(left_out))}
    with pytest.raises(UserError, match=r"pairs.vgg13/vgg8 is null"):
        BENCHMARKS["fig4a"].cells(SpecBuilder(left_out))
    with pytest.raises(UserError, match="all of a table's pairs are null: vgg13/vgg8, resnet56/resnet20"):
        BENCHMARKS["table2"].cells(SpecBuilder(left_out))


@pytest.mark.parametrize(("claim", "table"), [("C1", "table4"), ("C2", "table3")])
def test_a_claim_is_about_the_pairs_that_there_are(claim: str, table: str) -> None:
    profile = read_profile("miniature", [])
    standing = {pair: run for pair, run in profile.pairs.items() if pair in BY_ID[claim].pairs}
    runs = {pair: run for pair, run in standing.items() if run}
    values = {
        (row, pair): [70.0 + jitter + 5 * (row == "SSKD") for jitter in (0.0, 0.1, 0.2 + 0.1 * (row == "SSKD"))]
        for row in ("Student", "KD", "AT", "CRD", "SSKD")
        for pair in runs
    }
    verdict = judge(BY_ID[claim], made_frame(table, values, pairs=runs))
    assert verdict.verdict == "supported"
    cells = {column for part in verdict.comparisons for _, column in part.cells}
    assert cells == {f"{run} for {pair}" for pair, run in runs.items()}
    for pair in standing.keys() - runs.keys():
        assert pair in verdict.omitted
    assert claim == "C2" or "another setting" in verdict.sized


def test_robustness_has_subsets_and_heads_of_each_seeds_own() -> None:
    profile = read_profile("miniature", [])
    cells = cells_of(profile, ["robustness"], RESULTS.parent / "nothing")["robustness"]
    rows: dict[str, list[tuple[int, int, int | None]]] = {}
    for cell in cells:
        head = cell.spec.head.seed if cell.spec.head else None
        rows.setdefault(cell.row, []).append((cell.spec.seed, cell.spec.split.seed, head))
    assert rows == {
        "KD": [(0, 0, None), (1, 0, None), (2, 0, None)],
        "KD, a subset each": [(0, 1, None), (1, 2, None), (2, 3, None)],
        "SSKD": [(0, 0, 0), (1, 0, 0), (2, 0, 0)],
        "SSKD, a subset each": [(0, 1, 0), (1, 2, 0), (2, 3, 0)],
        "SSKD, a head each": [(0, 0, 1), (1, 0, 2), (2, 0, 3)],
    }
    assert len({cell.spec.id for cell in cells}) == len(cells)
    whole = BENCHMARKS["robustness"].cells(SpecBuilder(read_profile("miniature", ["split.fraction=1.0"])))
    assert {cell.row for cell in whole} == {"KD", "SSKD", "SSKD, a head each"}  # there are no other subsets


def test_what_each_table_costs() -> None:
    """A shared run counts in each table, a finished student's head in what is left only if another student needs it."""
    profile = read_profile("miniature", ["seeds=[0]", "methods=[kd,sskd]"])
    cells = cells_of(profile, ["comparison", "fig3b"], RESULTS.parent / "nothing")
    specs = {name: [cell.spec for cell in group] for name, group in cells.items()}
    plan = make_plan(spec for group in specs.values() for spec in group)
    seconds = {spec.id: {"teacher": 0.0, "head": 100.0, "student": 10.0}[spec.role] for spec in plan.runs}
    absent = {spec.id: Status("absent") for spec in plan.runs}
    costs = table_costs(specs, seconds, absent)
    assert costs["comparison"] == (4, 4, 120, 120)  # the teacher is measured
    assert costs["fig3b"] == (5, 5, 140, 140)
    (head,) = (spec.id for spec in plan.runs if spec.role == "head")
    finished = absent | {spec.id: Status("finished") for spec in specs["comparison"]} | {head: Status("weights lost")}
    costs = table_costs(specs, seconds, finished)
    assert costs["comparison"] == (4, 0, 120, 0)
    assert costs["fig3b"] == (5, 3, 140, 120)


def test_a_plan_has_each_tables_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["plan", "--profile", "demo", "--results", str(tmp_path), "--seeds", "0", "--methods", "none,kd"]
    options += ["--only", "comparison"]
    assert main([*options, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["tables"]["comparison"]["left"] == len(shown["runs"]) == 3
    assert shown["tables"]["comparison"]["seconds"] == pytest.approx(shown["seconds"])


def test_rows_with_the_same_runs_in_two_columns_are_named() -> None:
    values = {(row, column): [70.0, 71.0] for row in ("Student", "KD") for column in ("a", "b")}
    frame = made_frame("table4", values)
    apart = frame["row"].where(frame["row"] == "Student", frame["row"] + frame["column"])
    frame = frame.assign(id=apart + frame["seed"].astype(str))
    assert same_runs(frame) == ["The runs are the same in a and b: Student."]
    assert same_runs(frame[frame["row"] == "KD"]) == []
