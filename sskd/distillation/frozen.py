"""A module beside which others stay frozen."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class BesideFrozen(nn.Module):
    """A module whose frozen companions go with it to devices, into copies and into torch.save.

    They are otherwise no part of it: neither its parameters, nor its state, nor put into train mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: tuple[Any, ...] = ()  # modules or None; in a tuple, so that they are no submodules
        self._made: Any = None  # of the modules as they are; made anew when they are moved or copied

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """As of any module, without what is frozen."""
        return (pair for pair in super().named_parameters(*args, **kwargs) if pair[1].requires_grad)

    def _apply(self, fn: Any, recurse: bool = True) -> "BesideFrozen":
        super()._apply(fn, recurse)
        with torch.no_grad():
            for module in self._frozen:
                if module is not None:
                    module._apply(fn)
        self._made = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}
