"""Tuning: spaces, trials, choices, files and refusals, with runs that were never trained."""

import json
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.commands.main import main
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.tuning import tuning_markdown, tuning_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.imagenet import PAIRS as IMAGENET
from benchmarks.tables.spec_builder import SpecBuilder
from benchmarks.tuning.comparing import expected_best, finished, reference_of, short_trials, summary, unequal, verdicts
from benchmarks.tuning.spaces import OF_RECIPE, points, space_hash, space_of
from benchmarks.tuning.studies import Study, StudyFile, TrialRecord, _chosen, read_studies, save_study, study_path
from sskd.config.recipe import Recipe
from sskd.errors import UserError
from sskd.methods import METHODS, Method, MethodInfo
from sskd.runs.run_folder import RunFolder
from sskd.runs.settings import method_settings, pair_tables
from sskd.runs.spec import StudentSpec
from tests.benchmarks.made import RESULT

BUDGET = 5
Score = Callable[[StudentSpec], float]


@pytest.fixture
def profile() -> Profile:
    return read_profile("miniature", ["tuning.epochs=10"])


def study(profile: Profile, method: str, number: int = 0, budget: int = BUDGET, check: bool = False) -> Study:
    return Study(profile, method, space_of(method), number, budget, check)


def finish(spec: StudentSpec, runs: Path, test: float, held_out: float | None = None) -> None:
    """Makes the folder of a finished run."""
    row = {"epoch": 1, "test_top1": test, "test_images": 10_000}
    row |= {} if held_out is None else {"held_out_top1": held_out}
    (runs / spec.id).mkdir(parents=True, exist_ok=True)
    best = row | {"test_top1": test + 1} | ({} if held_out is None else {"held_out_top1": 100 - held_out})
    result = {**RESULT, "id": spec.id, "best": best, "last": row}
    (runs / spec.id / "result.json").write_text(json.dumps(result))


def by_rate(spec: StudentSpec) -> float:
    return 100 - 100 * spec.recipe.learning_rate


def searched(one: Study, runs: Path, test: Score, held_out: Score = by_rate) -> StudyFile:
    """Finishes all runs of a study."""
    for trial in (*one.trials, *one.full):
        finish(trial.spec, runs, test(trial.spec), held_out(trial.spec))
    for spec in one.specs(runs):
        if not spec.split.holdout:
            finish(spec, runs, test(spec))
    return one.file(runs, lambda _: 100)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_a_space_around_its_published_values_for_cifar_100(method: str) -> None:
    space = space_of(method)
    assert len(space) in (2, 3)
    assert next(iter(space)) == "learning_rate"
    tables = [{}, *(table for pair, table in pair_tables(method).items() if pair not in IMAGENET)]
    for name, dimension in space.items():
        for table in tables:
            own = {key: value for key, value in table.items() if key != "when"}
            value = getattr(Recipe() if name in OF_RECIPE else method_settings(method, **own), name)
            if dimension.log:
                assert dimension.log[0] <= value <= dimension.log[1]
                assert dimension.log[1] >= 10 * dimension.log[0]
            else:
                assert value in (dimension.choice or [])
        method_settings(method, **{key: at for key, at in points(space, 1, 0)[0].items() if key not in OF_RECIPE})


def test_points_fill_the_space_and_a_larger_budget_adds_some() -> None:
    space = space_of("at")
    many = points(space, 64, 3)
    assert points(space, 8, 3) == many[:8]
    assert points(space, 8, 4) != many[:8]
    quarters = np.histogram(np.log([p["weight"] for p in many]), 4, np.log(space["weight"].log))[0]
    assert min(quarters) >= 13
    assert sum(p["kd_weight"] for p in many) == pytest.approx(32, abs=3)


def test_a_plugin_brings_the_space_of_its_method(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Method):
        info = MethodInfo("Own", "of a user", 2026, "nothing")

    METHODS.register("own")(Own)
    with pytest.raises(UserError, match="'own' has no search space"):
        space_of("own")
    Own.space = {"kd_weight": {"log": [0.1, 10]}}
    assert list(space_of("own")) == ["learning_rate", "kd_weight"]
    version = space_hash(space_of("own"))
    Own.space = {"kd_weight": {"log": [0.1, 20]}}
    assert space_hash(space_of("own")) != version
    for wrong in ({"ce_weight": {"log": [0.1, 1]}}, {"weight": {"log": [0.1, 1]}}, {"kd_weight": {"log": [1]}}):
        Own.space = wrong
        with pytest.raises(UserError, match="the search space of 'own'"):
            space_of("own")


def test_a_study_has_one_split_head_and_seed_for_all_methods(profile: Profile) -> None:
    for number in (0, 2):
        kd, sskd = (study(profile, method, number) for method in ("kd", "sskd"))
        for one in (kd, sskd):
            assert [trial.spec.seed for trial in one.trials] == [1_000_000 + 1000 * number + j for j in range(BUDGET)]
            assert {trial.spec.split.seed for trial in one.trials} == {one.default.split.seed} == {number}
            assert {trial.spec.split.holdout for trial in one.trials} == {0.2}
            assert {trial.spec.recipe.epochs for trial in one.trials} == {10}
            assert one.default.split.holdout == 0
            assert (one.default.seed, one.default.recipe.epochs) == (number, 30)
            assert {trial.spec.method.ce_weight for trial in one.trials} == {0.1}
        heads = {spec.head.seed for spec in (sskd.default, *(t.spec for t in sskd.trials)) if spec.head}
        assert heads == {number}
    cells = BENCHMARKS["comparison"].cells(SpecBuilder(profile))
    assert study(profile, "kd").default.id in {cell.spec.id for cell in cells}  # and so it is not trained twice
    more = study(profile, "kd", budget=9).trials
    assert [t.spec.id for t in more[:BUDGET]] == [t.spec.id for t in study(profile, "kd").trials]
    assert len({t.spec.id for t in more}) == 9


def test_the_best_is_chosen_and_the_expected_best_is_the_mean_over_all_draws() -> None:
    """Ties go to the lower number."""
    for scored, chosen in (([1.0, 3.0, 3.0], 1), ([0.0, 0.0], 0), ([1.0, None], None)):
        assert _chosen([TrialRecord(number=0, settings={}, run="", held_out_top1=score) for score in scored]) == chosen
    scores = [3.0, 1.0, 2.0, 5.0, 2.0]
    draws = [np.mean([max(draw) for draw in combinations(scores, b)]) for b in range(1, 6)]
    assert expected_best(scores) == pytest.approx(draws)


def test_no_test_accuracy_of_a_trial_enters_or_is_kept(profile: Profile, tmp_path: Path) -> None:
    """Permuting all test numbers of all trials changes nothing; and what is kept has none of them."""
    shuffled = random.Random(0)
    files = []
    for round_ in range(2):
        one, runs = study(profile, "at", 1), tmp_path / str(round_)
        tests = [10.11 + trial.number for trial in one.trials]
        shuffled.shuffle(tests)
        named = {trial.spec.id: test for trial, test in zip(one.trials, tests, strict=True)}
        files.append(searched(one, runs, lambda spec, named=named: named.get(spec.id, 50.0)))
        save_study(tmp_path, files[-1])
        text = study_path(tmp_path, "at", 1).read_text()
        assert not any(f"{test:.2f}" in text for test in tests)
    assert files[0] == files[1]
    rates = [trial.settings["learning_rate"] for trial in files[0].trials]
    assert files[0].chosen == rates.index(min(rates)) != 0
    assert files[0].final is not None
    assert files[0].final.settings == files[0].trials[files[0].chosen].settings


def test_a_diverged_trial_scores_nothing_and_is_not_tried_again(profile: Profile, tmp_path: Path) -> None:
    one = study(profile, "kd")
    for trial in one.trials[1:]:
        finish(trial.spec, tmp_path, 20.0, 0.0)
    first = RunFolder(tmp_path, one.trials[0].spec)
    first.path.mkdir()
    first.save_failure("the disk is full")
    assert one.chosen(tmp_path) is None  # not yet: it has said nothing
    first.save_failure("student-1 diverged in epoch 1 of stage 'main': loss not finite")
    assert one.chosen(tmp_path) == 0  # all have 0
    assert one.trials[0].spec not in one.specs(tmp_path)
    default = RunFolder(tmp_path, one.default)
    default.path.mkdir()
    default.save_failure("student-2 diverged in epoch 1 of stage 'main': loss not finite")
    assert one.file(tmp_path, lambda _: 100).default.top1 == 1.0  # chance


@pytest.fixture
def two(profile: Profile, tmp_path: Path) -> list[StudyFile]:
    """Three studies of SSKD and of KD, SSKD about 5 points ahead; tuning is worth 2."""

    def test(spec: StudentSpec) -> float:
        tuned = spec.recipe.learning_rate != 0.05
        return 40.0 + 5 * (spec.method.name == "sskd") + 2 * tuned + 0.1 * (spec.seed % 3) * (1 + 0.2 * tuned)

    files = []
    for method in ("kd", "sskd"):
        for number in range(3):
            one = study(profile, method, number, check=(method, number) == ("kd", 0))
            files.append(searched(one, tmp_path / "runs", test))
            save_study(tmp_path, files[-1])
    return files


def test_the_report_has_gains_verdicts_curves_and_the_check_of_short_trials(
    two: list[StudyFile], tmp_path: Path
) -> None:
    assert read_studies(tmp_path) == two
    table = summary(finished(two)).set_index("row")
    assert table.loc["SSKD", "gain"] == pytest.approx(2.02)
    assert table.loc["KD", "lower"] < 2.02 < table.loc["KD", "upper"]
    assert table.loc["KD", "search_seconds"] == BUDGET * 12.0
    (part,), refused = verdicts(finished(two), "SSKD")
    assert (part.name, part.verdict, part.seeds, refused) == ("SSKD - KD", "supported", 3, [])
    assert part.effect == pytest.approx(5)
    report = tuning_report(tmp_path)
    text = tuning_markdown(report)
    assert report is not None
    assert report.figure is not None
    assert "nan" not in text  # these trials are short, so there is no optimism
    assert "- KD, study 0: trial" in text
    for said in ("SSKD - KD: +5.00", "3 studies: SSKD is ahead", "Rank correlation of KD's 5 trials of 10 epochs"):
        assert said in text
    assert len((tmp_path / "tuning" / "comparison" / "tuning.csv").read_text().splitlines()) == 7
    assert short_trials(two).endswith("30: 1.00.")
    flat = [
        s.model_copy(update={"full_trials": [t.model_copy(update={"held_out_top1": 1.0}) for t in s.full_trials]})
        for s in two
    ]
    assert "use full trials" in short_trials(flat)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"budget": 9}, "budgets differ"),
        ({"holdout": 0.1}, "validation fractions differ"),
        ({"epochs": 30}, "epochs differ"),
        ({"space": {"learning_rate": {"log": [0.01, 1.0]}}}, "ranges of the learning rate differ"),
    ],
)
def test_verdicts_are_refused_where_searches_are_not_equal(
    two: list[StudyFile], change: dict[str, object], why: str
) -> None:
    changed = [s.model_copy(update=change) if s.method == "kd" else s for s in two]
    parts, refused = verdicts(finished(changed), "SSKD")
    assert parts == []
    assert why in refused[0]
    own = [s.model_copy(update={"space_hash": "x"} if s.study == 1 else {}) for s in two if s.method == "kd"]
    assert "several spaces" in unequal(own, two[3:])


def test_others_are_compared_with_the_wanted_method_else_ones_own_else_sskd(two: list[StudyFile]) -> None:
    class Own(Method):
        info = MethodInfo("Own", "of a user", 2026, "nothing")

    searches = finished(two)
    assert reference_of(searches) == "SSKD"
    assert reference_of(searches, "KD") == "KD"
    METHODS.register("own")(Own)
    own = [s.model_copy(update={"method": "own", "label": "Own"}) for s in two if s.method == "kd"]
    assert reference_of(finished([*own, *two])) == "Own"


def test_only_trials_of_full_length_show_optimism(profile: Profile, tmp_path: Path) -> None:
    short = searched(study(profile, "kd"), tmp_path, lambda spec: 50.0)
    full = searched(study(read_profile("miniature", []), "kd"), tmp_path, lambda spec: 50.0)
    found = [summary(finished([one])).loc[0, "optimism"] for one in (short, full)]
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(max(full.scores) - 50)


def test_studies_count_in_their_order(two: list[StudyFile]) -> None:
    open_ = [s.model_copy(update={"final": None}) if (s.method, s.study) == ("kd", 1) else s for s in two]
    assert {label: len(studies) for label, studies in finished(open_).items()} == {"KD": 1, "SSKD": 3}


def test_the_plan_says_runs_and_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--profile", "smoke", "--results", str(tmp_path), "--plan", "--set", "tuning.epochs=1"]
    assert main(["tune", "none,kd,sskd", "--budget", "3", "--studies", "2", *words]) == 0
    said = capsys.readouterr().out
    assert ": 13 runs, 0 finished" in said
    assert "teachers and heads: 3 runs" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kd", "--budget", "0", "--studies", "1"], "--budget 0"),
        (["kd", "--budget", "2", "--studies", "0"], "--studies 0"),
        (["kdd", "--budget", "2", "--studies", "1"], "kd"),
        (["kd,kd", "--budget", "2", "--studies", "1"], "named twice"),
        (["kd", "--budget", "2", "--studies", "1", "--set", "tuning.epochs=3"], "longer than a final run of 'kd' (2)"),
    ],
)
def test_bad_requests_are_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *words, "--profile", "smoke", "--plan"]) == 2
    assert message in capsys.readouterr().err
