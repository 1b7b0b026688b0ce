"""Tests the runs of each table and figure, that shared runs are planned once, and the choice of the reference row."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.analysis.published import linear_evaluation, published, published_elsewhere, reproductions
from benchmarks.commands.main import main
from benchmarks.planning.plan import make_plan
from benchmarks.profiles.read import read_profile
from benchmarks.report import tables
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell, shown_pair
from benchmarks.tables.reference import choose_reference, with_reference
from benchmarks.tables.spec_builder import PAPER_METHODS
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.paths import PAPER
from sskd.runs.plugins import load_plugin
from sskd.runs.spec import RunSpec, StudentSpec
from tests.benchmarks import made

NAMES = ("comparison", "table1", "table2", "table3", "table4", "table6", "fig3a", "fig3b", "fig4a", "fig4b")


def cells_of(profile: str, *settings: str, names: tuple[str, ...] = NAMES) -> dict[str, list[Cell]]:
    return made.cells_of(read_profile(profile, list(settings)), *names)


def cells(name: str, profile: str, *settings: str) -> list[Cell]:
    return cells_of(profile, *settings, names=(name,))[name]


def specs(cells: list[Cell]) -> list[RunSpec]:
    return [cell.spec for cell in cells]


def test_shared_runs_are_planned_and_trained_once() -> None:
    """The runs that each benchmark adds to the earlier ones, for one seed, were counted by hand."""
    expected = {
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
    cells = cells_of("paper", "seeds=[0]")
    seen: set[str] = set()
    added = {}
    for name in expected:
        students = {spec.id for spec in specs(cells[name]) if spec.role == "student"}
        added[name] = len(students - seen)
        seen |= students
    assert added == expected
    plan = make_plan(spec for group in cells.values() for spec in specs(group))
    ids = [spec.id for spec in plan.runs]
    assert len(ids) == len(set(ids))
    teachers = {spec.network for spec in plan.runs if spec.role == "teacher"}
    assert teachers == {"wrn_40_2", "resnet56", "resnet32x4", "vgg13", "ResNet50"}
    heads = [spec for spec in plan.runs if spec.role == "head"]
    assert len(heads) == 5 + 2 * 3  # one a teacher, and table 2's other tasks on two of them
    assert len(ids) == sum(added.values()) + len(teachers) + len(heads)


def test_the_paper_profile_has_the_published_recipe_and_enough_seeds() -> None:
    for name, group in cells_of("paper").items():
        kinds = [spec for spec in specs(group) if spec.role == "student"]
        assert {spec.recipe.epochs for spec in kinds} == {240}
        assert len({spec.seed for spec in kinds}) >= (5 if name in ("table1", "table2", "fig3b", "table6") else 3)


@pytest.mark.parametrize(("name", "pairs"), [("table3", 5), ("table4", 6)])
def test_tables_3_and_4_have_the_papers_rows_and_pairs(name: str, pairs: int) -> None:
    group = cells(name, "paper", "seeds=[0]")
    paper = {(row, column) for row, column, _ in published(name)} | published_elsewhere(name).keys()
    assert {(cell.row, cell.column) for cell in group} == paper
    assert len(group) == 13 * pairs


def test_noisy_labels_share_one_weight_and_a_clean_teacher() -> None:
    kinds = specs(cells("fig4b", "paper", "seeds=[0]"))
    assert {spec.method.ce_weight for spec in kinds if isinstance(spec, StudentSpec)} == {0.1}
    assert {spec.split.noise for spec in kinds} == {0.0, 0.1, 0.3, 0.5}
    assert {needed.split.noise for spec in kinds for needed in spec.dependencies} == {0.0}
    assert {(spec.split.fraction, spec.split.seed) for spec in kinds} == {(1.0, 0)}


def test_smoke_has_every_cell_of_the_paper_profile() -> None:
    def published_place(cell: Cell) -> tuple[str, str]:
        return cell.row, cell.pair if cell.column == shown_pair(cell.run_pair, cell.pair) else cell.column

    smoke, paper = cells_of("smoke"), cells_of("paper")
    for name in NAMES[1:]:
        assert set(map(published_place, smoke[name])) == set(map(published_place, paper[name]))
    plan = make_plan(spec for group in smoke.values() for spec in specs(group))
    assert {spec.network for spec in plan.runs} <= {"resnet14", "resnet8", "wrn_16_1"}
    methods: list[Any] = [spec.method for spec in plan.runs if isinstance(spec, StudentSpec)]
    assert max(method.negatives for method in methods if method.name == "crd") == 256


def test_published_numbers_have_sources() -> None:
    for name in ("table2", "table3", "table4", "table5"):
        assert all(20 < value < 100 for value in published(name).values())
        assert all(pd.read_csv(PAPER / file)["source"].notna().all() for file in BENCHMARKS[name].published)
    for place, value in {
        ("table4", "SSKD", "vgg13/MobileNetV2", "top1"): 71.53,
        ("table5", "SSKD", "resnet34/resnet18", "top5"): 90.67,
        ("comparison", "CRD", "resnet56/resnet20", "top1"): 71.68,
    }.items():
        assert published(place[0])[place[1:]] == value
    assert not any(published(name) for name in ("table1", "table6", "fig3a", "fig3b", "fig4a", "fig4b"))
    assert list(linear_evaluation()) == ["Exemplar", "Jigsaw", "Rotation", "Contrastive"]
    assert set(reproductions({"vgg13/vgg8"})["pair"]) == {"vgg13/vgg8"}
    titles = {METHODS[name].info.title for name in PAPER_METHODS}
    assert titles | {"Teacher"} == {row for row, _, _ in published("table3")} | {"KD"}


def test_published_numbers_of_other_teachers_are_never_subtracted() -> None:
    """The paper's row KD is CRD's, with CRD's teachers."""
    for name in ("table3", "table4", "comparison"):
        others = published_elsewhere(name)
        assert {row for row, _ in others} == {"KD"}
        teachers = {pair: value for (row, pair, _), value in published(name).items() if row == "Teacher"}
        assert all(float(other.teacher) != teachers[pair] for (_, pair), other in others.items())
    pair = "resnet56/resnet20"
    frame = made.made_frame("table3", {("KD", pair): [71.0]})
    (line,) = tables._other_protocols(BENCHMARKS["table3"], frame, {pair: pair})
    assert "KD, resnet56/resnet20 70.66 with a teacher of 72.34 %" in line
    assert pd.isna(tables.summary(frame, BENCHMARKS["table3"])["best difference"]).all()


def test_a_profile_chooses_fractions_noise_and_further_methods() -> None:
    also = "also=[none, {name: sskd, ss_weight: 0.0}]"
    few, noisy = cells("fig4a", "miniature", also), cells("fig4b", "miniature", also)
    seen = {(cell.column, cell.spec.split.fraction, cell.spec.recipe.epochs) for cell in few}
    assert seen == {("10%", 0.1, 75), ("25%", 0.25, 30)}  # as many steps
    assert {cell.row for cell in few} == {"Student", "KD", "AT", "CRD", "SSKD", "SSKD, no L_ss"}
    assert {(cell.column, cell.spec.split.noise) for cell in noisy} == {("0%", 0.0), ("50%", 0.5)}


def test_imagenets_two_pairs_have_the_recipe_and_the_runs_of_table_5() -> None:
    both, first = cells("imagenet", "paper"), cells("table5", "paper")
    pairs = ["resnet34/resnet18", "resnet50/mobilenet_v1"]
    assert list(dict.fromkeys(cell.column for cell in both)) == pairs
    shared = {"Teacher", "Student", "KD", "AT", "CRD", "SSKD"}
    wanted = {cell.spec.id for cell in first if cell.row in shared}
    assert {cell.spec.id for cell in both if cell.row in shared and cell.column == pairs[0]} == wanted
    recipes = [{cell.spec.recipe for cell in both if cell.column == p and cell.row != "Teacher"} for p in pairs]
    assert recipes[0] == recipes[1]
    known = published_elsewhere("imagenet")
    assert {pair for _, pair in known} == set(pairs)
    assert known["NORM", pairs[1]].value == 74.26
    shown = {row for row, _ in known} | {row for row, _, _ in published("imagenet")}
    assert {cell.row for cell in both} <= shown | {"FCFD"}


@pytest.mark.parametrize("name", ["table3", "table5", "table6", "fig3a", "fig4a", "fig4b"])
def test_a_profile_leaves_methods_of_the_papers_tables_out(name: str) -> None:
    assert {cell.row for cell in cells(name, "paper", "table_methods=[kd, sskd]")} - {"Teacher"} == {"KD", "SSKD"}
    with pytest.raises(UserError, match="did you mean 'sskd'"):
        read_profile("paper", ["table_methods=[kd, sksd]"])


def test_equal_time_stretches_the_cheap_methods() -> None:
    settings = ["step_costs={none: 0.5, kd: 1.0, sskd: 3.0}", "methods=[none, kd, at, sskd]", "seeds=[0]"]
    group = cells("equal_time", "smoke", *settings, "recipe.epochs=12")
    epochs = {(cell.row, cell.column): cell.spec.recipe.epochs for cell in group}
    equal = {(row, "equal epochs"): 12 for row in ("Student", "KD", "AT", "SSKD")}
    assert epochs == equal | {("Student", "equal time"): 72, ("KD", "equal time"): 36, ("SSKD", "equal time"): 12}
    assert len({cell.spec.id for cell in group if cell.row == "SSKD"}) == 1  # one run for both columns


@pytest.mark.parametrize(("profile", "teachers"), [("paper", 3), ("miniature", 1)])  # miniature's is a file
def test_teacher_seeds_give_every_seed_a_teacher_and_a_head_of_its_own(profile: str, teachers: int) -> None:
    one, own = (cells("comparison", profile, f"teacher_seeds={on}", "seeds=[0,1,2]") for on in ("false", "true"))
    for group, number, heads in ((one, 1, 1), (own, teachers, 3)):
        students = [cell.spec for cell in group if isinstance(cell.spec, StudentSpec)]
        assert len({spec.head.id for spec in students if spec.head}) == heads
        assert len({spec.teacher for spec in students if spec.teacher}) == number
        assert sum(cell.row == "Teacher" for cell in group) == number
        make_plan(specs(group))
    for spec in specs(own):
        assert {needed.seed for needed in spec.dependencies} <= {spec.seed}
    seed_0 = {cell.spec.id for cell in own if cell.spec.seed == 0}
    assert seed_0 <= {cell.spec.id for cell in one}  # what has been run is not run again


def test_split_seeds_give_each_seed_its_own_split_and_leave_other_runs_as_they_were() -> None:
    def runs(*settings: str) -> list[Any]:
        group = cells("comparison", "miniature", "seeds=[0,1]", "methods=[kd]", *settings)
        return [cell.spec for cell in group if cell.row == "KD"]

    shared, own = runs(), runs("split_seeds=true")
    assert [spec.split.seed for spec in shared] == [0, 0]
    assert [spec.split.seed for spec in own] == [0, 1]
    assert (own[0].id == shared[0].id, own[1].id == shared[1].id) == (True, False)
    whole = runs("split_seeds=true", "split.fraction=1.0")
    assert [spec.split.seed for spec in whole] == [0, 0]  # chance has no part in it


@pytest.fixture
def own_methods(tmp_path: Path) -> None:
    """Two of a user's: the one of 2025 is registered after the one of 2026."""
    for name, title, year in (("reference_new", "RefNew", 2026), ("reference_old", "RefOld", 2025)):
        load_plugin(Path(made.own_method(tmp_path / f"{name}.py", name, title, year)))


@pytest.mark.usefixtures("own_methods")
@pytest.mark.parametrize(
    ("methods", "asked", "reference"),
    [
        ("none,kd,sskd", "", "SSKD"),
        ("none,kd,reference_new,reference_old", "", "RefNew"),
        ("kd,reference_old", "", "RefOld"),
        ("kd,reference_new,sskd", "sskd", "SSKD"),
        ("kd,sskd", "KD", "KD"),
        ("sskd,{name: crd, kd_weight: 1.0}", "crd+kd", "CRD+KD"),
    ],
)
def test_the_reference_is_what_was_asked_or_the_users_newest(methods: str, asked: str, reference: str) -> None:
    cells = cells_of("paper", f"methods=[{methods}]", "seeds=[0]", names=("comparison",))
    assert choose_reference(cells, asked) == reference


def test_an_unknown_reference_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cells = cells_of("paper", "seeds=[0]", names=("table3",))
    with pytest.raises(UserError, match="did you mean 'FitNet'"):
        choose_reference(cells, "FitNett")
    options = ["--profile", "smoke", "--only", "comparison", "--results", str(tmp_path), "--reference", "nothing"]
    assert main(["plan", *options]) == 2
    assert "unknown reference 'nothing'" in capsys.readouterr().err


def test_only_comparisons_of_methods_take_it() -> None:
    names = ("table1", "table2", "table3", "fig3b", "fig4a")
    cells = cells_of("paper", "seeds=[0]", names=names)
    taken = {name: with_reference(BENCHMARKS[name], cells[name], "KD").reference for name in names}
    assert taken == {"table1": "75%", "table2": "Contrastive", "table3": "KD", "fig3b": "all", "fig4a": "KD"}
    # figure 4a does not have FitNet
    assert with_reference(BENCHMARKS["fig4a"], cells["fig4a"], "FitNet").reference == "SSKD"


@pytest.mark.usefixtures("own_methods")
def test_an_own_method_is_compared_with_all_others(tmp_path: Path) -> None:
    profile = read_profile("paper", ["methods=[none,kd,reference_new]", "seeds=[0,1]"])
    cells = made.cells_of(profile, "comparison")
    made.finish(cells, tmp_path / "runs", made.top1)
    assert "resnet56/resnet20: RefNew - KD: +0.00" in write_report(profile, cells, tmp_path).texts["comparison"]
    page = (tmp_path / "index.html").read_text()
    assert "RefNew against each other method" in page
    assert "SSKD minus" not in page
