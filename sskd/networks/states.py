"""Which of a file's tensors are a network's: under whatever keys and prefixes they stand, and raw or averaged."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sskd.errors import UserError
from sskd.networks.base import Network

RENAMED = {
    "classifier.0.weight": "classifier.weight",
    "classifier.0.bias": "classifier.bias",
}  # CRD's MobileNetV2
# what DataParallel, torch.compile, FSDP and checkpointing put into the names of the modules that they wrap
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
UNCOUNTED = ("num_batches_tracked", "total_ops", "total_params")  # not of old torch; added by thop
USUAL = re.compile(r"(state_dict\.)?(model\.)?(module\.)?(backbone\.)?")  # where the published checkpoints have theirs
AVERAGED = {"avg", "average", "averaged", "shadow", "polyak"}


class State(NamedTuple):
    """Tensors by a network's own names, and the prefix that leads to them in the file, with its last dot."""

    prefix: str
    tensors: dict[str, Tensor]

    @property
    def place(self) -> str:
        """As a message names it."""
        return f"those under '{self.prefix[:-1]}'" if self.prefix else "those at its top level"

    @property
    def averaged(self) -> bool:
        """Whether the keys that lead to it say that these are a moving average's weights: model_ema, swa_model."""
        words = re.split(r"[^a-z]+", self.prefix.lower())
        ends = ("ema", "swa")
        return any(word in AVERAGED or word.startswith(ends) or word.endswith(ends) for word in words)


def find_states(tensors: dict[str, Tensor], network: Network) -> list[State]:
    """All places in a file where tensors of exactly the network's names stand, whatever their shapes, in the file's
    order."""
    wanted = network.state_dict()
    needed = {key for key in wanted if not key.endswith(UNCOUNTED)}
    found: list[State] = []
    for prefix, keys in _by_prefix(tensors).items():
        if sum(not key.endswith(UNCOUNTED) for key in keys) != len(needed):
            continue
        for own in _readings(prefix, keys, network):
            state = {name: tensors[key] for name, key in own.items() if name in wanted or not name.endswith(UNCOUNTED)}
            if needed <= state.keys() <= wanted.keys() and not any(_identical(state, other.tensors) for other in found):
                found.append(State(prefix, state))
                break
    return found


def nearest_state(tensors: dict[str, Tensor], network: Network) -> State:
    """Where most of the network's names stand, for a message on what is missing there."""
    wanted = network.state_dict().keys()
    states = [
        State(prefix, {name: tensors[key] for name, key in own.items()})
        for prefix, keys in _by_prefix(tensors).items()
        for own in _readings(prefix, keys, network)
    ]
    return max(states, key=lambda state: len(wanted & state.tensors.keys()))


def choose(states: Sequence[State], which: str | None, path: str, name: str) -> tuple[State, str]:
    """Of states that fit the network ``name``, the one that is meant, and what is to be said of the choice: "" where
    there is none. which: "raw", "averaged", or the key under which it stands; None: the only one, or the one where
    published checkpoints have theirs, or the only raw one. UserError where that is none, or not one."""
    asked = [state for state in states if _is_meant(state, which)]
    if not asked:
        listed = _listed(states)
        raise UserError(f"{path} has no weights '{which}' of {name}: it has {listed}")
    different = _different(asked)
    usual = [state for state in different if USUAL.fullmatch(state.prefix)]
    raw = [state for state in different if not state.averaged]
    if len(different) > 1 and not usual and len(raw) != 1:
        raise UserError(
            f"{path} holds several weights of {name} that differ, {_listed(different)}: say which, by 'which': "
            "raw, averaged, or the name under which they stand"
        )
    chosen = different[0] if len(different) == 1 else (usual or raw)[0]
    others = [state for state in _different([chosen, *states]) if state is not chosen]
    if not others:
        return chosen, ""
    kind = "averaged" if chosen.averaged else "raw"
    return chosen, (
        f"{path} holds several weights of {name} that differ: {chosen.place} ({kind}) were taken, and "
        f"{_listed(others)} were not; 'which' chooses (raw, averaged, or a name)"
    )


def _by_prefix(tensors: dict[str, Tensor]) -> dict[str, list[str]]:
    """The names under each prefix that ends at a dot, and under none."""
    found: dict[str, list[str]] = {}
    for key in tensors:
        parts = key.split(".")
        for depth in range(len(parts)):
            found.setdefault("".join(f"{part}." for part in parts[:depth]), []).append(key)
    return found


def _readings(prefix: str, keys: list[str], network: Network) -> list[dict[str, str]]:
    """The file's names by the network's, as they are, by CRD's names, and without wrappers of inner modules."""
    plain = {key[len(prefix) :]: key for key in keys}
    renamed = {RENAMED.get(name, name): key for name, key in plain.items()}
    bare = {".".join(part for part in name.split(".") if part not in WRAPPERS): key for name, key in renamed.items()}
    return [{network.own_name(name): key for name, key in names.items()} for names in (plain, renamed, bare)]


def _is_meant(state: State, which: str | None) -> bool:
    if which in ("raw", "averaged"):
        return state.averaged == (which == "averaged")
    return which is None or f".{which}." in f".{state.prefix}"


def _identical(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(first[key] is second[key] for key in first)


def _different(states: Sequence[State]) -> list[State]:
    """Without those whose numbers an earlier one has too. Shapes are the network's, so values may be looked at."""
    kept: list[State] = []
    for state in states:
        if not any(_equal(state.tensors, other.tensors) for other in kept):
            kept.append(state)
    return kept


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    try:
        return all(torch.equal(first[key], second[key]) for key in first.keys() & second.keys())
    except (RuntimeError, NotImplementedError):  # sparse ones, or those without values
        return False


def _listed(states: Sequence[State]) -> str:
    return " and ".join(f"{state.place}{' (averaged)' if state.averaged else ''}" for state in states)
