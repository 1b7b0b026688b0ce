"""Search spaces: the settings of a method that tuning varies, and the points that it tries.

A space is a dictionary from a dimension's name to its range. A dimension is a setting of the method, or one of
``OF_RECIPE``. configs/spaces.yaml has the spaces of the suite's methods; a method of a plugin has its own as the class
attribute ``space``.
"""

import hashlib
import json
from typing import Any

import numpy as np
from pydantic import TypeAdapter, model_validator
from scipy.stats import qmc

from sskd.config.fields import StrictModel
from sskd.config.validation import from_dict
from sskd.config.yaml import read_yaml
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.paths import CONFIGS

SPACES = CONFIGS / "spaces.yaml"
OF_RECIPE = ("learning_rate", "weight_decay")  # dimensions of the recipe; all others are settings of the method
RATE = "learning_rate"  # the dimension that every method has


class Dimension(StrictModel):
    """The range of one setting: either ``log`` or ``choice``."""

    log: list[float] | None = None
    """[low, high]: uniform in the logarithm."""
    choice: list[float | int | bool | str] | None = None
    """Values that are equally likely."""

    @model_validator(mode="after")
    def _is_one_range(self) -> "Dimension":
        if (self.log is None) == (self.choice is None):
            raise ValueError("a dimension is either {log: [LOW, HIGH]} or {choice: [A, B]}")
        if self.log is not None and not (len(self.log) == 2 and 0 < self.log[0] < self.log[1]):
            raise ValueError("log is [LOW, HIGH], with 0 < LOW < HIGH")
        if self.choice is not None and not self.choice:
            raise ValueError("choice names at least one value")
        return self

    def at(self, u: float) -> Any:
        """Returns the value at the position ``u`` of the range, 0 <= u < 1, to four significant digits."""
        if self.choice is not None:
            return self.choice[int(u * len(self.choice))]
        assert self.log is not None
        low, high = np.log(self.log)
        return float(f"{np.exp(low + u * (high - low)):.4g}")


Space = dict[str, Dimension]
_SPACE: TypeAdapter[Space] = TypeAdapter(Space)


def space_of(method: str) -> Space:
    """Returns a method's space, ``learning_rate`` first. Raises UserError if the method has no space, or if a dimension
    is not one of its settings."""
    kind, table = METHODS[method], read_yaml(SPACES)
    own = dict(kind.space) or table["methods"].get(method)
    if not own:
        raise UserError(
            f"the method '{method}' has no search space: give its class one, "
            "space = {'weight': {'log': [0.1, 10]}} (docs/tuning.md)"
        )
    space: Space = from_dict(_SPACE, table["every"] | own, f"the search space of '{method}'")
    for name in space:
        if name not in OF_RECIPE and (name == "ce_weight" or name not in kind.Settings.model_fields):
            why = "cross-entropy's weight stays fixed" if name == "ce_weight" else "the method has no such setting"
            raise UserError(f"the search space of '{method}': {name} cannot be a dimension: {why}")
    return space


def space_hash(space: Space) -> str:
    """Returns the version of a space: the first 12 hexadecimal digits of its sha256."""
    content = {name: dimension.model_dump(exclude_none=True) for name, dimension in space.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def points(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """Returns the first ``count`` points of a scrambled Halton sequence: a larger ``count`` only appends points."""
    if count < 1:
        return []
    unit = qmc.Halton(len(space), scramble=True, seed=seed).random(count)
    return [{name: space[name].at(u) for name, u in zip(space, row, strict=True)} for row in unit.tolist()]
