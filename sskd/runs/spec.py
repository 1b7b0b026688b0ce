"""What a run is: frozen, validated specs, their YAML, and the id that follows from their meaning.

A ``RunSpec`` holds its whole ancestry: a student names the head it uses, the head names its teacher. So a spec can
be trained from its file alone, and its id changes when anything that it was learned from changes.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Discriminator,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sskd.config.fields import StrictModel
from sskd.config.networks import NetworkName, NetworkSettings, as_path_part
from sskd.config.pretrained import Pretrained
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.config.validation import from_dict
from sskd.config.yaml import override, read_yaml
from sskd.errors import UserError
from sskd.runs.settings import MethodField, PretextField, _method, check_recipe_names


class Trained(StrictModel):
    """A network that a run of this suite trains."""

    run: "RunSpec"
    """The run that trains it."""
    epoch: Literal["best", "last"] = "best"
    """Whose weights: of the epoch that was best on the test images, or of the last."""

    @property
    def network(self) -> str:
        return self.run.network

    @property
    def network_settings(self) -> NetworkSettings:
        return self.run.network_settings


def _teacher_kind(data: Any) -> str:
    if isinstance(data, dict):
        return "trained" if "run" in data else "pretrained"
    return "trained" if isinstance(data, Trained) else "pretrained"


Teacher = Annotated[
    Annotated[Trained, Tag("trained")] | Annotated[Pretrained, Tag("pretrained")],
    Discriminator(_teacher_kind),
]


class RunSpec(StrictModel):
    """One training: a teacher, a head on a frozen teacher, or a student. A teacher whose weights come from a file is
    not trained but measured."""

    role: Literal["teacher", "head", "student"]
    """What is trained: a teacher, a head on a frozen teacher, or a student."""
    network: NetworkName
    """Of a teacher or student the one that learns, of a head its teacher's: run_all.py --list networks names
    them."""
    dataset: DatasetSpec
    """Which images."""
    recipe: Recipe = Recipe()
    """How it is trained."""
    split: SplitSpec = SplitSpec()
    """Which of the training images, with which labels."""
    seed: int = 0
    """Of everything random: weights, order, augmentation, a method's draws."""
    teacher: Teacher | None = None
    """Whom a head or a student learns from, trained by a run or given; of a teacher: its given weights."""
    pretext: PretextField | None = None
    """The task of a head."""
    method: MethodField | None = None
    """How a student learns."""
    network_settings: NetworkSettings = NetworkSettings()
    """How the network that learns is used: the size of its images, and which of its modules give maps."""
    head: "RunSpec | None" = None
    """The run of the teacher's head, of a student whose method transfers a pretext task."""

    @field_validator("method", mode="before")
    @classmethod
    def _published_for_the_pair(cls, method: Any, info: ValidationInfo) -> Any:
        """What a spec does not say of its method is as published for its teacher and student."""
        teacher, student = info.data.get("teacher"), info.data.get("network")
        return _method(method, f"{teacher.network}/{student}") if teacher is not None else method

    @model_validator(mode="after")
    def _roles_fit(self) -> "RunSpec":
        check_recipe_names(self.recipe)

        def need(condition: bool, message: str) -> None:
            if not condition:
                raise ValueError(message)

        if self.used_as is not self.network_settings:
            need(
                self.network_settings == NetworkSettings(), "'network_settings' are here the teacher's: say them there"
            )
        if self.role == "teacher":
            need(not (self.pretext or self.method or self.head), "a teacher run learns from labels alone")
            if self.teacher is not None:
                need(isinstance(self.teacher, Pretrained), "a teacher is trained from labels, or its weights are given")
                need(self.network == self.teacher.network, "a teacher's 'network' is that of its weights")
        elif self.role == "head":
            need(self.teacher is not None, "a head needs a 'teacher'")
            need(self.pretext is not None, "a head needs a 'pretext'")
            need(self.method is None and self.head is None, "a head has neither 'method' nor 'head'")
            assert self.teacher is not None
            need(self.network == self.teacher.network, "a head's 'network' is its teacher's")
        else:
            need(self.method is not None, "a student needs a 'method' ('none' for training without a teacher)")
            need(self.pretext is None, "a student has no 'pretext': it takes its head's")
            if self.head is not None:
                need(self.head.role == "head", "'head' must be a run of role 'head'")
                need(self.head.teacher == self.teacher, "the head must belong to the student's teacher")
            self._method_has_what_it_needs()
        return self

    def _method_has_what_it_needs(self) -> None:
        from sskd.methods import METHODS

        assert self.method is not None
        method = METHODS[self.method.name]
        if (method.needs_teacher or self.method.kd_weight > 0) and self.teacher is None:
            raise ValueError(f"the method '{self.method.name}' needs a 'teacher'")
        if method.needs_head and self.head is None:
            raise ValueError(f"the method '{self.method.name}' needs a 'head'")
        if self.head is not None and self.head.pretext is not None:
            from sskd.pretext import PRETEXTS

            task = self.head.pretext.name
            if method.head_task not in (None, task) or PRETEXTS[task].method not in (None, self.method.name):
                wanted = f"of the task '{method.head_task}'" if method.head_task else "of another task"
                raise ValueError(f"the method '{self.method.name}' needs a head {wanted}, not of '{task}'")

    @cached_property
    def id(self) -> str:
        """Readable prefix and a hash of the spec's meaning: equal for equal meaning, on every machine.

        Values that equal a default are left out, so written or not they give the same id, and a field added later
        leaves old ids alone. (tests/test_config.py pins the defaults: changing one would change what old ids mean.)
        """
        text = json.dumps(_identity(self.model_dump(mode="json", exclude_defaults=True)), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        how = {"teacher": "", "head": f"{self.pretext.name}-" if self.pretext else ""}.get(
            self.role, f"{self.method.name}-" if self.method else ""
        )
        return f"{self.role}-{as_path_part(self.network)}-{how}{self.dataset.name}-s{self.seed}-{digest}"

    @property
    def random_seed(self) -> int:
        """What everything random in the run follows from: its seed, moved where its method is a control that differs
        from another in nothing else."""
        from sskd.methods import METHODS

        return self.seed + (METHODS[self.method.name].seed_shift if self.method else 0)

    @property
    def used_as(self) -> NetworkSettings:
        """The settings of ``network``: a head's and a measured teacher's are those of their teacher."""
        given = self.role != "student" and self.teacher is not None
        return self.teacher.network_settings if given and self.teacher else self.network_settings

    @property
    def trains(self) -> bool:
        """False for what is only measured: a teacher whose weights are given."""
        return self.role != "teacher" or self.teacher is None

    @property
    def needs(self) -> "tuple[RunSpec, ...]":
        """The runs that must be finished before this one can start."""
        teacher = (self.teacher.run,) if isinstance(self.teacher, Trained) else ()
        return teacher + ((self.head,) if self.head is not None else ())


def _identity(value: Any) -> Any:
    """A dumped spec without what does not belong to its meaning: the place of a weights file of known content."""
    if isinstance(value, dict):
        skip = {"weights"} if value.get("sha256") else set()
        return {key: _identity(item) for key, item in value.items() if key not in skip}
    if isinstance(value, list):
        return [_identity(item) for item in value]
    return value


def read_spec(path: Path, changes: Sequence[str] = ()) -> RunSpec:
    """A RunSpec from its YAML file, with ``changes`` (a.b=c) applied."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(data).__name__}")
    return from_dict(RunSpec, override(data, changes), str(path))


def spec_yaml(spec: StrictModel) -> str:
    """A spec as YAML, defaults written out."""
    return yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)
