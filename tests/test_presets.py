"""The presets published_code and paper_text: what they set, and what wins over them."""

from typing import Any

import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.data.transformations import PaperTransformations
from sskd.data.views import Rotations
from sskd.pretext import PRETEXTS
from sskd.runs.spec import FromRun


def specs(*settings: str) -> SpecBuilder:
    return SpecBuilder(read_profile("smoke", list(settings)))


def sskd_cell(made: SpecBuilder, benchmark: str = "comparison") -> Cell:
    return next(cell for cell in BENCHMARKS[benchmark].cells(made) if cell.row == "SSKD")


def test_published_code_is_the_default_and_leaves_ids_as_they_are() -> None:
    plain, named = sskd_cell(specs()).spec, sskd_cell(specs("preset=published_code")).spec
    assert plain is not None
    assert named is not None
    assert plain.id == named.id
    assert plain.head is not None
    assert isinstance(PRETEXTS["contrastive"].view_transform(plain.head.pretext), Rotations)


@pytest.mark.parametrize("benchmark", ["comparison", "table3"])
def test_paper_text_is_explicit_in_every_run(benchmark: str) -> None:
    """The preset's settings are in the specs of the comparison and of a table, so their ids differ."""
    paper_text, published = (
        sskd_cell(specs(f"preset={name}"), benchmark).spec for name in ("paper_text", "published_code")
    )
    assert paper_text is not None
    assert published is not None
    method: Any = paper_text.method
    assert (method.t_weight, method.ss_weight, method.t_keep) == (10, 2.7, 1)
    assert method.divergence == "cross_entropy"
    assert paper_text.head is not None
    task: Any = paper_text.head.pretext
    assert (task.transformation, task.temperature) == ("paper", 0.5)
    assert isinstance(PRETEXTS["contrastive"].view_transform(task), PaperTransformations)
    assert isinstance(paper_text.teacher, FromRun)
    assert paper_text.teacher.epoch == "last"
    assert isinstance(published.teacher, FromRun)
    assert published.teacher.epoch == "best"
    assert paper_text.id != published.id
    assert published.head is not None
    assert paper_text.head.id != published.head.id


def test_what_the_profile_says_wins() -> None:
    made = specs(
        "preset=paper_text",
        "method_settings.sskd.t_weight=5.0",
        "pretext={name: contrastive, transformation: rotation}",
        "teacher_epoch=best",
    )
    method: Any = made.method("sskd", ss_weight=1.0)
    assert (method.t_weight, method.ss_weight, method.divergence) == (5, 1, "cross_entropy")
    task: Any = made.profile.pretext
    assert (task.transformation, task.temperature) == ("rotation", 0.5)
    assert made.pretext("contrastive") == task
    assert made.pretext("exemplar").transformation == "paper"
    assert made.pretext("jigsaw").transformation == "rotation"  # not used: its views are the puzzles
    spec = sskd_cell(made).spec
    assert isinstance(spec.teacher, FromRun)
    assert spec.teacher.epoch == "best"


def test_one_benchmarks_own_setting_keeps_the_rest_of_the_preset() -> None:
    profile = read_profile("smoke", ["preset=paper_text", "overrides.table3.method_settings.sskd.ss_keep=0.5"])
    method: Any = SpecBuilder(profile.for_benchmark("table3")).method("sskd")
    assert (method.ss_keep, method.t_weight) == (0.5, 10)
