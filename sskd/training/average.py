"""An exponential moving average (EMA) of a network's weights, which is evaluated in addition to the network."""

import copy

import torch
from torch import nn

from sskd.networks import Network


class Average(nn.Module):
    """The moving average a of the weights and buffers w of a trained network: a <- decay a + (1 - decay) w after
    every step, starting from the initial weights. Integer buffers are copied. ``network`` is a copy of the network
    with the averaged weights."""

    def __init__(self, trained: Network, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained).requires_grad_(False).eval()
        self._trained = (trained,)  # in a tuple, so that it is not a submodule
        self._decay = decay

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average after a step. Only uses device tensors, so that a CUDA graph can capture it."""
        both = (self.network, *self._trained)
        pairs = list(zip(*([*network.parameters(), *network.buffers()] for network in both), strict=True))
        averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averages, weights, 1 - self._decay)
        for own, new in pairs:
            if not own.is_floating_point():
                own.copy_(new)
