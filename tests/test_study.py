"""The suite from Python: the same runs, numbers and page as the command line, and clear words for wrong arguments."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.commands import study
from benchmarks.commands.main import main
from sskd.errors import UserError
from tests import small

ARGUMENTS: dict[str, Any] = {
    "teacher": "resnet14",
    "student": "resnet8",
    "dataset": "digits",
    "fraction": 0.1,
    "seeds": 2,
    "recipe": small.RECIPE | {"epochs": 1},
    "profile": {"teacher_recipe": small.RECIPE | {"epochs": 1}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> study.Study:
    return study.compare(["none", "kd"], **ARGUMENTS, results=tmp_path_factory.mktemp("results") / "mine")


def test_its_table_is_the_pages(made: study.Study) -> None:
    assert made.page.is_file()
    table = made.table.set_index("row")
    assert list(table.index) == ["Teacher", "Student", "KD"]
    values = made.accuracies("KD")
    assert sorted(values) == [0, 1]
    assert table.loc["KD", "last mean"] == pytest.approx(sum(values.values()) / 2)
    assert f"{table.loc['KD', 'last mean']:.2f}" in made.page.read_text(encoding="utf-8")
    assert made.to_latex().count("KD") >= 1


def test_a_difference_is_that_of_the_means_without_an_interval_for_two_seeds(made: study.Study) -> None:
    kd, alone = made.accuracies("kd"), made.accuracies("Student")
    difference = made.difference("KD", "student")
    assert difference.mean == pytest.approx(sum(kd.values()) / 2 - sum(alone.values()) / 2)
    assert difference.n == 2
    assert difference.lower != difference.lower  # nan
    assert (difference.verdict, "undecided" in str(difference)) == ("undecided", True)
    with pytest.raises(UserError, match="KD"):
        made.difference("kdd", "student")


def test_it_shows_itself(made: study.Study) -> None:
    shown = made._repr_html_()
    assert "<table" in shown
    assert "data:image/png;base64," in shown
    assert len(made.plot().axes[0].get_yticklabels()) == 2


def test_the_command_line_and_a_second_call_find_its_runs(
    made: study.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    left = study.plan(["none", "kd", "at"], **ARGUMENTS, results=made.folder)
    assert isinstance(left, pd.DataFrame)
    assert set(left["state"][left["method"] != "AT"]) == {"finished"}
    assert set(left["state"][left["method"] == "AT"]) == {"absent"}
    arguments = ["report", "--profile", str(made.folder / "study.yaml"), "--results", str(made.folder.parent)]
    assert main(arguments) == 0
    assert re.search(r"\d of \d runs finished", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"teacher": "resnet13"}, "resnet13"),
        ({"teacher": "nowhere/resnet14.pth"}, "resnet14.pth"),
        ({"teacher": "mine.pth"}, "mine.pth"),
        ({"teacher": {"resnet14": "a.pth", "resnet20": "b.pth"}}, "one teacher"),
        ({"studend": "resnet8"}, "studend"),
        ({"fraction": 0.0}, "fraction"),
        ({"recipe": {"epoch": 3}}, "epoch"),
        ({"seeds": [1, 1]}, "seeds"),
    ],
)
def test_wrong_arguments(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        study.plan(["kd"], **(ARGUMENTS | changed), results=tmp_path / "mine")


def test_a_class_that_is_not_registered(tmp_path: Path) -> None:
    class Mine:
        pass

    with pytest.raises(UserError, match="Mine"):
        study.plan([Mine], **ARGUMENTS, results=tmp_path / "mine")  # type: ignore[list-item]
