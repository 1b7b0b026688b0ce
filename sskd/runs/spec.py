"""What a run is: frozen, validated specs of the three roles, and their YAML.

A ``RunSpec`` is a ``TeacherSpec``, a ``HeadSpec`` or a ``StudentSpec``; its ``role`` says which. It holds its whole
ancestry: a student names the head it uses, the head names its teacher. So a spec can be trained from its file alone,
and its id changes when anything that it was learned from changes.
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
from sskd.errors import UserError
from sskd.runs.common_spec import CommonSpec
from sskd.runs.settings import MethodField, PretextField, parse_method


class FromRun(StrictModel):
    """A network that a run of this suite trains."""

    run: "TrainedNetworkSpec"
    """The run that trains it."""
    epoch: Literal["best", "last"] = "best"
    """Whose weights: of the epoch that was best on the test images, or of the last."""

    @model_validator(mode="after")
    def _is_a_network_by_itself(self) -> "FromRun":
        if isinstance(self.run, StudentSpec) and predicts_through_more(self.run):
            raise ValueError(
                f"a student of '{self.run.method.name}' predicts through what the method has built around it, and "
                "cannot teach: name a student of another method"
            )
        return self

    @property
    def network(self) -> str:
        """The run's network, by name."""
        return self.run.network

    @property
    def network_settings(self) -> NetworkSettings:
        """How it is used."""
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
    """A network that learns from labels alone, or one whose weights are given: that is not trained but measured."""

    role: Literal["teacher"]
    """What is trained."""
    teacher: FromFile | None = None
    """Its given weights."""
    network_settings: NetworkSettings = NetworkSettings()
    """How the network is used: the size of its images, and which of its modules give maps. Where its weights are given
    that is said there."""
    start: FromFile | None = None
    """The weights that its training starts from; null: random ones. A classifier of other classes starts anew."""

    not_of_the_role = "a teacher run learns from labels alone"

    @field_validator("teacher", mode="before")
    @classmethod
    def _weights_are_given(cls, teacher: Any) -> Any:
        if isinstance(teacher, FromRun) or (isinstance(teacher, dict) and "run" in teacher):
            raise ValueError("a teacher is trained from labels, or its weights are given")
        return teacher

    @model_validator(mode="after")
    def _network_is_of_the_weights(self) -> "TeacherSpec":
        if self.teacher is not None and self.network != self.teacher.network:
            raise ValueError("a teacher's 'network' is that of its weights")
        if self.teacher is not None and self.network_settings != NetworkSettings():
            raise ValueError("'network_settings' are said of the given weights, in 'teacher'")
        if self.start is not None and self.teacher is not None:
            raise ValueError("a teacher whose weights are given is not trained: it has no 'start'")
        if self.start is not None and (self.start.network, self.start.network_settings) != (self.network, PLAIN):
            raise ValueError("'start' is of the teacher's 'network', and says nothing of its use")
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
    """A head that learns a self-supervised task on a frozen teacher."""

    role: Literal["head"]
    """What is trained."""
    teacher: Teacher
    """Whose features it reads, trained by a run or given."""
    pretext: PretextField
    """The self-supervised task that it learns."""

    required = {"teacher": "a head needs a 'teacher'", "pretext": "a head needs a 'pretext'"}
    not_of_the_role = "a head has neither 'method' nor 'head'"

    @model_validator(mode="after")
    def _recipe_is_a_heads(self) -> "HeadSpec":
        for key in ("label_smoothing", "mixup", "cutmix", "ema"):
            if getattr(self.recipe, key):
                raise ValueError(f"recipe.{key} is for teachers and students: leave it out of a head's recipe")
        return self

    @model_validator(mode="after")
    def _network_is_the_teachers(self) -> "HeadSpec":
        if self.network != self.teacher.network:
            raise ValueError("a head's 'network' is its teacher's")
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
    """A network that learns from a teacher by a method."""

    role: Literal["student"]
    """What is trained."""
    teacher: Teacher | None = None
    """Whom it learns from, trained by a run or given; none where the method needs none."""
    method: MethodField
    """How the student learns."""
    head: HeadSpec | None = None
    """The run of the teacher's head, where the method transfers a pretext task."""
    network_settings: NetworkSettings = NetworkSettings()
    """How the network is used: the size of its images, and which of its modules give maps."""

    required = {"method": "a student needs a 'method' ('none' for training without a teacher)"}
    not_of_the_role = "a student has no 'pretext': it takes its head's"

    @field_validator("method", mode="before")
    @classmethod
    def _published_for_the_pair(cls, method: Any, info: ValidationInfo) -> Any:
        """What a spec does not say of its method is as published for its teacher and student."""
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
                wanted = f"of the task '{method.head_task}'" if method.head_task else "of another task"
                raise ValueError(f"the method '{name}' needs a head {wanted}, not of '{task}'")
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
        """Its seed, moved where its method is a control that differs from another in nothing else."""
        from sskd.methods import METHODS

        return self.seed + METHODS[self.method.name].seed_shift

    @property
    def dependencies(self) -> "tuple[RunSpec, ...]":
        return _runs_of(self.teacher) + (() if self.head is None else (self.head,))


def predicts_through_more(spec: "StudentSpec") -> bool:
    """Whether the student's method has built a network of its own around it (SimKD)."""
    from sskd.methods import METHODS, Method

    return METHODS[spec.method.name].predictor is not Method.predictor


def _role(data: Any) -> str | None:
    """The tag of a spec's role. What is no spec at all is said by the first kind."""
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
    """The spec that YAML data says. UserError names the file or option (``where``), the key's path, what is wrong."""
    return from_dict(_ANY_ROLE, data, where)


def read_spec(path: Path, changes: Sequence[str] = ()) -> RunSpec:
    """A RunSpec from its YAML file, with ``changes`` (a.b=c) applied."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(data).__name__}")
    return parse_spec(override(data, changes), str(path))


def spec_yaml(spec: StrictModel) -> str:
    """A spec as YAML, defaults written out."""
    return yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)


def with_ancestors(wanted: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """All wanted runs and what they need, by id; each once, and after what it needs."""
    found: dict[str, RunSpec] = {}

    def add(spec: RunSpec) -> None:
        if spec.id not in found:
            for needed in spec.dependencies:
                add(needed)
            found[spec.id] = spec

    for spec in wanted:
        add(spec)
    return found
