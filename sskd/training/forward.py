"""Forward passes in the run's precision, in the fast forms that its execution's settings allow."""

from collections.abc import Callable

import torch
from torch import Tensor

from sskd.device import DTYPES, autocast
from sskd.networks import Features, Network
from sskd.networks.folded import FrozenNetwork
from sskd.training.setup import Setup


class TeacherForward:
    """The teacher's forward pass: inference mode, the run's precision, and float32 copies of what is asked for.

    Copies, because tensors made in inference mode may not be kept for a backward pass. Only what ``needs`` names is
    copied beside logits and the pooled vector.
    """

    def __init__(self, teacher: Network, setup: Setup, needs: frozenset[str]) -> None:
        self._teacher: Network | FrozenNetwork = teacher
        self._context = autocast(setup.device, setup.precision)
        self._needs = needs
        if setup.execution.fold_teacher and teacher.foldable:
            dtype = DTYPES.get(setup.precision, torch.float32)
            self._teacher = setup.place(FrozenNetwork(teacher, dtype, "preactivations" in needs))
            self._context = autocast(setup.device, "fp32")  # the weights have the precision already

    def __call__(self, images: Tensor) -> Features:
        with torch.inference_mode(), self._context:
            features = self._teacher.features(images)
        return in_float32(features, self._needs, copy=True)


def training_pass(network: Network, setup: Setup) -> Callable[[Tensor], Features]:
    """The forward pass of a network that learns, compiled where the execution's settings say so."""
    mode = setup.execution.compile
    return network.features if mode == "off" else torch.compile(network.features, mode=mode, dynamic=False)


def in_float32(features: Features, needs: frozenset[str], copy: bool = False) -> Features:
    """Logits and pooled vector always; maps and pre-activations only if the method needs them."""

    def cast(tensors: tuple[Tensor, ...], wanted: bool) -> tuple[Tensor, ...]:
        return tuple(t.to(torch.float32, copy=copy) if wanted else t for t in tensors)

    logits, vector = cast((features.logits, features.vector), True)
    return Features(
        logits,
        (*cast(features.maps, "taps" in needs), vector),
        cast(features.preactivations, "preactivations" in needs),
        None if features.final is None else cast((features.final,), "final" in needs)[0],
    )
