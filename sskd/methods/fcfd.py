"""FCFD (Liu et al. 2023): the student's maps should give the teacher's results in the teacher's later stages, and the
teacher's maps in the student's."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.losses import kd_divergence
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features, FeatureShapes, Network
from sskd.networks.base import pool

RISING_EPOCHS = 20.0  # of the weight of the term "maps"
SLOPE = 0.1  # of the leaky ReLU after a bridge


class Path(NamedTuple):
    """A path through both networks: one of them up to ``stage`` (from 1), a bridge, the other from the next stage
    on."""

    to_teacher: bool
    stage: int


def candidates(stages: int) -> list[Path]:
    """Returns all paths: they leave either network after any stage but the last."""
    return [Path(to_teacher, stage) for stage in range(1, stages) for to_teacher in (True, False)]


def bridge(source: Sequence[int], target: Sequence[int], active: bool) -> nn.Sequential:
    """Returns a convolution with batch norm from maps of shape ``source`` to ``target``, both (channels, height,
    width).

    The convolution is 3x3, with stride 2 if the target is half as large, or 4x4 transposed if it is twice as large. A
    leaky ReLU follows if the target is ``active`` (taken after a ReLU). Raises UserError for other sizes.
    """
    convolution: nn.Module
    if source[1] == target[1]:
        convolution = nn.Conv2d(source[0], target[0], 3, padding=1, bias=False)
    elif source[1] == 2 * target[1]:
        convolution = nn.Conv2d(source[0], target[0], 3, stride=2, padding=1)
    elif 2 * source[1] == target[1]:
        convolution = nn.ConvTranspose2d(source[0], target[0], 4, stride=2, padding=1)
    else:
        raise UserError(
            f"bridges support maps of equal, half or double size, not {source[1]} x {source[1]} to {target[1]} x "
            f"{target[1]}"
        )
    if isinstance(convolution, nn.Conv2d) and not convolution.weight.is_meta:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(target[0]), *([nn.LeakyReLU(SLOPE)] if active else []))


def stage_shapes(shapes: FeatureShapes) -> list[tuple[int, ...]]:
    """Returns (channels, height, width) of each stage's map, without the stem's; the last is the map before pooling."""
    assert shapes.pre_pool is not None
    return [*shapes.feature_maps[1:-1], shapes.pre_pool]


def classified(network: Network, last: Tensor) -> Tensor:
    """Returns the logits (B, C) of the network's classifier for the last stage's map."""
    return network.classifier_layer(pool(F.relu(last)))


@contextmanager
def frozen_running_statistics(network: nn.Module) -> Iterator[None]:
    """Within this context, batch norms in train mode do not update their running statistics."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class FCFDSettings(MethodSettings):
    """``kd_temperature`` is also the temperature of the paths' predictions."""

    weight: NonNegativeFloat = 5.0
    """The weight of the term of the maps."""
    path_weight: NonNegativeFloat = 1.0
    """The weight of the term of the paths' predictions."""
    paths: PositiveInt = 2
    """Number of paths that are drawn for each step."""


@METHODS.register("fcfd")
class FCFD(Method):
    """Draws the paths on the host from the step's seed, so steps cannot be captured as a CUDA graph."""

    Settings = FCFDSettings
    info = MethodInfo(
        "FCFD",
        "Liu et al., ICLR 2023, Function-Consistent Feature Distillation",
        2023,
        "feature maps, as processed by the later stages of both networks",
        family="feature maps",
        url="https://arxiv.org/abs/2304.11832",
        code="https://github.com/LiuDongyang6/FCFD",
        formula=r"w \sum_l \sum_{x \in X_l} \mathrm{MSE}(x, f^t_l) + w_p \sum_{p} T^2 \left\langle \mathrm{KL}(p^t_T "
        r"\Vert p_T) \right\rangle",
        where="The second sum runs over `paths` paths through both networks, drawn at each step: the student up to "
        "a stage, a trained bridge, the teacher from the next stage on, or the reverse; $p$ is a path's "
        "prediction. $X_l$ holds the student's map through its bridge and the maps of the teacher's stages on "
        "such paths. The last stage adds the squared error of the maps' means after a ReLU. $w$ rises over 20 "
        "epochs, $w_p$ is `path_weight`.",
        differs="The code leaves the teacher in train mode; here it is in eval mode. MobileNetV2's last stage ends "
        "after its ReLU here, before it in the code. Bridges and paths are computed in float32. The authors "
        "use Nesterov's momentum.",
    )
    required_features = frozenset({"feature_maps", "preactivations", "pre_pool", "logits"})
    term_weights = {"maps": "weight", "paths": "path_weight"}
    draws_on_host = True

    def __init__(self, settings: FCFDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        teacher, teacher_shapes = context.teacher_side()
        # in a tuple, so that they are not submodules
        self._networks = (context.student, teacher)
        self.to_teacher, self.to_student = nn.ModuleList(), nn.ModuleList()
        for s, t in zip(stage_shapes(context.student_shapes), stage_shapes(teacher_shapes), strict=True):
            self.to_teacher.append(bridge(s, t, teacher.stages_active))
            self.to_student.append(bridge(t, s, context.student.stages_active))

    @classmethod
    def check(cls, settings: FCFDSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        for shapes in (student, teacher):
            if not shapes.staged:
                raise UserError(
                    f"method 'fcfd' runs single stages of both networks, but {shapes.network} has no run_stage(): "
                    "choose networks of this suite without image_size, or implement run_stage()"
                )
        stages_of_both = stage_shapes(student), stage_shapes(teacher)
        if len(stages_of_both[0]) != len(stages_of_both[1]):
            raise UserError(
                f"method 'fcfd' pairs all stages in order, but {student.network} has {len(stages_of_both[0])} and "
                f"{teacher.network} has {len(stages_of_both[1])}; choose networks with equally many stages"
            )
        for number, pair in enumerate(zip(*stages_of_both, strict=True), start=1):
            try:
                with torch.device("meta"):
                    bridge(*pair, active=False)
            except UserError as error:
                names = f"stage {number} of {student.network} and {teacher.network}"
                raise UserError(f"method 'fcfd', {names}: {error}") from None

    def schedule(self, term: str, epoch: float) -> float:
        return (min(epoch / RISING_EPOCHS, 1.0) if term == "maps" else 1.0) * super().schedule(term, epoch)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        every = candidates(len(self.to_teacher))
        drawn = random.Random(batch.generator.initial_seed()).sample(every, min(self.settings.paths, len(every)))
        of_student, of_teacher = (
            network.stage_maps(features) for network, features in zip(self._networks, (student, teacher), strict=True)
        )
        losses, _ = self.losses(of_student, of_teacher, teacher.logits, drawn)
        return LossTerms(losses)

    def losses(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], logits: Tensor, paths: Sequence[Path]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Returns both terms (0-d) and the logits of each path. student, teacher: maps after each stage (not the stem).
        logits: the teacher's (B, C)."""
        bridged: list[Any] = [lead(maps) for lead, maps in zip(self.to_teacher, student, strict=True)]
        seen = list(enumerate(bridged))  # (stage from 0, map), for all maps that should match the teacher's
        predicted = []
        for to_teacher, stage in paths:
            network = self._networks[to_teacher]
            maps = bridged[stage - 1] if to_teacher else self.to_student[stage - 1](teacher[stage - 1])
            with frozen_running_statistics(network):
                for number in range(stage + 1, len(teacher) + 1):
                    maps = network.run_stage(number, maps)
                    seen += [(number - 1, maps)] if to_teacher else []
            predicted.append(classified(network, maps))
        errors = [F.mse_loss(maps, teacher[stage]) for stage, maps in seen]
        last = len(teacher) - 1
        target = pool(F.relu(teacher[last]))
        errors += [F.mse_loss(pool(F.relu(maps)), target) for stage, maps in seen if stage == last]
        temperature = self.settings.kd_temperature
        divergences = [kd_divergence(path, logits, temperature) for path in predicted]
        # a zero gradient for bridges that no path uses, because every parameter needs a gradient in every step
        idle = 0.0 * torch.stack([weight.sum() for weight in self.to_student.parameters()]).sum()
        return {"maps": torch.stack(errors).sum(), "paths": torch.stack(divergences).sum() + idle}, predicted
