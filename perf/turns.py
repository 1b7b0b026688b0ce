"""Actions timed in turns, so that what the machine does beside them meets all alike."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name")


def in_turns(actions: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[float]]:
    """Seconds of every action in every round; two rounds before warm up."""
    seconds: dict[Name, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 2):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if number > 1:
                seconds[name].append(time.perf_counter() - started)
    return seconds
