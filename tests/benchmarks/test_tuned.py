"""The committed studies of tuned methods are what their committed runs give."""

from pathlib import Path

import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.tuning.spaces import space_of
from benchmarks.tuning.studies import Study, StudyFile, read_studies

RESULTS = Path(__file__).parents[2] / "results" / "tuned"
STUDIES = read_studies(RESULTS)


def test_all_methods_have_the_same_studies() -> None:
    by_method = {
        method: [s.study for s in STUDIES if s.method == method] for method in ("none", "kd", "at", "crd", "sskd")
    }
    assert len(set(map(tuple, by_method.values()))) == 1
    assert {study.method for study in STUDIES} == set(by_method)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study.method}-{study.study}")
def test_a_study_is_what_its_runs_give(study: StudyFile) -> None:
    profile = read_profile("tuned", [])
    check = bool(study.full_trials)
    again = Study(profile, study.method, space_of(study.method), study.study, study.budget, check)
    assert again.file(RESULTS / "runs", lambda _: 100) == study
    assert study.is_finished
