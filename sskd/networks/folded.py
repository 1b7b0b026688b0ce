"""A frozen network, made fast: batch norms folded into convolutions, weights in the run's precision, and nothing
computed that nobody asked for."""

import copy
from typing import Any

import torch
import torch.fx.experimental.optimization as fx_optimization
from torch import Tensor, fx, nn

from sskd.networks.base import Features, Network


class _Whole(nn.Module):
    """A network whose forward pass gives everything, for torch.fx to trace."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        return self.network.features(images)


class FrozenNetwork(nn.Module):
    """Computes what ``network.features`` does in eval mode; pre-activations only if asked for (else an empty tuple).

    ``dtype``: of weights and arithmetic; float32 agrees with the network to rounding. Built from a copy: the network
    itself stays as it is, and later changes of it are not seen.
    """

    def __init__(self, network: Network, dtype: torch.dtype, preactivations: bool = True) -> None:
        super().__init__()
        self.dtype = dtype
        graph: Any = fx_optimization.fuse(_traced(copy.deepcopy(network).eval(), preactivations))
        self.graph = graph.requires_grad_(False)
        for module in self.graph.modules():
            if not isinstance(module, nn.BatchNorm2d):  # those that could not be folded: their statistics stay float32
                _cast(module, dtype)

    def features(self, images: Tensor) -> Features:
        """images: (B, 3, H, W), float32; features come in ``dtype``."""
        return self.graph(images.to(self.dtype))


def trace(network: Network) -> fx.GraphModule:
    """``network.features`` as a graph."""
    return fx.symbolic_trace(_Whole(network))


def _traced(network: Network, preactivations: bool) -> fx.GraphModule:
    traced = trace(network)
    if not preactivations:
        _drop_preactivations(traced)
    return traced


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """The module's own parameters, not its children's."""
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(dtype)
    for name, buffer in module.named_buffers(recurse=False):
        module.register_buffer(name, buffer.to(dtype) if buffer.is_floating_point() else buffer)


def _drop_preactivations(traced: fx.GraphModule) -> None:
    """Makes the graph return none, and removes what was computed for them alone."""
    (features,) = (node for node in traced.graph.nodes if node.target is Features)
    logits, taps, _, *final = features.args
    features.args = (logits, taps, (), *final)
    traced.graph.eliminate_dead_code()
    traced.recompile()
