"""A traced network in inference on the CPU: what follows a convolution point by point is done by the convolution.

oneDNN can add another map to a convolution's result, and take the ReLU, while the result is still in the core's
registers. torch's compiler uses that; here it is done without compiling anything, through the same operators.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from sskd.networks.norm import Scaled, normed, relu_

ADDITIONS = (operator.add, torch.add)
RELUS = (F.relu, torch.relu)


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has the operators, and the device can run them in this precision."""
    operators: Any = torch.ops.mkldnn
    if (
        device.type != "cpu"
        or not torch.backends.mkldnn.is_available()
        or not hasattr(operators, "_convolution_pointwise")
    ):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


class FusedConvolution(nn.Module):
    """conv(x), plus ``other`` if there is one, through a ReLU if ``relu``; channels_last. ``in_place``: the sum is
    made in other's memory by the convolution, else after it."""

    def __init__(self, conv: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.relu, self.in_place = conv.weight, conv.bias, relu, False
        self._how = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        operators: Any = torch.ops.mkldnn
        conv = (x, self.weight, self.bias, *self._how)
        if other is None:
            return operators._convolution_pointwise(*conv, "relu" if self.relu else "none", [], "")
        if self.in_place:
            then: Any = "relu" if self.relu else None
            return operators._convolution_pointwise_.binary(other, *conv, "add", 1.0, then, [], "")
        total = operators._convolution_pointwise(*conv, "none", [], "").add_(other)
        return relu_(total) if self.relu else total


# in inference their results share no memory with what they get
COPYING = (nn.Conv2d, nn.BatchNorm2d, FusedConvolution, Scaled)


def fuse_pointwise(traced: fx.GraphModule, images: Tensor) -> None:
    """Replaces, in the graph, convolutions and what follows them by FusedConvolution, and lets a sum overwrite its
    other operand where that is not used again. What is traced must be in eval mode and run without gradient, on
    images in channels_last; ``images``: any, for the shapes of what is added."""
    with torch.no_grad():
        ShapeProp(traced).propagate(images)
    for node in list(traced.graph.nodes):
        relu = _is_relu(traced, node)
        source = node.args[0] if relu else node
        if relu and len(source.users) > 1:
            continue  # the value before the ReLU is asked for too
        if not relu and len(node.users) == 1 and _is_relu(traced, next(iter(node.users))):
            continue  # the ReLU's turn comes
        if relu and _is_conv(traced, source):
            _replace(traced, node, source, True, source.args)
        elif _is_call(source, ADDITIONS) and not source.kwargs:
            first, second = source.args
            conv, other = (second, first) if _is_conv(traced, second) else (first, second)
            alike = first is not second and _shape(first) == _shape(second)
            if alike and _is_conv(traced, conv) and len(conv.users) == 1:
                _replace(traced, node, conv, relu, (conv.args[0], other))
        elif relu and isinstance(_module(traced, source), nn.BatchNorm2d):
            _put(traced, node, Scaled(_module(traced, source)), source.args)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    _overwrite_what_is_not_used_again(traced)
    traced.recompile()


def _replace(traced: fx.GraphModule, node: fx.Node, conv: fx.Node, relu: bool, args: tuple[fx.Node, ...]) -> None:
    """``node``'s value from a FusedConvolution in its place."""
    _put(traced, node, FusedConvolution(_module(traced, conv), relu), args)


def _put(traced: fx.GraphModule, node: fx.Node, module: nn.Module, args: tuple[Any, ...]) -> None:
    """``node``'s value from ``module`` in its place."""
    name = f"fused_{sum(child_name.startswith('fused_') for child_name, _ in traced.named_children())}"
    traced.add_submodule(name, module)
    with traced.graph.inserting_before(node):
        node.replace_all_uses_with(traced.graph.call_module(name, args), propagate_meta=True)


class FusedNorm(nn.Module):
    """relu(norm(x) + other), or without the ReLU; see sskd.networks.norm."""

    def __init__(self, norm: nn.BatchNorm2d, relu: bool) -> None:
        super().__init__()
        self.norm, self.relu = norm, relu

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        return normed(self.norm, x, other, self.relu)


def fuse_norms(traced: fx.GraphModule) -> None:
    """Replaces, in the graph of a network in training, batch norms and what follows them by FusedNorm."""
    for node in list(traced.graph.nodes):
        norm, end, args = _module(traced, node), node, node.args
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        following = _only_user(node)
        if _is_call(following, ADDITIONS) and not following.kwargs:
            others = [operand for operand in following.args if operand is not node]
            if len(others) == 1 and isinstance(others[0], fx.Node):  # not the norm's result twice, not a number
                end, args = following, (*args, *others)
        relu = _is_relu(traced, _only_user(end))
        _put(traced, _only_user(end) if relu else end, FusedNorm(norm, relu), args)
    traced.graph.eliminate_dead_code()
    traced.recompile()


def _only_user(node: fx.Node) -> Any:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _overwrite_what_is_not_used_again(traced: fx.GraphModule) -> None:
    for node in traced.graph.nodes:
        module = _module(traced, node)
        if isinstance(module, FusedConvolution) and len(node.args) == 2:
            x, other = node.args
            copied = all(isinstance(_module(traced, user), COPYING) for user in other.users)
            module.in_place = copied and max(other.users) is node and other is not x and _is_fresh(traced, other)


def _is_fresh(traced: fx.GraphModule, node: Any) -> bool:
    """Whether the value lies in memory of its own, which no other node's value shares."""
    module = _module(traced, node)
    if isinstance(module, FusedConvolution):
        return not module.in_place or _is_fresh(traced, node.args[1])
    return isinstance(module, nn.Conv2d | nn.BatchNorm2d | Scaled) or _is_call(node, ADDITIONS)


def _module(traced: fx.GraphModule, node: Any) -> Any:
    return traced.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def _is_conv(traced: fx.GraphModule, node: Any) -> bool:
    module = _module(traced, node)
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _shape(node: Any) -> Any:
    return tuple(node.meta["tensor_meta"].shape) if isinstance(node, fx.Node) else None


def _is_relu(traced: fx.GraphModule, node: Any) -> bool:
    return _is_call(node, RELUS) or isinstance(_module(traced, node), nn.ReLU)


def _is_call(node: Any, functions: tuple[Any, ...]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in functions
