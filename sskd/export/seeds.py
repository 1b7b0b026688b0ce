"""The accuracy of one training over its seeds: the runs beside a run that differ from it in nothing but seeds."""

import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sskd.errors import UserError
from sskd.runs.files import read_json
from sskd.runs.spec import RunSpec, StudentSpec, TeacherSpec, Trained, read_spec


class OverSeeds(NamedTuple):
    """Top-1 in percent over ``seeds`` runs; lower and upper: the 95 % t interval of the mean, None for one seed."""

    seeds: int
    mean: float
    lower: float | None
    upper: float | None


def over_seeds(values: Iterable[float]) -> OverSeeds:
    """Mean and 95 % t interval."""
    numbers = list(values)
    count, mean = len(numbers), statistics.mean(numbers)  # exact, so that the order of the runs does not matter
    if count < 2:
        return OverSeeds(count, mean, None, None)
    from scipy import stats  # here: it takes a second to import

    half = float(stats.t.ppf(0.975, count - 1)) * statistics.stdev(numbers) / math.sqrt(count)
    return OverSeeds(count, mean, mean - half, mean + half)


def results_by_seed(spec: RunSpec, runs: Path, own: Path) -> dict[int, dict[str, float]]:
    """Top-1 of the "best" and "last" epoch by seed: of the run in the folder ``own``, and of every finished run in
    ``runs`` that is the same but for its seeds (its teacher's and head's among them). Damaged ones are passed over."""
    found = {spec.seed: _top1(own)}
    prefix, wanted = spec.id.rpartition("-s")[0], _without_seeds(spec).id
    for folder in sorted(runs.glob(f"{_escaped(prefix)}-s*")):
        if folder == own or not (folder / "result.json").is_file():
            continue
        try:
            other = read_spec(folder / "spec.yaml")
            # a renamed folder is another version of a run that counts already
            if other.id == folder.name and other.seed not in found and _without_seeds(other).id == wanted:
                found[other.seed] = _top1(folder)
        except (UserError, KeyError, TypeError):
            continue
    return dict(sorted(found.items()))


def _top1(folder: Path) -> dict[str, float]:
    result = read_json(folder / "result.json")
    return {which: float(result[which]["test_top1"]) for which in ("best", "last")}


def _without_seeds(spec: RunSpec) -> RunSpec:
    """The spec with every run's seed 0; the seed of the images' choice stays, as it is another training's."""
    changes: dict[str, object] = {"seed": 0}
    if not isinstance(spec, TeacherSpec) and isinstance(spec.teacher, Trained):
        changes["teacher"] = spec.teacher.model_copy(update={"run": _without_seeds(spec.teacher.run)})
    if isinstance(spec, StudentSpec) and spec.head is not None:
        changes["head"] = _without_seeds(spec.head)
    return spec.model_copy(update=changes)


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
