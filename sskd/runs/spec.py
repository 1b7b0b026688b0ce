"""What a run is: frozen, validated specs, their YAML, and the id that follows from their meaning.

A ``RunSpec`` is a ``TeacherSpec``, a ``HeadSpec`` or a ``StudentSpec``; its ``role`` says which. It holds its whole
ancestry: a student names the head it uses, the head names its teacher. So a spec can be trained from its file alone,
and its id changes when anything that it was learned from changes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

import yaml
from pydantic import Discriminator, Tag, TypeAdapter, ValidationInfo, field_validator, model_validator
from typing_extensions import Self  # of typing itself only since Python 3.11; pydantic needs the package

from sskd.config.fields import StrictModel
from sskd.config.networks import NetworkName, NetworkSettings, as_path_part
from sskd.config.pretrained import Pretrained
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.config.validation import from_dict
from sskd.config.yaml import override, read_yaml
from sskd.errors import UserError
from sskd.runs.settings import MethodField, PretextField, check_recipe_names, parse_method


class Trained(StrictModel):
    """A network that a run of this suite trains."""

    run: "TrainedNetworkSpec"
    """The run that trains it."""
    epoch: Literal["best", "last"] = "best"
    """Whose weights: of the epoch that was best on the test images, or of the last."""

    @model_validator(mode="after")
    def _is_a_network_by_itself(self) -> "Trained":
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
    return "<trained>" if isinstance(data, Trained) else "<pretrained>"


Teacher = Annotated[
    Annotated[Trained, Tag("<trained>")] | Annotated[Pretrained, Tag("<pretrained>")], Discriminator(_teacher_kind)
]

PLAIN = NetworkSettings()
Spec = TypeVar("Spec", bound="CommonSpec")
OF_SOME_ROLES = ("teacher", "pretext", "method", "head")  # keys that not every role has


class CommonSpec(StrictModel):
    """What runs of every role have."""

    role: Literal["teacher", "head", "student"]
    """What is trained: a teacher, a head on a frozen teacher, or a student."""
    network: NetworkName
    """Of a teacher or student the one that learns, of a head its teacher's: run_all.py list networks names
    them; or torchvision:NAME, timm:NAME."""
    dataset: DatasetSpec
    """Which images."""
    recipe: Recipe = Recipe()
    """How it is trained."""
    split: SplitSpec = SplitSpec()
    """Which of the training images, with which labels."""
    seed: int = 0
    """Of everything random: weights, order, augmentation, a method's draws."""

    # what is said where a spec lacks a key of its role, and where it has one of another role
    required: ClassVar[Mapping[str, str]] = {}
    not_of_the_role: ClassVar[str]

    @classmethod
    def with_known_keys(cls, data: dict[Any, Any]) -> dict[Any, Any]:
        """As of every model. Another role's keys are refused in words of their own, and may be null."""
        foreign = [key for key in OF_SOME_ROLES if key not in cls.model_fields]
        if any(data.get(key) is not None for key in foreign):
            raise ValueError(cls.not_of_the_role)
        data = super().with_known_keys({key: value for key, value in data.items() if key not in foreign})
        for key, message in cls.required.items():
            if data.get(key) is None:
                raise ValueError(message)
        return data

    @model_validator(mode="after")
    def _recipe_names_exist(self) -> "CommonSpec":
        check_recipe_names(self.recipe)
        return self

    @cached_property
    def id(self) -> str:
        """Readable prefix and a hash of the spec's meaning: equal for equal meaning, on every machine.

        Values that equal a default are left out, so written or not they give the same id, and a field added later
        leaves old ids alone. (tests/test_config.py pins the defaults: changing one would change what old ids mean.)
        """
        digest = hashlib.sha256(json.dumps(self._meaning, sort_keys=True).encode()).hexdigest()[:12]
        words = (self.role, as_path_part(self.network), self.learns, self.dataset.name, f"s{self.seed}", digest)
        return "-".join(word for word in words if word)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, and so with an id of its own."""
        copy = super().model_copy(update=update, deep=deep)
        for computed in ("id", "_meaning"):  # pydantic copies cached values too
            copy.__dict__.pop(computed, None)
        return copy

    @cached_property
    def _meaning(self) -> dict[str, Any]:
        """What of the spec differs from defaults, without what does not belong to its meaning. That of a teacher and a
        head is made once, however many students name them."""
        meaning: dict[str, Any] = _identity(
            self.model_dump(mode="json", exclude_defaults=True, exclude={"teacher", "head"})
        )
        teacher, head = getattr(self, "teacher", None), getattr(self, "head", None)
        if isinstance(teacher, Trained):
            own = teacher.model_dump(mode="json", exclude_defaults=True, exclude={"run"})
            meaning["teacher"] = own | {"run": teacher.run._meaning}
        elif teacher is not None:
            meaning["teacher"] = _identity(teacher.model_dump(mode="json", exclude_defaults=True))
        if head is not None:
            meaning["head"] = head._meaning
        return meaning

    @property
    def learns(self) -> str:
        """The name of the head's task, or of the student's method; a teacher has neither."""
        return ""

    @property
    def used_as(self) -> NetworkSettings:
        """How ``network`` is used."""
        raise NotImplementedError

    def with_seed(self: Spec, seed: int) -> Spec:
        """The same with another seed. Nothing is validated again: a seed stands in no relation to other keys."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        made = type(self).model_construct(self.model_fields_set | {"seed"}, **(values | {"seed": seed}))
        return cast("Spec", made)

    @property
    def random_seed(self) -> int:
        """What everything random in the run follows from."""
        return self.seed

    @property
    def trains(self) -> bool:
        """False for what is only measured: a teacher whose weights are given."""
        return True

    @property
    def needs(self) -> "tuple[RunSpec, ...]":
        """The runs that must be finished before this one can start."""
        return ()


class TeacherSpec(CommonSpec):
    """A network that learns from labels alone, or one whose weights are given: that is not trained but measured."""

    role: Literal["teacher"]
    """What is trained."""
    teacher: Pretrained | None = None
    """Its given weights."""
    network_settings: NetworkSettings = NetworkSettings()
    """How the network is used: the size of its images, and which of its modules give maps. Where its weights are given
    that is said there."""
    start: Pretrained | None = None
    """The weights that its training starts from; null: random ones. A classifier of other classes starts anew."""

    not_of_the_role = "a teacher run learns from labels alone"

    @field_validator("teacher", mode="before")
    @classmethod
    def _weights_are_given(cls, teacher: Any) -> Any:
        if isinstance(teacher, Trained) or (isinstance(teacher, dict) and "run" in teacher):
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
    def needs(self) -> "tuple[RunSpec, ...]":
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
        from sskd.methods import METHODS

        method, name = METHODS[self.method.name], self.method.name
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
    def needs(self) -> "tuple[RunSpec, ...]":
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
for _model in (Trained, HeadSpec, StudentSpec):
    _model.model_rebuild()
_ANY_ROLE: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)


def _runs_of(teacher: Trained | Pretrained | None) -> tuple[RunSpec, ...]:
    return (teacher.run,) if isinstance(teacher, Trained) else ()


def _identity(value: Any) -> Any:
    """A dumped spec without what does not belong to its meaning: the place of a file of known content."""
    if isinstance(value, dict):
        skip = {"weights", "file"} if value.get("sha256") else set()
        return {key: _identity(item) for key, item in value.items() if key not in skip}
    if isinstance(value, list):
        return [_identity(item) for item in value]
    return value


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
