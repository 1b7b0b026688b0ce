"""An epoch's mean losses."""

from typing import Any

import torch
from torch import Tensor

from sskd.methods import LossTerms


class Meter:
    """Means over an epoch, weighted by images.

    The sums stay on the device, and adding to them is one stack and one addition in place: a step that is captured as
    a graph adds to the same memory whenever it is replayed. How many images there were is counted on the host.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.images = 0
        # (n,) float64 for each set of names that steps have had: nearly always one
        self._sums: dict[tuple[str, ...], Tensor] = {}

    def add(self, total: Tensor, terms: LossTerms, images: int) -> None:
        """Adds a step: the weighted total and all terms (0-d, on the device), each a mean over ``images`` images. Does
        not wait for the device."""
        values = {"loss": total, **{f"loss_{name}": loss for name, loss in terms.losses.items()}, **terms.logged}
        names = tuple(values)
        if names not in self._sums:
            self._sums[names] = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        self._sums[names].add_(torch.stack([value.detach() for value in values.values()]), alpha=images)

    def count(self, images: int) -> None:
        """Notes that a step of so many images was added."""
        self.images += images

    def reset(self) -> None:
        """Begins anew, in the same memory."""
        self.images = 0
        for sums in self._sums.values():
            sums.zero_()

    def means(self) -> dict[str, float]:
        """Returns the means over the images so far by name: "loss" (the total), "loss_<term>", and what methods log.
        Waits for the device."""
        return {name: value.item() / self.images for name, value in self._by_name().items()}

    def state_dict(self) -> dict[str, Any]:
        """Images and sums so far, for a checkpoint inside an epoch."""
        return {"images": self.images, "sums": self._by_name()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave."""
        self.images, sums = state["images"], state["sums"]
        self._sums = {tuple(sums): torch.stack(list(sums.values())).to(self.device)} if sums else {}

    def _by_name(self) -> dict[str, Tensor]:
        """The sums on the CPU, in one copy for each set of names."""
        found: dict[str, Tensor] = {}
        for names, sums in self._sums.items():
            for name, value in zip(names, sums.cpu(), strict=True):
                found[name] = found[name] + value if name in found else value
        return found
