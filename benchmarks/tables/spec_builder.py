"""Builds the specs of a benchmark's runs for a profile."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from benchmarks.profiles.profile import Profile, changed_recipe, split_pair
from benchmarks.profiles.read import pretext_settings
from benchmarks.tables.cell import Cell, shown_pair
from sskd.config.networks import NetworkSettings
from sskd.config.pretrained import FineTuned, FromFile
from sskd.config.recipe import Recipe, SplitSpec
from sskd.config.settings import MethodSettings, PretextSettings
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.settings import method_settings
from sskd.runs.spec import FromRun, HeadSpec, RunSpec, StudentSpec, Teacher, TeacherSpec

# rows of the paper's tables 3, 4 and 6, in its order
PAPER_METHODS = ("none", "kd", "fitnet", "at", "sp", "vid", "rkd", "pkt", "ab", "ft", "crd", "sskd")


class SpecBuilder:
    """Builds specs for a profile. Equal requests give equal specs, so shared runs are trained once."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        # cached, because thousands of students use them
        self._teacher_run, self._head = cache(self._make_teacher_run), cache(self._make_head)

    def method(self, name: str, **settings: Any) -> MethodSettings:
        """Returns a method's settings; the given ones override the profile's, which override the published ones."""
        return method_settings(name, **(self.profile.method_settings.get(name, {}) | settings))

    def paper_methods(self, names: tuple[str, ...] = PAPER_METHODS, **settings: Any) -> list[MethodSettings]:
        """Returns the settings of a table's methods that the profile includes. ``settings`` override the profile's."""
        wanted = self.profile.table_methods
        return [self.method(name, **settings) for name in names if wanted is None or name in wanted]

    def pretext(self, name: str, **settings: Any) -> PretextSettings:
        """Returns a pretext task's settings; the given ones override the profile's, which override the defaults."""
        profile = self.profile
        own = profile.pretext.model_dump(exclude_unset=True) if profile.pretext.name == name else {}
        known = profile.pretext_settings.get(name, {}) | own | settings
        return pretext_settings(name, **{key: value for key, value in known.items() if key != "name"})

    def pair(self, published: str) -> tuple[str, str]:
        """Returns the teacher and student that replace a published pair in this profile. Raises UserError for an
        omitted pair."""
        standing = self.profile.pairs.get(published, published)
        if standing is None:
            raise UserError(f"pairs.{published} is null, but the table has no other pair: name one that stands for it")
        return split_pair(standing)

    def planned(self, published: Sequence[str]) -> list[str]:
        """Returns the published pairs of a table that the profile does not omit. Raises UserError if it omits all."""
        kept = [pair for pair in published if self.profile.pairs.get(pair, pair) is not None]
        if not kept:
            raise UserError(f"pairs: all of a table's pairs are null: {', '.join(published)}")
        return kept

    def teacher(self, network: str, seed: int = 0) -> Teacher:
        """Returns a weights file if the profile names one for the network, else a run: one for all seeds, or with
        teacher_seeds one per seed."""
        given = self._given(network)
        return given or FromRun(run=self._teacher_run(network, self._own(seed)), epoch=self.profile.teacher_epoch)

    def _own(self, seed: int) -> int:
        """Returns the seed of the teacher and head of a student's seed."""
        return seed if self.profile.teacher_seeds else 0

    def _given(self, network: str) -> FromFile | None:
        """Returns the given weights of a network, with the profile's network settings unless the entry has its own."""
        entry = self.profile.teachers.get(network)
        given = entry if isinstance(entry, FromFile) else None
        settings = self.profile.network_settings.get(network)
        if given is None or settings is None or "network_settings" in given.model_fields_set:
            return given
        return given.model_copy(update={"network_settings": settings})

    def used_as(self, network: str) -> NetworkSettings:
        """Returns the profile's settings of a network."""
        return self.profile.network_settings.get(network, NetworkSettings())

    def teacher_runs(self, network: str) -> list[TeacherSpec]:
        """Returns the runs that train a network's teachers; for given weights the run that evaluates them."""
        given = self._given(network)
        if given is None:
            return list(dict.fromkeys(self._teacher_run(network, self._own(seed)) for seed in self.profile.seeds))
        return [TeacherSpec(role="teacher", network=network, dataset=self.profile.dataset, teacher=given)]

    def _make_teacher_run(self, network: str, seed: int) -> TeacherSpec:
        profile, entry = self.profile, self.profile.teachers.get(network)
        return TeacherSpec(
            role="teacher",
            network=network,
            dataset=profile.dataset,
            recipe=self._recipe(profile.teacher_recipe, network),
            seed=seed,
            network_settings=self.used_as(network),
            start=entry.weights if isinstance(entry, FineTuned) else None,
        )

    def head(self, network: str, pretext: PretextSettings | None = None, seed: int = 0) -> HeadSpec:
        return self._head(network, pretext or self.profile.pretext, self._own(seed))

    def _make_head(self, network: str, task: PretextSettings, seed: int) -> HeadSpec:
        return HeadSpec(
            role="head",
            network=network,
            dataset=self.profile.dataset,
            recipe=self._head_recipe(task, network),
            split=self.profile.head_split,
            teacher=self.teacher(network, seed),
            pretext=task,
            seed=seed,
        )

    def student(
        self,
        pair: tuple[str, str],
        method: MethodSettings,
        seed: int,
        split: SplitSpec | None = None,
        pretext: PretextSettings | None = None,
        epochs: int | None = None,
    ) -> StudentSpec:
        """Returns a student's spec. pair: (teacher, student), the networks that are trained, not the published ones."""
        teacher, student = pair
        kind, profile = METHODS[method.name], self.profile
        recipe = self._recipe(profile.recipe, student)
        recipe = changed_recipe(recipe, profile.method_recipes.get(method.name), f"method_recipes.{method.name}")
        recipe = changed_recipe(recipe, {"epochs": epochs} if epochs else None, "as many steps, or as much time")
        return StudentSpec(
            role="student",
            network=student,
            dataset=profile.dataset,
            recipe=recipe,
            split=self._split(split or profile.split, seed),
            seed=seed,
            method=method,
            teacher=self.teacher(teacher, seed) if kind.needs_teacher or method.kd_weight > 0 else None,
            head=self.head(teacher, pretext or (self.pretext(kind.head_task) if kind.head_task else None), seed)
            if kind.needs_head
            else None,
            network_settings=self.used_as(student),
        )

    def _split(self, split: SplitSpec, seed: int) -> SplitSpec:
        """Returns the split of a student's seed. With split_seeds each seed has its own, if the split is random at
        all."""
        drawn = split.fraction < 1 or split.noise > 0 or split.holdout > 0
        return split.model_copy(update={"seed": split.seed + seed}) if self.profile.split_seeds and drawn else split

    def students(
        self,
        published: str,
        row: str,
        column: str,
        method: MethodSettings,
        pair: tuple[str, str] | None = None,
        **more: Any,
    ) -> list[Cell]:
        """Returns the runs of a cell, one per seed. column: the published pair, or any other name. pair: the trained
        networks (default: the pair that replaces the published one). more: arguments of ``student``."""
        pair = pair or self.pair(published)
        first, *others = self.profile.seeds
        runs = [self.student(pair, method, first, **more)]
        if self.profile.teacher_seeds or self.profile.split_seeds:
            runs += [self.student(pair, method, seed, **more) for seed in others]
        else:  # specs differ only in the seed
            runs += [runs[0].with_seed(seed) for seed in others]
        return [self._cell(row, column, run, published, pair) for run in runs]

    def _cell(self, row: str, column: str, spec: RunSpec, published: str, pair: tuple[str, str]) -> Cell:
        run_pair = "/".join(pair)
        shown = shown_pair(run_pair, published) if column == published else column
        return Cell(row, shown, spec, published, run_pair)

    def teacher_cells(self, published: str, column: str) -> list[Cell]:
        """Returns the teacher's cells. column: see ``students``."""
        pair = self.pair(published)
        return [self._cell("Teacher", column, run, published, pair) for run in self.teacher_runs(pair[0])]

    def _head_recipe(self, task: PretextSettings, network: str) -> Recipe:
        """Returns the recipe of a head; for a network that is trained together with its head, the teachers' recipe."""
        if task.trains_network:
            return self._recipe(self.profile.teacher_recipe, network)
        changes = self.profile.head_recipes.get(task.name)
        return changed_recipe(self.profile.head_recipe, changes, f"head_recipes.{task.name}")

    def _recipe(self, recipe: Recipe, network: str) -> Recipe:
        rate = self.profile.learning_rates.get(network)
        return recipe.model_copy(update={"learning_rate": rate}) if rate else recipe


def method_grid(
    specs: SpecBuilder, pairs: Sequence[str], methods: Sequence[MethodSettings], teachers: bool = True
) -> list[Cell]:
    """Returns the cells of the teacher (if ``teachers``) and every method (rows) on every published pair (columns)."""
    planned = specs.planned(pairs)
    cells = [cell for pair in planned if teachers for cell in specs.teacher_cells(pair, pair)]
    for method in methods:
        for pair in planned:
            cells += specs.students(pair, method_label(method), pair, method)
    return cells


TERMS = {"ce": "CE", "t": "L_T", "ss": "L_ss"}  # a loss term's key in settings to its name in the paper


def unique_cells(benchmark: str, cells: list[Cell]) -> list[Cell]:
    """Removes duplicate cells. Raises UserError if two different runs of a seed are in the same cell, because they
    would count as two seeds."""
    found: dict[tuple[str, str, int], Cell] = {}
    for cell in cells:
        known = found.setdefault((cell.row, cell.column, cell.spec.seed), cell)
        if known.spec.id != cell.spec.id:
            raise UserError(
                f"{benchmark}: two runs with seed {cell.spec.seed} are in the cell '{cell.row}', '{cell.column}': "
                f"{known.spec.id} and {cell.spec.id}; remove one of them, or give one a label: "
                "methods: [kd, {name: kd, kd_temperature: 2.0, label: KD at 2}]"
            )
    return list(found.values())


def run_label(spec: RunSpec) -> str:
    """Returns a student's method as in the paper's tables; "" for other runs."""
    return method_label(spec.method) if isinstance(spec, StudentSpec) else ""


def method_label(method: MethodSettings) -> str:
    """Returns the name of a method's row: its label, else the title as in the paper's tables, with "+KD" if KD was
    added, and the terms with weight zero: "SSKD, no L_ss"."""
    if method.label:
        return method.label
    title = METHODS[method.name].info.title
    chosen: dict[str, Any] = {}
    if getattr(method, "host", "kd") != "kd":
        chosen["host"] = method.host  # type: ignore[attr-defined]
        title += f" on {METHODS[chosen['host']].info.title}"
    if getattr(method, "standardise", False):
        chosen["standardise"] = True
        title += "+LSKD"
    usual = method_settings(method.name, **chosen)
    label = f"{title}+KD" if method.kd_weight > 0 and not usual.kd_weight else title
    names = [name for name in type(method).model_fields if name.endswith("_weight") and name != "kd_weight"]
    without = [name.removesuffix("_weight") for name in names if getattr(method, name) == 0 != getattr(usual, name)]
    return f"{label}, no {' and '.join(TERMS.get(term, term) for term in without)}" if without else label
