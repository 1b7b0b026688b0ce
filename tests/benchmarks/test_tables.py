"""Tests the runs of each table and figure, and that shared runs are planned once."""

from typing import Any

import pandas as pd
import pytest

from benchmarks.analysis.published import linear_evaluation, published, published_elsewhere, reproductions
from benchmarks.planning.plan import make_plan
from benchmarks.profiles.read import read_profile
from benchmarks.report import tables
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell, shown_pair
from benchmarks.tables.spec_builder import PAPER_METHODS, SpecBuilder
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.spec import RunSpec, StudentSpec

NAMES = ("comparison", "table1", "table2", "table3", "table4", "table6", "fig3a", "fig3b", "fig4a", "fig4b")


def cells_of(profile_name: str, *settings: str) -> dict[str, list[Cell]]:
    profile = read_profile(profile_name, list(settings))
    return {name: BENCHMARKS[name].cells(SpecBuilder(profile.for_benchmark(name))) for name in NAMES}


def specs(cells: list[Cell]) -> list[RunSpec]:
    return [cell.spec for cell in cells if cell.spec]


def students(cells: list[Cell]) -> set[str]:
    return {spec.id for spec in specs(cells) if spec.role == "student"}


def test_shared_runs_are_planned_and_trained_once() -> None:
    """The runs that each benchmark adds to the earlier ones, for one seed, were counted by hand."""
    cells = cells_of("paper", "seeds=[0]")
    seen: set[str] = set()
    added = {}
    for name in ("table3", "table4", "table6", "fig3a", "fig3b", "table1", "table2", "fig4a", "fig4b", "comparison"):
        added[name] = len(students(cells[name]) - seen)
        seen |= students(cells[name])
    assert added == {
        "table3": 5 * 12,
        "table4": 6 * 12 - 3,  # MobileNetV2 and ShuffleV1 without a teacher are in two pairs, vgg8 is in table 3
        "table6": 0,
        "fig3a": 0,
        "fig3b": 2,  # +L_T and +L_ss
        "table1": 4,  # 75 % is SSKD
        "table2": 2 * 3,  # contrastive is SSKD
        "fig4a": 4 * 3,  # all images are table 3's
        "fig4b": 5 * 4 - 2,  # KD and SSKD without noise are table 3's
        "comparison": 0,
    }
    plan = make_plan(spec for group in cells.values() for spec in specs(group))
    ids = [spec.id for spec in plan.runs]
    assert len(ids) == len(set(ids))
    teachers = {spec.network for spec in plan.runs if spec.role == "teacher"}
    assert teachers == {"wrn_40_2", "resnet56", "resnet32x4", "vgg13", "ResNet50"}
    heads = [spec for spec in plan.runs if spec.role == "head"]
    assert len(heads) == 5 + 2 * 3  # one a teacher, and table 2's other tasks on two of them
    assert len(ids) == sum(added.values()) + len(teachers) + len(heads)


def test_the_paper_profile_has_the_published_recipe_and_enough_seeds() -> None:
    cells = cells_of("paper")
    for name, group in cells.items():
        kinds = [spec for spec in specs(group) if spec.role == "student"]
        assert {spec.recipe.epochs for spec in kinds} == {240}
        seeds = {spec.seed for spec in kinds}
        assert len(seeds) >= (5 if name in ("table1", "table2", "fig3b", "table6") else 3)


def test_tables_3_and_4_have_the_papers_rows_and_pairs() -> None:
    for name, pairs in (("table3", 5), ("table4", 6)):
        cells = cells_of("paper", "seeds=[0]")[name]
        paper = {(row, column) for row, column, _ in published(name)} | published_elsewhere(name).keys()
        assert {(cell.row, cell.column) for cell in cells} == paper
        assert len(cells) == 13 * pairs


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_says_what_it_is(name: str) -> None:
    text = __import__(f"benchmarks.tables.{name}", fromlist=["x"]).__doc__
    assert f"--only {name}" in text
    assert "Cost" in text
    assert "xpect" in text


def test_noisy_labels_share_one_weight_and_a_clean_teacher() -> None:
    kinds = specs(cells_of("paper", "seeds=[0]")["fig4b"])
    assert {spec.method.ce_weight for spec in kinds if isinstance(spec, StudentSpec)} == {0.1}
    assert {spec.split.noise for spec in kinds} == {0.0, 0.1, 0.3, 0.5}
    assert {needed.split.noise for spec in kinds for needed in spec.dependencies} == {0.0}
    assert {(spec.split.fraction, spec.split.seed) for spec in kinds} == {(1.0, 0)}


def published_place(cell: Cell) -> tuple[str, str]:
    """The row and column that the paper's table has for the cell."""
    return cell.row, cell.pair if cell.column == shown_pair(cell.run_pair, cell.pair) else cell.column


def test_smoke_has_every_cell_of_the_paper_profile() -> None:
    smoke, paper = cells_of("smoke"), cells_of("paper")
    for name in NAMES:
        if name != "comparison":
            assert set(map(published_place, smoke[name])) == set(map(published_place, paper[name]))
    plan = make_plan(spec for group in smoke.values() for spec in specs(group))
    assert len(plan.runs) == 131
    assert {spec.network for spec in plan.runs} <= {"resnet14", "resnet8", "wrn_16_1"}
    methods: list[Any] = [spec.method for spec in plan.runs if isinstance(spec, StudentSpec)]
    assert max(method.negatives for method in methods if method.name == "crd") == 256


def test_published_numbers_have_sources() -> None:
    for name in ("table2", "table3", "table4", "table5"):
        values = published(name)
        assert values
        assert all(value.source and 20 < value.value < 100 for value in values.values())
    assert published("table4")["SSKD", "vgg13/MobileNetV2", "top1"].value == 71.53
    assert published("table5")["SSKD", "resnet34/resnet18", "top5"].value == 90.67
    assert published("comparison")["CRD", "resnet56/resnet20", "top1"].value == 71.68
    for name in ("table1", "table6", "fig3a", "fig3b", "fig4a", "fig4b"):
        assert not published(name), "the paper's numbers for this one were not at hand"
    assert list(linear_evaluation()) == ["Exemplar", "Jigsaw", "Rotation", "Contrastive"]
    assert set(reproductions({"vgg13/vgg8"})["pair"]) == {"vgg13/vgg8"}
    titles = {METHODS[name].info.title for name in PAPER_METHODS}
    assert titles | {"Teacher"} == {row for row, _, _ in published("table3")} | {"KD"}


def test_published_numbers_of_other_teachers_are_never_subtracted() -> None:
    """The paper's row KD is CRD's, with CRD's teachers."""
    for name in ("table3", "table4", "comparison"):
        others = published_elsewhere(name)
        assert {row for row, _ in others} == {"KD"}
        teachers = {pair: value.value for (row, pair, _), value in published(name).items() if row == "Teacher"}
        assert all(float(other.teacher) != teachers[pair] for (_, pair), other in others.items())
    place = {"row": "KD", "column": "resnet56/resnet20", "pair": "resnet56/resnet20", "run_pair": "resnet56/resnet20"}
    frame = pd.DataFrame([place | {"seed": 0, "id": "KD", "state": "finished", "why": "", "best_top1": 71.0}])
    (line,) = tables._other_protocols(BENCHMARKS["table3"], frame, {place["column"]: place["column"]})
    assert "KD, resnet56/resnet20 70.66 with a teacher of 72.34 %" in line


def test_a_profile_chooses_fractions_noise_and_further_methods() -> None:
    profile = read_profile("miniature", ["also=[none, {name: sskd, ss_weight: 0.0}]"])
    few = BENCHMARKS["fig4a"].cells(SpecBuilder(profile.for_benchmark("fig4a")))
    seen = {(cell.column, cell.spec.split.fraction, cell.spec.recipe.epochs) for cell in few if cell.spec}
    assert seen == {("10%", 0.1, 75), ("25%", 0.25, 30)}  # as many steps
    assert {cell.row for cell in few} == {"Student", "KD", "AT", "CRD", "SSKD", "SSKD, no L_ss"}
    noisy = BENCHMARKS["fig4b"].cells(SpecBuilder(profile.for_benchmark("fig4b")))
    assert {(cell.column, cell.spec.split.noise) for cell in noisy if cell.spec} == {("0%", 0.0), ("50%", 0.5)}


def test_imagenets_two_pairs_have_the_recipe_and_the_runs_of_table_5() -> None:
    profile = read_profile("paper", [])
    both, first = (BENCHMARKS[name].cells(SpecBuilder(profile.for_benchmark(name))) for name in ("imagenet", "table5"))
    pairs = ["resnet34/resnet18", "resnet50/mobilenet_v1"]
    assert list(dict.fromkeys(cell.column for cell in both)) == pairs
    shared = {"Teacher", "Student", "KD", "AT", "CRD", "SSKD"}
    wanted = {cell.spec.id for cell in first if cell.row in shared}
    assert {cell.spec.id for cell in both if cell.row in shared and cell.column == pairs[0]} == wanted
    recipes = [{cell.spec.recipe for cell in both if cell.column == p and cell.row != "Teacher"} for p in pairs]
    assert recipes[0] == recipes[1]
    rows = {cell.row for cell in both}
    known = published_elsewhere("imagenet")
    assert {pair for _, pair in known} == set(pairs)
    assert known["NORM", pairs[1]].value == 74.26
    assert rows - {row for row, _ in known} - {row for row, _, _ in published("imagenet")} == set()


@pytest.mark.parametrize("name", ["table3", "table5", "table6", "fig3a", "fig4a", "fig4b"])
def test_a_profile_leaves_methods_of_the_papers_tables_out(name: str) -> None:
    profile = read_profile("paper", ["table_methods=[kd, sskd]"]).for_benchmark(name)
    assert {cell.row for cell in BENCHMARKS[name].cells(SpecBuilder(profile))} - {"Teacher"} == {"KD", "SSKD"}
    with pytest.raises(UserError, match="did you mean 'sskd'"):
        read_profile("paper", ["table_methods=[kd, sksd]"])


def test_equal_time_stretches_the_cheap_methods() -> None:
    settings = ["step_costs={none: 0.5, kd: 1.0, sskd: 3.0}", "methods=[none, kd, at, sskd]", "seeds=[0]"]
    profile = read_profile("smoke", [*settings, "recipe.epochs=12"])
    cells = BENCHMARKS["equal_time"].cells(SpecBuilder(profile))
    epochs = {(cell.row, cell.column): cell.spec.recipe.epochs for cell in cells if cell.spec}
    equal = {(row, "equal epochs"): 12 for row in ("Student", "KD", "AT", "SSKD")}
    assert epochs == equal | {("Student", "equal time"): 72, ("KD", "equal time"): 36, ("SSKD", "equal time"): 12}
    ids = {cell.column: cell.spec.id for cell in cells if cell.spec and cell.row == "SSKD"}
    assert len(set(ids.values())) == 1  # one run for both columns


def test_teacher_seeds_give_every_seed_a_teacher_and_a_head_of_its_own() -> None:
    one, own = (cells_of("paper", f"teacher_seeds={on}", "seeds=[0,1,2]") for on in ("false", "true"))
    for cells, number in ((one, 1), (own, 3)):
        students = [cell.spec for cell in cells["comparison"] if isinstance(cell.spec, StudentSpec)]
        sskd = [spec for spec in students if spec.head]
        assert len({spec.head.id for spec in sskd if spec.head}) == number
        assert len({spec.dependencies[0].id for spec in students if spec.teacher}) == number
        assert sum(cell.row == "Teacher" for cell in cells["comparison"]) == number
        make_plan(spec for group in cells.values() for spec in specs(group))
    for spec in specs(own["comparison"]):
        assert {needed.seed for needed in spec.dependencies} <= {spec.seed}
    seed_0 = {cell.spec.id for cell in own["comparison"] if cell.spec.seed == 0}
    assert seed_0 <= {cell.spec.id for cell in one["comparison"]}  # what has been run is not run again


def test_a_teacher_from_a_file_is_one_and_its_heads_are_several() -> None:
    profile = read_profile("miniature", ["teacher_seeds=true", "seeds=[0,1]"])
    students = [spec for spec in specs(BENCHMARKS["comparison"].cells(SpecBuilder(profile))) if spec.role == "student"]
    sskd = [spec for spec in students if spec.head]
    assert len({spec.teacher for spec in sskd}) == 1
    assert len({spec.head.id for spec in sskd if spec.head}) == 2
