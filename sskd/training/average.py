"""An exponential moving average of a network's weights, which is measured beside the network."""

import copy

import torch
from torch import nn

from sskd.networks import Network


class Average(nn.Module):
    """The average a of the weights and buffers w of a network that is trained: a <- decay a + (1 - decay) w after every
    step, from the network's first weights on. Counters are copied. ``network`` is a network with the averages."""

    def __init__(self, trained: Network, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained).requires_grad_(False).eval()
        self._trained = (trained,)  # in a tuple, so that it is no submodule
        self._decay = decay

    @torch.no_grad()
    def update(self) -> None:
        """Takes a step's weights in. Touches device tensors alone: a CUDA graph can hold it."""
        both = (self.network, *self._trained)
        pairs = list(zip(*([*network.parameters(), *network.buffers()] for network in both), strict=True))
        averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averages, weights, 1 - self._decay)
        for own, new in pairs:
            if not own.is_floating_point():
                own.copy_(new)
