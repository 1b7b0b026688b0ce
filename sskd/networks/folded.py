"""Fast frozen copy of a network: batch norms folded into convolutions, weights in the run's precision, convolutions
fused with their ReLU, unused features not computed."""

import copy
import operator
from typing import Any

import torch
import torch.fx.experimental.optimization as fx_optimization
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sskd.networks.base import Features, Network


class FeatureModule(nn.Module):
    """Wraps a network as a module whose forward pass returns all features, for torch.fx and functional_call."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        return self.network.features(images)


class FrozenNetwork(nn.Module):
    """Computes ``network.features`` in eval mode, from a copy of the network.

    dtype: of weights and arithmetic; float32 agrees with the network up to rounding. preactivations: if False, they are
    not computed and the tuple is empty.
    """

    def __init__(self, network: Network, dtype: torch.dtype, preactivations: bool = True) -> None:
        super().__init__()
        self.dtype = dtype
        traced = trace(copy.deepcopy(network).eval())
        if not preactivations:
            _drop_preactivations(traced)
        graph: Any = fx_optimization.fuse(traced)
        _fuse_activations(graph)
        self.graph = graph.requires_grad_(False)
        for module in self.graph.modules():
            if not isinstance(module, nn.BatchNorm2d):  # batch norms that were not folded keep float32 statistics
                module._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, recurse=False)

    def features(self, images: Tensor) -> Features:
        """Returns features in ``dtype`` of images (B, 3, H, W) float32."""
        return self.graph(images.to(self.dtype))


def trace(network: Network) -> fx.GraphModule:
    """Returns ``network.features`` as a torch.fx graph."""
    return fx.symbolic_trace(FeatureModule(network))


def _drop_preactivations(traced: fx.GraphModule) -> None:
    """Removes the pre-activations from the graph, with all nodes that only they use."""
    (features,) = (node for node in traced.graph.nodes if node.target is Features)
    logits, maps, pooled, _, pre_pool = features.args
    features.args = (logits, maps, pooled, (), pre_pool)
    traced.graph.eliminate_dead_code()
    traced.recompile()


# --- convolution, addition and ReLU in one call of cuDNN -------------------------------------------------------------


class ConvAddReLU2d(nn.Module):
    """relu(convolution(x) + z), with an optional z. On CUDA this is one cuDNN call instead of four kernels
    (convolution, bias, addition, ReLU), if cuDNN supports the dtype and shape; the first call tries it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.fused = isinstance(convolution.padding, tuple) and convolution.padding_mode == "zeros"

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        if x.is_cuda and self.fused and self._fits(x, z):
            try:
                return self._in_one_call(x, z)
            except RuntimeError as error:  # includes NotImplementedError: cuDNN has no such kernel
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self.fused = False
        total = self.convolution(x)
        if z is not None:  # in place if no broadcasting is needed, to save a tensor
            same = torch.is_tensor(z) and (z.dtype, z.shape) == (total.dtype, total.shape)
            total = total.add_(z) if same else total + z
        return F.relu(total, inplace=True)

    def _fits(self, x: Tensor, z: Tensor | None) -> bool:
        """Returns True if z has the result's dtype and shape; cuDNN does not broadcast."""
        if z is None:
            return True
        if not torch.is_tensor(z):  # a user's network may add a number
            return False
        layer: Any = self.convolution
        sides = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, dilation, kernel, stride in zip(
                x.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
            )
        )
        return z.dtype == x.dtype and z.shape == (len(x), layer.out_channels, *sides)

    def _in_one_call(self, x: Tensor, z: Tensor | None) -> Tensor:
        layer = self.convolution
        rest: Any = (layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        if z is None:
            return torch.cudnn_convolution_relu(x, layer.weight, *rest)
        return torch.cudnn_convolution_add_relu(x, layer.weight, z, 1.0, *rest)


def _fuse_activations(traced: fx.GraphModule) -> None:
    """Replaces each relu(convolution) and relu(convolution + tensor) by a ConvAddReLU2d, if no other node uses the
    intermediate values."""
    modules: dict[Any, nn.Module] = dict(traced.named_modules())
    fused: set[fx.Node] = set()

    def is_convolution(node: Any) -> bool:
        return isinstance(node, fx.Node) and node.op == "call_module" and type(modules[node.target]) is nn.Conv2d

    for relu in list(traced.graph.nodes):
        is_module = relu.op == "call_module" and isinstance(modules[relu.target], nn.ReLU)
        if not is_module and not (relu.op == "call_function" and relu.target in (F.relu, torch.relu)):
            continue
        # 1. the pattern: convolution, optional addition, ReLU
        total = relu.args[0]
        convolution: Any = total
        others: tuple[Any, ...] = ()
        if total.target in (operator.add, torch.add) and len(total.args) == 2 and not total.kwargs:
            first, second = total.args
            convolution, others = (first, (second,)) if is_convolution(first) else (second, (first,))
        if not is_convolution(convolution) or not all(isinstance(other, fx.Node) for other in others):
            continue
        if convolution in others or any(len(node.users) > 1 for node in (total, convolution)):
            continue
        # 2. the fused node runs at the ReLU's position: no node in between may change its inputs in place
        node, pure = convolution.next, True
        while node is not relu:
            pure &= node is total or node in fused or is_convolution(node)
            node = node.next
        if not pure:
            continue
        # 3. the fused node
        name = f"fused_{convolution.name}"
        modules[name] = ConvAddReLU2d(modules[convolution.target])  # type: ignore[arg-type]
        traced.add_module(name, modules[name])
        with traced.graph.inserting_before(relu):
            one = traced.graph.call_module(name, (convolution.args[0], *others))
        relu.replace_all_uses_with(one)
        fused.add(one)
        for node in dict.fromkeys((relu, total, convolution)):
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
