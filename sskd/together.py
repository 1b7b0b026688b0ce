"""Several students of one teacher trained in one process, in turns of a step: each batch's teacher pass is made once.

For comparing methods on one machine: what a run computes does not change, only how often the teacher is asked.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sskd.config import Execution, RunSpec
from sskd.machine import device_of
from sskd.methods import METHODS
from sskd.sharing import Shared
from sskd.training import Report, training


def sharing_key(spec: RunSpec) -> object:
    """Equal for runs that may be trained together: students that see the same images at the same time, of the same
    teacher. Unique for all others."""
    recipe = spec.recipe
    if spec.role != "student" or spec.teacher is None or recipe.processes > 1:
        return spec.id
    drawn = (recipe.batch_size, recipe.crop_padding, recipe.flip, recipe.precision)
    teacher = spec.teacher.model_dump_json()
    return (spec.dataset, spec.split, spec.seed, teacher, METHODS[spec.method.name].needs_head, drawn)  # type: ignore[union-attr]


def train_together(
    specs: Sequence[RunSpec],
    runs: Path,
    execution: Execution,
    reports: Sequence[Callable[[Report], None]],
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any] | Exception]:
    """``sskd.training.train`` for runs of one ``sharing_key``, a step of each in turn. One's failure ends it alone.

    Returns each run's result, or what ended it: Interrupted (all of them, saved, when ``should_stop`` answers True), a
    UserError, or any other exception.
    """
    shared, device = Shared(spec.method.name for spec in specs if spec.method), device_of(execution)
    steps = {
        number: training(spec, runs, execution, report, say, should_stop, shared)
        for number, (spec, report) in enumerate(zip(specs, reports, strict=True))
    }
    ended: dict[int, dict[str, Any] | Exception] = {}
    random: dict[int, list[Tensor]] = {}
    while steps:
        for number, run in list(steps.items()):
            _set_random_state(random.get(number, []))
            try:
                next(run)
            except StopIteration as end:
                ended[number] = end.value
            except Exception as error:
                ended[number] = error
            random[number] = _random_state(device)
            if number in ended:
                del steps[number]
    return [ended[number] for number in range(len(specs))]


def _random_state(device: torch.device) -> list[Tensor]:
    """torch's global random state, which each run has for itself."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_state(states: list[Tensor]) -> None:
    for state, put in zip(states, (torch.set_rng_state, torch.cuda.set_rng_state), strict=False):
        put(state)
