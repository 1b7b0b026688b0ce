"""The runs of a study: its trials, and the two final trainings.

Study r fixes the seeds of split, head, search and student; they are equal for all methods. Its trials keep some images
of split r as a validation set; the final runs train on all images of split r with seed r. All are ordinary runs: they
can be resumed, run on any cluster, and are not trained twice.
"""

from typing import Any, NamedTuple

from benchmarks.profiles.profile import Profile, split_pair
from benchmarks.tables.spec_builder import SpecBuilder
from benchmarks.tuning.spaces import OF_RECIPE, Space, points
from sskd.config.recipe import Recipe, SplitSpec
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.runs.spec import StudentSpec

BENCHMARK = "comparison"  # the benchmark whose pair, split and recipe are tuned on
FIRST_SEED, MOST = 1_000_000, 1000  # trial j of study r has the seed FIRST_SEED + MOST * r + j


class Trial(NamedTuple):
    """A trial of a search. settings: values by name of the setting. Trial 0 has the profile's, which are the published
    ones unless the profile overrides them."""

    number: int
    settings: dict[str, Any]
    spec: StudentSpec


def trials(profile: Profile, method: str, space: Space, study: int, budget: int, full: bool = False) -> list[Trial]:
    """Returns the published setting and ``budget`` - 1 scrambled Halton points. full: trials have all epochs of the
    recipe, even if the profile sets fewer."""
    if not 1 <= budget <= MOST:
        raise UserError(f"--budget {budget}: a search has 1 to {MOST} trials")
    longest = final_run(profile, method, study, {}).recipe.epochs
    if (profile.tuning.epochs or 0) > longest:
        raise UserError(f"tuning.epochs is {profile.tuning.epochs}, longer than a final run of '{method}' ({longest})")
    made = []
    epochs = None if full else profile.tuning.epochs
    for number, given in enumerate([{}, *points(space, budget - 1, study)]):
        spec = _student(profile, method, study, given, profile.tuning.holdout, epochs)
        settings = given or {name: _value(spec, name) for name in space}
        made.append(Trial(number, settings, spec.with_seed(FIRST_SEED + MOST * study + number)))
    return made


def final_run(profile: Profile, method: str, study: int, settings: dict[str, Any]) -> StudentSpec:
    """Returns the training on all images of the study's split. settings: {} for the published ones."""
    return _student(profile, method, study, settings, 0.0, None)


def _student(
    profile: Profile, method: str, study: int, settings: dict[str, Any], holdout: float, epochs: int | None
) -> StudentSpec:
    profile = profile.for_benchmark(BENCHMARK).model_copy(update={"split_seeds": True})
    builder = SpecBuilder(profile)
    own = {name: value for name, value in settings.items() if name not in OF_RECIPE}
    split: SplitSpec = profile.split.model_copy(update={"holdout": holdout})
    spec = builder.student(split_pair(profile.pair), builder.method(method, **own), study, split=split, epochs=epochs)
    of_recipe = {name: value for name, value in settings.items() if name in OF_RECIPE}
    changes: dict[str, Any] = {"recipe": from_dict(Recipe, spec.recipe.model_dump() | of_recipe, "the search space")}
    if spec.head is not None:
        changes["head"] = spec.head.with_seed(study)
    return spec.model_copy(update=changes)


def _value(spec: StudentSpec, dimension: str) -> Any:
    return getattr(spec.recipe if dimension in OF_RECIPE else spec.method, dimension)
