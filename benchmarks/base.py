"""What a benchmark is, and the specs that it asks for."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.profiles import Profile, split_pair
from sskd.config import MethodSettings, PretextSettings, Recipe, RunSpec, SplitSpec, Teacher, Trained
from sskd.methods import METHODS
from sskd.registry import Registry


@dataclass(frozen=True)
class Cell:
    """One run's place in a table: the seeds of a cell become its mean and deviation."""

    row: str
    column: str
    spec: RunSpec | None  # None: a number that is known without a run (a published teacher)


@dataclass(frozen=True)
class Benchmark:
    """A table or figure. ``cells`` gives the runs it compares, from what the profile makes of it."""

    id: str
    title: str
    cells: "Callable[[Specs], list[Cell]]"


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", "benchmarks.tables")


class Specs:
    """Builds specs as a profile wants them. Equal requests give equal specs, so shared runs are trained once."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def pair(self, published: str) -> tuple[str, str]:
        """The teacher and student that stand for a published pair in this profile."""
        return split_pair(self.profile.pairs.get(published, published))

    def teacher(self, network: str) -> Teacher:
        """A weights file if the profile names one for the network, else a run: one teacher for all seeds."""
        return self.profile.teachers.get(network) or Trained(run=self._teacher_run(network))

    def teacher_run(self, network: str) -> RunSpec | None:
        """The run that trains a teacher; None where its weights come from a file."""
        return None if network in self.profile.teachers else self._teacher_run(network)

    def _teacher_run(self, network: str) -> RunSpec:
        profile = self.profile
        return RunSpec(
            role="teacher",
            network=network,
            dataset=profile.dataset,
            recipe=self._recipe(profile.teacher_recipe, network),
        )

    def head(self, network: str, pretext: PretextSettings | None = None) -> RunSpec:
        profile = self.profile
        return RunSpec(
            role="head",
            network=network,
            dataset=profile.dataset,
            recipe=profile.head_recipe,
            split=profile.head_split,
            teacher=self.teacher(network),
            pretext=pretext or profile.pretext,
        )

    def student(
        self,
        pair: tuple[str, str],
        method: MethodSettings,
        seed: int,
        split: SplitSpec | None = None,
        pretext: PretextSettings | None = None,
    ) -> RunSpec:
        """A student of ``pair`` (teacher, student: networks that are run, not the published ones they stand for)."""
        teacher, student = pair
        kind, profile = METHODS[method.name], self.profile
        return RunSpec(
            role="student",
            network=student,
            dataset=profile.dataset,
            recipe=self._recipe(profile.recipe, student),
            split=split or profile.split,
            seed=seed,
            method=method,
            teacher=self.teacher(teacher) if kind.needs_teacher or method.kd_weight > 0 else None,
            head=self.head(teacher, pretext) if kind.needs_head else None,
        )

    def _recipe(self, recipe: Recipe, network: str) -> Recipe:
        rate = self.profile.learning_rates.get(network)
        return recipe.model_copy(update={"learning_rate": rate}) if rate else recipe


def method_label(method: MethodSettings) -> str:
    """As in the paper's tables, with "+KD" where KD was added to a method that has none by itself."""
    title = METHODS[method.name].info.title
    own_kd = method.name in ("kd", "sskd")
    return f"{title}+KD" if method.kd_weight > 0 and not own_kd else title
