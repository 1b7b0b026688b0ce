"""Tests the choice of the reference row, and the comparison of all pairs of rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.reference import choose_reference, with_reference
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.plugins import load_plugin
from tests.benchmarks.made import cells_of, finish, top1
from tests.benchmarks.test_profiles import OWN_METHOD

TOP1 = BENCHMARKS["comparison"].measures[0]


@pytest.fixture(scope="module", autouse=True)
def own_methods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two of a user's: the one of 2025 is registered after the one of 2026. Gone when this file's tests are done."""
    before = {name: METHODS[name] for name in METHODS}
    folder = tmp_path_factory.mktemp("own")
    for name, title, year in (("reference_new", "RefNew", "2026"), ("reference_old", "RefOld", "2025")):
        (folder / f"{name}.py").write_text(OWN_METHOD.format(name=name, title=title).replace("2026", year))
        load_plugin(folder / f"{name}.py")
    yield
    METHODS._entries = before


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
    cells = cells_of(read_profile("paper", [f"methods=[{methods}]", "seeds=[0]"]), "comparison")
    assert choose_reference(cells, asked) == reference


def test_an_unknown_reference_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cells = cells_of(read_profile("paper", ["seeds=[0]"]), "table3")
    with pytest.raises(UserError, match="did you mean 'FitNet'"):
        choose_reference(cells, "FitNett")
    options = ["--profile", "smoke", "--only", "comparison", "--results", str(tmp_path), "--reference", "nothing"]
    assert main(["plan", *options]) == 2
    assert "unknown reference 'nothing'" in capsys.readouterr().err


def test_only_comparisons_of_methods_take_it() -> None:
    profile = read_profile("paper", ["seeds=[0]"])
    names = ("table1", "table2", "table3", "fig3b", "fig4a")
    taken = {n: with_reference(BENCHMARKS[n], c, "KD").reference for n, c in cells_of(profile, *names).items()}
    assert taken == {"table1": "75%", "table2": "Contrastive", "table3": "KD", "fig3b": "all", "fig4a": "KD"}
    cells = cells_of(profile, "fig4a")["fig4a"]
    assert with_reference(BENCHMARKS["fig4a"], cells, "FitNet").reference == "SSKD"  # which it does not have


def test_an_own_method_is_compared_with_all_others(tmp_path: Path) -> None:
    profile = read_profile("paper", ["methods=[none,kd,reference_new]", "seeds=[0,1]"])
    cells = cells_of(profile, "comparison")
    finish(cells, tmp_path / "runs", top1)
    text = write_report(profile, cells, tmp_path).texts["comparison"]
    assert "resnet56/resnet20: RefNew - KD: +0.00" in text
    page = (tmp_path / "index.html").read_text()
    assert "RefNew against each other method" in page
    assert "SSKD minus" not in page
    assert "KD - RefNew: +0.00" in write_report(profile, cells, tmp_path, "kd").texts["comparison"]
