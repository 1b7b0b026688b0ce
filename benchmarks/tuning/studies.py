"""A study's file: results/PROFILE/tuning/BENCHMARK/METHOD/study-R.json, from which the report is made.

It has the held-out accuracies of the trials, and test accuracies of the two final runs alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from benchmarks.profiles.profile import Profile
from benchmarks.tables.spec_builder import method_label
from benchmarks.tuning.choice import choose
from benchmarks.tuning.spaces import Space, space_hash
from benchmarks.tuning.trials import BENCHMARK, Trial, final_run, trials
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.files import read_json, write_json
from sskd.runs.records import SCHEMA, Record
from sskd.runs.result_file import read_result
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import StudentSpec

FOLDER = "tuning"  # in the profile's results
DIVERGED = "not finite"  # in the message of a run whose numbers were not


class TrialRecord(Record):
    """A trial of a study."""

    number: int
    """From 0, the published setting."""
    settings: dict[str, Any]
    """By dimension of the space."""
    run: str
    """The run's id."""
    held_out_top1: float | None = None
    """Percent of the held-out images, last epoch; 0 of a trial that diverged, null of one that has not ended."""
    seconds: float | None = None
    """Of training and evaluation."""


class FinalRecord(Record):
    """A training on all images of the study's split."""

    settings: dict[str, Any]
    """By dimension of the space."""
    run: str
    """The run's id."""
    top1: float | None = None
    """Percent of the test images, last epoch; 100 / classes of a run that diverged, null of one that has not ended."""
    images: int | None = None
    """How many test images."""
    seconds: float | None = None
    """Of training and evaluation."""


class StudyFile(Record):
    """study-R.json: one search of one method, and its final runs."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)] = SCHEMA
    """The version of this description."""
    method: str
    """Its name."""
    label: str
    """What tables call it."""
    study: int
    """The study's number, which is its seed."""
    space: dict[str, Any]
    """The range of each dimension."""
    space_hash: str
    """The version of the space."""
    budget: int
    """Number of trials."""
    holdout: float
    """Fraction of each class's training images on which trials are scored."""
    epochs: int
    """Of a trial."""
    full_epochs: int
    """Of a final run."""
    trials: list[TrialRecord]
    """In order."""
    full_trials: list[TrialRecord] = []
    """The trials again with all epochs, of KD's first study where trials are shorter."""
    chosen: int | None = None
    """The number of the best trial; null until all have ended."""
    final: FinalRecord | None = None
    """The chosen setting's."""
    default: FinalRecord
    """The published setting's."""

    @property
    def is_finished(self) -> bool:
        """Whether both final runs have ended."""
        return self.final is not None and None not in (self.final.top1, self.default.top1)

    @property
    def scores(self) -> list[float]:
        """Held-out accuracies of the trials, once all have ended."""
        return [trial.held_out_top1 for trial in self.trials if trial.held_out_top1 is not None]

    @property
    def search_seconds(self) -> float:
        """Seconds of all trials."""
        return sum(trial.seconds or 0.0 for trial in self.trials)


STUDY: TypeAdapter[StudyFile] = TypeAdapter(StudyFile)


class Study:
    """Study ``number`` of a method: its specs, and its file as the run folders say."""

    def __init__(self, profile: Profile, method: str, space: Space, number: int, budget: int, check: bool) -> None:
        self.profile, self.method, self.space, self.number = profile, method, space, number
        self.trials = trials(profile, method, space, number, budget)
        self.default = final_run(profile, method, number, {})
        shorter = self.trials[0].spec.recipe.epochs < self.default.recipe.epochs
        self.full = trials(profile, method, space, number, budget, full=True) if check and shorter else []

    def specs(self, runs: Path) -> list[StudentSpec]:
        """Returns the runs that can be trained now: the tuned one is known when all trials have ended. A trial that
        diverged has ended: it is left out."""
        found = [trial.spec for trial in (*self.trials, *self.full) if not _diverged(RunFolder(runs, trial.spec))]
        found += [spec for spec in (self.default, self.tuned(runs)) if spec is not None]
        return list({spec.id: spec for spec in found}.values())

    def chosen(self, runs: Path) -> int | None:
        """Returns the number of the best trial; None until all have ended."""
        scores = [_trial_record(trial, runs).held_out_top1 for trial in self.trials]
        known = [score for score in scores if score is not None]
        return choose(known) if len(known) == len(scores) else None

    def tuned(self, runs: Path) -> StudentSpec | None:
        """Returns the final run of the chosen setting: the published setting's own run where that was chosen."""
        number = self.chosen(runs)
        if number is None:
            return None
        return final_run(self.profile, self.method, self.number, self.trials[number].settings if number else {})

    def file(self, runs: Path, classes: Callable[[StudentSpec], int]) -> StudyFile:
        """Returns what the study's file has. classes: number of classes of a run's data."""
        first, number, tuned = self.trials[0], self.chosen(runs), self.tuned(runs)

        def final(spec: StudentSpec, settings: dict[str, Any]) -> FinalRecord:
            return _final_record(spec, settings, runs, classes)

        return StudyFile(
            schema=SCHEMA,
            method=self.method,
            label=method_label(first.spec.method),
            study=self.number,
            space={name: dimension.model_dump(exclude_none=True) for name, dimension in self.space.items()},
            space_hash=space_hash(self.space),
            budget=len(self.trials),
            holdout=first.spec.split.holdout,
            epochs=first.spec.recipe.epochs,
            full_epochs=self.default.recipe.epochs,
            trials=[_trial_record(trial, runs) for trial in self.trials],
            full_trials=[_trial_record(trial, runs) for trial in self.full],
            chosen=number,
            final=None if tuned is None or number is None else final(tuned, self.trials[number].settings),
            default=final(self.default, first.settings),
        )


def _diverged(folder: RunFolder) -> bool:
    if folder.is_finished() or not folder.failure.exists():
        return False
    return DIVERGED in str(folder.read_failure()["message"])


def _trial_record(trial: Trial, runs: Path) -> TrialRecord:
    """Reads the held-out accuracy of a trial; no test accuracy."""
    folder, score, seconds = RunFolder(runs, trial.spec), None, None
    if folder.is_finished():
        result = read_result(folder.result, "student")
        score, seconds = result["last"]["held_out_top1"], result["seconds"]
    elif _diverged(folder):
        score, seconds = 0.0, _seconds(folder)
    return TrialRecord(
        number=trial.number, settings=trial.settings, run=trial.spec.id, held_out_top1=score, seconds=seconds
    )


def _final_record(
    spec: StudentSpec, settings: dict[str, Any], runs: Path, classes: Callable[[StudentSpec], int]
) -> FinalRecord:
    folder, known = RunFolder(runs, spec), dict[str, Any]()
    if folder.is_finished():
        result = read_result(folder.result, "student")
        known = {"top1": result["last"]["test_top1"], "images": result["last"].get("test_images")}
        known["seconds"] = result["seconds"]
    elif _diverged(folder):
        known = {"top1": 100 / classes(spec), "seconds": _seconds(folder)}
    return FinalRecord(settings=settings, run=spec.id, **known)


def _seconds(folder: RunFolder) -> float:
    return sum(row.get("seconds", 0.0) + row.get("evaluation_seconds", 0.0) for row in folder.read_metrics())


def study_path(results: Path, method: str, number: int) -> Path:
    """Returns where a study's file is, in a profile's results."""
    return results / FOLDER / BENCHMARK / method / f"study-{number}.json"


def save_study(results: Path, file: StudyFile) -> None:
    """Writes the study's file."""
    path = study_path(results, file.method, file.study)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, file.model_dump(mode="json", by_alias=True))


def read_studies(results: Path) -> list[StudyFile]:
    """Returns all studies of a profile's results, by method and number. UserError for a damaged file."""
    found: list[StudyFile] = []
    for path in sorted((results / FOLDER / BENCHMARK).glob("*/study-*.json")):
        study: StudyFile = from_dict(STUDY, read_json(path), str(path))
        found.append(study)
    return sorted(found, key=lambda study: (study.method, study.study))


def check_methods(names: Sequence[str]) -> None:
    """UserError for a method that does not exist, or is named twice."""
    for name in names:
        METHODS[name]
    if len(set(names)) < len(names):
        raise UserError(f"a method is named twice: {', '.join(names)}")
