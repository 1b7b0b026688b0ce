"""What an epoch's losses come to."""

from typing import Any

import torch
from torch import Tensor

from sskd.distributed import mean_over_processes
from sskd.methods import LossTerms


class Meter:
    """Means over an epoch, weighted by images, summed on the device: it is asked once, at the end."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.images: int = state["images"] if state else 0
        self.sums: dict[str, Tensor] = dict(state["sums"]) if state else {}

    def add(self, total: Tensor, terms: LossTerms, images: int) -> None:
        self.images += images
        values = {
            "loss": total,
            **{f"loss_{name}": loss for name, loss in terms.losses.items()},
            **terms.logged,
        }
        for name, value in values.items():
            value = value.detach().double() * images
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value

    def average(self) -> None:
        """Takes the mean of all processes' sums: each may have seen another part of the batches."""
        for name, value in self.sums.items():
            self.sums[name] = mean_over_processes(value)

    def means(self) -> dict[str, float]:
        names, sums = list(self.sums), torch.stack(list(self.sums.values())).tolist()
        return {name: value / self.images for name, value in zip(names, sums, strict=True)}

    def state(self) -> dict[str, Any]:
        return {"images": self.images, "sums": self.sums}
