"""Mean losses of an epoch."""

from typing import Any

import torch
from torch import Tensor

from sskd.methods import LossTerms


class Meter:
    """Means over an epoch, weighted by the number of images.

    The sums stay on the device and are updated in place, so that a CUDA graph adds to the same memory at every replay.
    Images are counted on the host.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.images = 0
        # by the names of a step's terms: (n,) float64; nearly always one set of names
        self._sums: dict[tuple[str, ...], Tensor] = {}

    def add(self, total: Tensor, terms: LossTerms, images: int) -> None:
        """Adds the total loss and all terms of a step (0-d, on the device), each a mean over ``images`` images. Does
        not synchronise with the device."""
        values = {"loss": total, **{f"loss_{name}": loss for name, loss in terms.losses.items()}, **terms.logged}
        names = tuple(values)
        if names not in self._sums:
            self._sums[names] = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        self._sums[names].add_(torch.stack([value.detach() for value in values.values()]), alpha=images)

    def count(self, images: int) -> None:
        """Counts ``images`` images."""
        self.images += images

    def reset(self) -> None:
        """Resets all sums to zero, in place."""
        self.images = 0
        for sums in self._sums.values():
            sums.zero_()

    def means(self) -> dict[str, float]:
        """Returns the means so far by name: "loss" (the total), "loss_<term>", and values that methods log.
        Synchronises with the device."""
        return {name: value.item() / self.images for name, value in self._by_name().items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts and sums so far, for a checkpoint inside an epoch."""
        return {"images": self.images, "sums": self._by_name()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the counts and sums of ``state_dict``."""
        self.images, sums = state["images"], state["sums"]
        self._sums = {tuple(sums): torch.stack(list(sums.values())).to(self.device)} if sums else {}

    def _by_name(self) -> dict[str, Tensor]:
        """Returns the sums on the CPU by name."""
        found: dict[str, Tensor] = {}
        for names, sums in self._sums.items():
            for name, value in zip(names, sums.cpu(), strict=True):
                found[name] = found[name] + value if name in found else value
        return found
