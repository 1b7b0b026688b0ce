"""Base class of a module with frozen companions."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class WithFrozen(nn.Module):
    """A module whose frozen companions are moved, copied and pickled with it.

    They are not submodules: they are not in its parameters or state, and stay in eval mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: tuple[Any, ...] = ()  # modules or None; in a tuple, so that they are not submodules
        self._made: Any = None  # cache that depends on the modules; reset when they are moved or copied

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields the trainable parameters."""
        return (pair for pair in super().named_parameters(*args, **kwargs) if pair[1].requires_grad)

    def _apply(self, fn: Any, recurse: bool = True) -> "WithFrozen":
        super()._apply(fn, recurse)
        with torch.no_grad():
            for module in self._frozen:
                if module is not None:
                    module._apply(fn)
        self._made = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}
