"""The part of a spec that runs of all roles share, and the id, which is a hash of the spec."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import model_validator
from typing_extensions import Self  # in typing since Python 3.11; pydantic depends on typing_extensions

from sskd.config.fields import StrictModel
from sskd.config.networks import NetworkName, NetworkSettings, as_path_part
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.runs.settings import check_recipe_names


class CommonSpec(StrictModel):
    """The settings that runs of all roles share."""

    role: Literal["teacher", "head", "student"]
    """Role of the run: it trains a teacher, a head on a frozen teacher, or a student."""
    network: NetworkName
    """Name of the network (run_all.py list networks), or torchvision:NAME, timm:NAME. For a head: its teacher's
    network."""
    dataset: DatasetSpec
    """The data set."""
    recipe: Recipe = Recipe()
    """The training recipe."""
    split: SplitSpec = SplitSpec()
    """Selection of training images and labels."""
    seed: int = 0
    """Seed of all random numbers of the run: initial weights, order of images, augmentation, draws of the method."""

    @model_validator(mode="after")
    def _recipe_names_exist(self) -> "CommonSpec":
        check_recipe_names(self.recipe)
        return self

    @cached_property
    def id(self) -> str:
        """Readable prefix and a hash of the spec. Equal specs have equal ids on every machine.

        Values that equal a default are left out, so writing a default does not change the id, and a field that is added
        later does not change old ids. (tests/test_config.py checks the defaults: changing one would change what old ids
        mean.)
        """
        meaning = _identity(self.model_dump(mode="json", exclude_defaults=True))
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]
        words = (self.role, as_path_part(self.network), self.learns, self.dataset.name, f"s{self.seed}", digest)
        return "-".join(word for word in words if word)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copies the spec with some fields changed, which also changes the id."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("id", None)  # pydantic copies cached properties too
        return copy

    @property
    def learns(self) -> str:
        """Name of the head's task, or of the student's method; "" for a teacher."""
        return ""

    @property
    def used_as(self) -> NetworkSettings:
        """Settings of ``network``."""
        raise NotImplementedError

    def with_seed(self, seed: int) -> Self:
        """Returns a copy with another seed. It is not validated again, because no rule involves the seed."""
        return self.model_copy(update={"seed": seed})

    @property
    def random_seed(self) -> int:
        """Seed of all random numbers of the run."""
        return self.seed

    @property
    def trains(self) -> bool:
        """False for a teacher with given weights, which is only evaluated."""
        return True


def _identity(value: Any) -> Any:
    """Returns a dumped spec without the paths of files whose sha256 is given."""
    if isinstance(value, dict):
        skip = {"weights", "file"} if value.get("sha256") else set()
        return {key: _identity(item) for key, item in value.items() if key not in skip}
    if isinstance(value, list):
        return [_identity(item) for item in value]
    return value
