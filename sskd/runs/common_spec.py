"""What runs of every role have in common, and the id that follows from a spec's meaning."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar, cast

from pydantic import model_validator
from typing_extensions import Self  # of typing itself only since Python 3.11; pydantic needs the package

from sskd.config.fields import StrictModel
from sskd.config.networks import NetworkName, NetworkSettings, as_path_part
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.runs.settings import check_recipe_names

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
        meaning = _identity(self.model_dump(mode="json", exclude_defaults=True))
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]
        words = (self.role, as_path_part(self.network), self.learns, self.dataset.name, f"s{self.seed}", digest)
        return "-".join(word for word in words if word)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, and so with an id of its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("id", None)  # pydantic copies cached values too
        return copy

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


def _identity(value: Any) -> Any:
    """A dumped spec without what does not belong to its meaning: the place of a file of known content."""
    if isinstance(value, dict):
        skip = {"weights", "file"} if value.get("sha256") else set()
        return {key: _identity(item) for key, item in value.items() if key not in skip}
    if isinstance(value, list):
        return [_identity(item) for item in value]
    return value
