"""Specs of runs: frozen, validated models of the three roles, and their YAML.

A ``RunSpec`` is a ``TeacherSpec``, a ``HeadSpec`` or a ``StudentSpec``; its ``role`` says which. A spec contains the
specs of its dependencies: a student contains its head and teacher, and a head contains its teacher. A run can therefore
be trained from its spec file alone, and its id changes if anything that it depends on changes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Tag, TypeAdapter, ValidationInfo, field_validator, model_validator

from sskd.config.fields import StrictModel
from sskd.config.networks import NetworkSettings
from sskd.config.pretrained import FromFile
from sskd.config.validation import from_dict
from sskd.config.yaml import override, read_yaml
from sskd.runs.common_spec import CommonSpec
from sskd.runs.settings import MethodField, PretextField, parse_method


class FromRun(StrictModel):
    """A network that a run of this suite trains."""

    run: "TrainedNetworkSpec"
    """The run that trains it."""
    epoch: Literal["best", "last"] = "best"
    """Epoch of the weights: best (on the test images), or last."""

    @model_validator(mode="after")
    def _is_a_network_by_itself(self) -> "FromRun":
        if isinstance(self.run, StudentSpec) and predicts_through_more(self.run):
            raise ValueError(
                f"a student of '{self.run.method.name}' predicts with modules that the method has added, and "
                "cannot be a teacher: use a student of another method"
            )
        return self

    @property
    def network(self) -> str:
        """Name of the run's network."""
        return self.run.network

    @property
    def network_settings(self) -> NetworkSettings:
        """Settings of the run's network."""
        return self.run.used_as


def _teacher_kind(data: Any) -> str:
    if isinstance(data, dict):
        return "<trained>" if "run" in data else "<pretrained>"
    return "<trained>" if isinstance(data, FromRun) else "<pretrained>"


Teacher = Annotated[
    Annotated[FromRun, Tag("<trained>")] | Annotated[FromFile, Tag("<pretrained>")], Discriminator(_teacher_kind)
]

PLAIN = NetworkSettings()


class TeacherSpec(CommonSpec):
    """A network that is trained on labels only, or a network with given weights, which is only evaluated."""

    role: Literal["teacher"]
    """Role of the run."""
    teacher: FromFile | None = None
    """The given weights."""
    network_settings: NetworkSettings = NetworkSettings()
    """Settings for using the network: image size, and modules that output feature maps. With given weights, set it
    in `teacher` instead."""
    start: FromFile | None = None
    """Initial weights of the training; null: random. A classifier for other classes is reinitialised."""

    @model_validator(mode="after")
    def _network_is_of_the_weights(self) -> "TeacherSpec":
        if self.teacher is not None and self.network != self.teacher.network:
            raise ValueError("'network' must be the network of the given weights, 'teacher.network'")
        if self.teacher is not None and self.network_settings != NetworkSettings():
            raise ValueError("with given weights, set 'teacher.network_settings' instead of 'network_settings'")
        if self.start is not None and self.teacher is not None:
            raise ValueError("a teacher with given weights is not trained: remove 'start'")
        if self.start is not None and (self.start.network, self.start.network_settings) != (self.network, PLAIN):
            raise ValueError("'start' must be weights of 'network', without 'network_settings'")
        return self

    @property
    def used_as(self) -> NetworkSettings:
        return self.network_settings if self.teacher is None else self.teacher.network_settings

    @property
    def trains(self) -> bool:
        return self.teacher is None

    @property
    def dependencies(self) -> "tuple[RunSpec, ...]":
        """The runs that must be finished before this one can start."""
        return ()


class HeadSpec(CommonSpec):
    """A head that is trained on a self-supervised task, on the features of a frozen teacher."""

    role: Literal["head"]
    """Role of the run."""
    teacher: Teacher
    """The teacher: trained by a run, or with given weights."""
    pretext: PretextField
    """The self-supervised task."""

    @model_validator(mode="after")
    def _fits_a_head(self) -> "HeadSpec":
        for key in ("label_smoothing", "mixup", "cutmix", "ema"):
            if getattr(self.recipe, key):
                raise ValueError(f"recipe.{key} is for teachers and students: leave it out of a head's recipe")
        if self.network != self.teacher.network:
            raise ValueError("'network' of a head must be its teacher's network")
        return self

    @property
    def used_as(self) -> NetworkSettings:
        return self.teacher.network_settings

    @property
    def learns(self) -> str:
        return self.pretext.name

    @property
    def dependencies(self) -> "tuple[RunSpec, ...]":
        return _runs_of(self.teacher)


class StudentSpec(CommonSpec):
    """A network that is trained with a distillation method."""

    role: Literal["student"]
    """Role of the run."""
    teacher: Teacher | None = None
    """The teacher: trained by a run, or with given weights; null if the method needs none."""
    method: MethodField
    """The method and its settings."""
    head: HeadSpec | None = None
    """The run of the teacher's head, for methods that transfer a pretext task."""
    network_settings: NetworkSettings = NetworkSettings()
    """Settings for using the network: image size, and modules that output feature maps."""

    @field_validator("method", mode="before")
    @classmethod
    def _published_for_the_pair(cls, method: Any, info: ValidationInfo) -> Any:
        """Sets settings that are not given to the published values for the teacher and student."""
        teacher, student = info.data.get("teacher"), info.data.get("network")
        return parse_method(method, f"{teacher.network}/{student}") if teacher is not None else method

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> "StudentSpec":
        from sskd.methods import METHODS, check_recipe

        method, name = METHODS[self.method.name], self.method.name
        check_recipe(self.method, self.recipe)
        if self.head is not None and self.head.teacher != self.teacher:
            raise ValueError("the head must belong to the student's teacher")
        if (method.needs_teacher or self.method.kd_weight > 0) and self.teacher is None:
            raise ValueError(f"the method '{name}' needs a 'teacher'")
        if method.needs_head and self.head is None:
            raise ValueError(f"the method '{name}' needs a 'head'")
        if self.head is not None:
            from sskd.pretext import PRETEXTS

            task = self.head.pretext.name
            if method.head_task not in (None, task) or PRETEXTS[task].method not in (None, name):
                wanted = f"for the task '{method.head_task}'" if method.head_task else "for another task"
                raise ValueError(f"the method '{name}' needs a head {wanted}, not for '{task}'")
            PRETEXTS[task].check(self.method)
        return self

    @property
    def used_as(self) -> NetworkSettings:
        return self.network_settings

    @property
    def learns(self) -> str:
        return self.method.name

    @property
    def random_seed(self) -> int:
        """The seed, shifted for a control method that differs from another method only in its seed."""
        from sskd.methods import METHODS

        return self.seed + METHODS[self.method.name].seed_shift

    @property
    def dependencies(self) -> "tuple[RunSpec, ...]":
        return _runs_of(self.teacher) + (() if self.head is None else (self.head,))


def predicts_through_more(spec: "StudentSpec") -> bool:
    """Returns True if the student's method has added modules that predictions need (SimKD)."""
    from sskd.methods import METHODS, Method

    return METHODS[spec.method.name].predictor is not Method.predictor


def _role(data: Any) -> str | None:
    """Discriminator of the RunSpec union: the spec's role as a tag. Input that is not a spec gets the tag of
    TeacherSpec, so that TeacherSpec's validation reports the error."""
    role = data.get("role") if isinstance(data, dict) else getattr(data, "role", "teacher")
    return f"<{role}>" if isinstance(role, str) else None


def _one_of(roles: str) -> Discriminator:
    return Discriminator(_role, custom_error_type="unknown_role", custom_error_message=f"Input should be {roles}")


RunSpec = Annotated[
    Annotated[TeacherSpec, Tag("<teacher>")]
    | Annotated[HeadSpec, Tag("<head>")]
    | Annotated[StudentSpec, Tag("<student>")],
    _one_of("'teacher', 'head' or 'student'"),
]
TrainedNetworkSpec = Annotated[
    Annotated[TeacherSpec, Tag("<teacher>")] | Annotated[StudentSpec, Tag("<student>")],
    _one_of("'teacher' or 'student'"),
]
for _model in (FromRun, HeadSpec, StudentSpec):
    _model.model_rebuild()
_ANY_ROLE: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)


def _runs_of(teacher: FromRun | FromFile | None) -> tuple[RunSpec, ...]:
    return (teacher.run,) if isinstance(teacher, FromRun) else ()


def parse_spec(data: Any, where: str) -> RunSpec:
    """Returns the spec of YAML data. Raises UserError with the file or option (``where``), the path of the key, and
    the problem."""
    return from_dict(_ANY_ROLE, data, where)


def read_spec(path: Path, changes: Sequence[str] = ()) -> RunSpec:
    """Reads a RunSpec from its YAML file and applies ``changes`` (a.b=c)."""
    data = read_yaml(path)
    return parse_spec(override(data, changes) if isinstance(data, dict) else data, str(path))


def spec_yaml(spec: StrictModel) -> str:
    """Returns a spec as YAML, including defaults."""
    return yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)


def with_ancestors(wanted: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """Returns the wanted runs and all their dependencies by id, each once, and dependencies first."""
    found: dict[str, RunSpec] = {}

    def add(spec: RunSpec) -> None:
        if spec.id not in found:
            for needed in spec.dependencies:
                add(needed)
            found[spec.id] = spec

    for spec in wanted:
        add(spec)
    return found
