"""A study's file: results/PROFILE/tuning/BENCHMARK/METHOD/study-R.json, from which the report is made.

It has the validation accuracies of the trials. Only the two final runs have test accuracies.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from benchmarks.profiles.profile import Profile
from benchmarks.tables.spec_builder import method_label
from benchmarks.tuning.spaces import Space, space_hash
from benchmarks.tuning.trials import BENCHMARK, Trial, final_run, trials
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.files import read_json, write_json
from sskd.runs.records import SCHEMA, Record, read_result
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import StudentSpec

FOLDER = "tuning"  # in the profile's results
DIVERGED = "not finite"  # in the message of a run whose numbers were not


class TrialRecord(Record):
    """A trial of a study."""

    number: int
    """Number of the trial, from 0; trial 0 has the published setting."""
    settings: dict[str, Any]
    """Values of the settings that the search varies, by name."""
    run: str
    """Id of the run."""
    held_out_top1: float | None = None
    """Top-1 accuracy on the validation set in the last epoch (%); 0 if the trial diverged, null if it has not ended."""
    seconds: float | None = None
    """Duration of training and evaluation, in seconds."""


class FinalRecord(Record):
    """A final run: a training on all images of the study's split."""

    settings: dict[str, Any]
    """Values of the settings that the search varies, by name."""
    run: str
    """Id of the run."""
    top1: float | None = None
    """Top-1 accuracy on the test images in the last epoch (%); 100 / number of classes if the run diverged, null if it
    has not ended."""
    images: int | None = None
    """Number of test images."""
    seconds: float | None = None
    """Duration of training and evaluation, in seconds."""


class StudyFile(Record):
    """study-R.json: one search of one method, and its final runs."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)] = SCHEMA
    """Version of this format."""
    method: str
    """Name of the method."""
    label: str
    """Name of the method in tables."""
    study: int
    """Number of the study, which is its seed."""
    space: dict[str, Any]
    """Range of each setting that the search varies."""
    space_hash: str
    """Hash of the search space."""
    budget: int
    """Number of trials."""
    holdout: float
    """Fraction of each class's training images that is kept as the validation set of the trials."""
    epochs: int
    """Number of epochs of a trial."""
    full_epochs: int
    """Number of epochs of a final run."""
    trials: list[TrialRecord]
    """The trials in order of their numbers."""
    full_trials: list[TrialRecord] = []
    """The same trials with ``full_epochs`` epochs, in KD's first study if its trials are shorter; else empty."""
    chosen: int | None = None
    """Number of the best trial; null until all trials have ended."""
    final: FinalRecord | None = None
    """The final run of the chosen setting; null until it is known."""
    default: FinalRecord
    """The final run of the published setting."""

    @property
    def is_finished(self) -> bool:
        """True if both final runs have ended."""
        return self.final is not None and None not in (self.final.top1, self.default.top1)

    @property
    def best(self) -> TrialRecord:
        """The chosen trial of a finished study."""
        assert self.chosen is not None
        return self.trials[self.chosen]

    @property
    def scores(self) -> list[float]:
        """Validation accuracies (%) of the trials that have ended, in order."""
        return [trial.held_out_top1 for trial in self.trials if trial.held_out_top1 is not None]

    @property
    def search_seconds(self) -> float:
        """Duration of all trials, in seconds."""
        return sum(trial.seconds or 0.0 for trial in self.trials)


STUDY: TypeAdapter[StudyFile] = TypeAdapter(StudyFile)


class Study:
    """Study ``number`` of a method: the specs of its runs, and the content of its file, read from the run folders.
    check: whether trials that are shorter than final runs are also trained in full."""

    def __init__(self, profile: Profile, method: str, space: Space, number: int, budget: int, check: bool) -> None:
        self.profile, self.method, self.space, self.number = profile, method, space, number
        self.trials = trials(profile, method, space, number, budget)
        self.default = final_run(profile, method, number, {})
        shorter = self.trials[0].spec.recipe.epochs < self.default.recipe.epochs
        self.full = trials(profile, method, space, number, budget, full=True) if check and shorter else []

    def specs(self, runs: Path) -> list[StudentSpec]:
        """Returns the specs of the runs that can be trained now. The final run of the chosen setting is only known when
        all trials have ended. Trials that diverged count as ended and are omitted."""
        found = [trial.spec for trial in (*self.trials, *self.full) if not _diverged(RunFolder(runs, trial.spec))]
        found += [spec for spec in (self.default, self.tuned(runs)) if spec is not None]
        return list({spec.id: spec for spec in found}.values())

    def chosen(self, runs: Path) -> int | None:
        """Returns the number of the best trial; None until all trials have ended."""
        return _chosen([_trial_record(trial, runs) for trial in self.trials])

    def tuned(self, runs: Path) -> StudentSpec | None:
        """Returns the final run of the chosen setting; None until all trials have ended. If the published setting was
        chosen, it is the same run as ``default``."""
        number = self.chosen(runs)
        return None if number is None else self._final(number)

    def _final(self, number: int) -> StudentSpec:
        return final_run(self.profile, self.method, self.number, self.trials[number].settings if number else {})

    def file(self, runs: Path, classes: Callable[[StudentSpec], int]) -> StudyFile:
        """Returns the content of the study's file. classes: returns the number of classes of a run's data set."""
        first, records = self.trials[0], [_trial_record(trial, runs) for trial in self.trials]
        number = _chosen(records)

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
            trials=records,
            full_trials=[_trial_record(trial, runs) for trial in self.full],
            chosen=number,
            final=None if number is None else final(self._final(number), self.trials[number].settings),
            default=final(self.default, first.settings),
        )


def _chosen(records: Sequence[TrialRecord]) -> int | None:
    """Returns the number of the best trial, the first one for ties; None until all have ended."""
    scores = [record.held_out_top1 for record in records if record.held_out_top1 is not None]
    return scores.index(max(scores)) if len(scores) == len(records) else None


def _diverged(folder: RunFolder) -> bool:
    if folder.is_finished() or not folder.failure.exists():
        return False
    return DIVERGED in str(folder.read_failure()["message"])


def _trial_record(trial: Trial, runs: Path) -> TrialRecord:
    """Returns the record of a trial, with its validation accuracy and without its test accuracy."""
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
    """Returns the path of a study's file in the folder of a profile's results."""
    return results / FOLDER / BENCHMARK / method / f"study-{number}.json"


def save_study(results: Path, file: StudyFile) -> None:
    """Writes the study's file."""
    path = study_path(results, file.method, file.study)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, file.model_dump(mode="json", by_alias=True))


def read_studies(results: Path) -> list[StudyFile]:
    """Returns all studies of a profile's results, by method and number. Raises UserError for a damaged file."""
    found: list[StudyFile] = []
    for path in sorted((results / FOLDER / BENCHMARK).glob("*/study-*.json")):
        study: StudyFile = from_dict(STUDY, read_json(path), str(path))
        found.append(study)
    return sorted(found, key=lambda study: (study.method, study.study))


def check_methods(names: Sequence[str]) -> None:
    """Raises UserError if a method does not exist or is named twice."""
    for name in names:
        METHODS[name]
    if len(set(names)) < len(names):
        raise UserError(f"a method is named twice: {', '.join(names)}")
