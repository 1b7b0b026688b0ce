"""Fingerprint of a network: hash of its graph and of the shapes of its parameters, not of their values."""

import hashlib
import json
from functools import lru_cache
from typing import Any

import torch
from torch import fx, nn

from sskd.config.networks import NetworkSettings
from sskd.networks.base import Features, Network
from sskd.networks.build import PLAIN, build_network
from sskd.networks.folded import trace


@lru_cache(maxsize=64)
def network_sha256(name: str, classes: int, settings: NetworkSettings = PLAIN) -> str | None:
    """Returns the sha256 of the network's torch.fx graph in eval mode (operations, arguments, layer settings) and of
    the names, shapes and dtypes of its parameters and buffers. If the network cannot be traced, the list of its modules
    replaces the graph. Returns None if it cannot be built on the meta device."""
    try:
        with torch.device("meta"):
            network = build_network(name, classes, settings).eval()
    except Exception:  # a user's constructor may read values of tensors
        return None
    state = {key: [list(value.shape), str(value.dtype)] for key, value in network.state_dict().items()}
    text = json.dumps({"graph": _graph(network), "state": state}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _graph(network: Network) -> list[Any]:
    try:
        traced = trace(network)
    except Exception:  # torch.fx raises many types
        return [[name, _layer(module)] for name, module in network.named_modules()]
    nodes = list(traced.graph.nodes)
    number = {node: index for index, node in enumerate(nodes)}  # names of fx differ between versions

    def plain(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return f"node {number[value]}"
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return repr(value)

    steps = []
    for node in nodes:
        if node.op == "call_module":
            target = _layer(traced.get_submodule(str(node.target)))
        elif node.op == "placeholder" or callable(node.target):
            target = getattr(node.target, "__name__", "")
        else:
            target = str(node.target)
        args = node.args
        if node.target is Features:  # in the order that recorded fingerprints have
            logits, maps, pooled, preactivations, pre_pool = args
            args = (logits, (*maps, pooled), (*preactivations, pooled), pre_pool)
        steps.append([node.op, target, plain(args), plain(node.kwargs)])
    return steps


def _layer(module: nn.Module) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"
