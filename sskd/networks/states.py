"""Finds a network's state dicts among the tensors of a file, under any prefix, and chooses one (raw or averaged)."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sskd.errors import UserError
from sskd.networks.base import Network

RENAMED = {
    "classifier.0.weight": "classifier.weight",
    "classifier.0.bias": "classifier.bias",
}  # CRD's MobileNetV2
# name parts that DataParallel, torch.compile, FSDP and activation checkpointing insert
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
UNCOUNTED = ("num_batches_tracked", "total_ops", "total_params")  # missing in old versions of torch; added by thop
USUAL = re.compile(r"(state_dict\.)?(model\.)?(module\.)?(backbone\.)?")  # prefixes of published checkpoints
AVERAGED = {"avg", "average", "averaged", "shadow", "polyak"}


class State(NamedTuple):
    """Tensors under the network's own names. prefix: their prefix in the file, with its final dot."""

    prefix: str
    tensors: dict[str, Tensor]

    @property
    def place(self) -> str:
        """Description for messages."""
        return f"those under '{self.prefix[:-1]}'" if self.prefix else "those at its top level"

    @property
    def averaged(self) -> bool:
        """True if the prefix names averaged weights, for example model_ema or swa_model."""
        words = re.split(r"[^a-z]+", self.prefix.lower())
        ends = ("ema", "swa")
        return any(word in AVERAGED or word.startswith(ends) or word.endswith(ends) for word in words)


def find_states(tensors: dict[str, Tensor], network: Network) -> list[State]:
    """Returns all states of a file, in its order, that have exactly the network's tensor names; shapes may differ."""
    names = network.state_dict().keys()
    needed = {key for key in names if not key.endswith(UNCOUNTED)}
    found: dict[str, State] = {}
    for prefix, given in _candidates(tensors, network):
        state = {name: value for name, value in given.items() if name in names or not name.endswith(UNCOUNTED)}
        if needed <= state.keys() <= names:
            found.setdefault(prefix, State(prefix, state))
    return list(found.values())


def nearest_state(tensors: dict[str, Tensor], network: Network) -> State:
    """Returns the state with the most of the network's names, for an error message about the missing ones."""
    expected = network.state_dict().keys()
    return max(_candidates(tensors, network), key=lambda state: len(expected & state.tensors.keys()))


def choose(states: Sequence[State], which: str | None, path: str, name: str) -> tuple[State, str]:
    """Returns one of the states that fit the network ``name``, and a note on the choice ("" if there was none).

    which: "raw", "averaged", or a part of the prefix. None: the only state, else the one under the prefix of published
    checkpoints, else the only raw one. Raises UserError if none or several match.
    """
    asked = [state for state in states if _is_meant(state, which)]
    if not asked:
        raise UserError(f"{path} has no weights '{which}' of {name}: it has {_listed(_different(states))}")
    different = _different(asked)
    usual = [state for state in different if USUAL.fullmatch(state.prefix)]
    raw = [state for state in different if not state.averaged]
    if len(different) > 1 and not usual and len(raw) != 1:
        raise UserError(
            f"{path} holds several weights of {name} that differ, {_listed(different)}: choose with 'which': raw, "
            "averaged, or the name of their key"
        )
    chosen = different[0] if len(different) == 1 else (usual or raw)[0]
    others = [state for state in _different([chosen, *states]) if state is not chosen]
    if not others:
        return chosen, ""
    kind = "averaged" if chosen.averaged else "raw"
    return chosen, (
        f"{path} holds several weights of {name} that differ: {chosen.place} ({kind}) were taken, and "
        f"{_listed(others)} were not; set 'which' to choose (raw, averaged, or a name)"
    )


def _candidates(tensors: dict[str, Tensor], network: Network) -> Iterator[State]:
    """Yields the tensors under each prefix that ends with a dot, and under the empty prefix, in three readings: with
    their names unchanged, with CRD's names replaced, and also without the names of wrappers."""
    by_prefix: dict[str, list[str]] = {}
    for key in tensors:
        parts = key.split(".")
        for depth in range(len(parts)):
            by_prefix.setdefault("".join(f"{part}." for part in parts[:depth]), []).append(key)
    for prefix, keys in by_prefix.items():
        plain = {key[len(prefix) :]: tensors[key] for key in keys}
        renamed = {RENAMED.get(name, name): value for name, value in plain.items()}
        bare = {".".join(p for p in name.split(".") if p not in WRAPPERS): value for name, value in renamed.items()}
        for named in (plain, renamed, bare):
            yield State(prefix, {network.own_name(name): value for name, value in named.items()})


def _is_meant(state: State, which: str | None) -> bool:
    if which in ("raw", "averaged"):
        return state.averaged == (which == "averaged")
    return which is None or f".{which}." in f".{state.prefix}"


def _different(states: Sequence[State]) -> list[State]:
    """Drops states with the same values as an earlier one."""
    kept: list[State] = []
    for state in states:
        if not any(_equal(state.tensors, other.tensors) for other in kept):
            kept.append(state)
    return kept


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    try:
        shared = first.keys() & second.keys()
        return all(first[key] is second[key] or torch.equal(first[key], second[key]) for key in shared)
    except (RuntimeError, NotImplementedError):  # sparse tensors, or meta tensors
        return False


def _listed(states: Sequence[State]) -> str:
    return " and ".join(f"{state.place}{' (averaged)' if state.averaged else ''}" for state in states)
