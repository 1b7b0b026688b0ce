"""Golden cases of the methods that predict or compare through a network's modules, and of SSKD and HSAKD."""

from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.data.batch import Batch
from sskd.methods import METHODS, LossTerms, Method, MethodContext
from sskd.methods.fcfd import Path
from sskd.methods.norm import Expanded, layer_normalised, repeated_error
from sskd.methods.simkd import Projected, projector
from sskd.networks import Features, FeatureShapes, Network
from sskd.networks.auxiliary_classifiers import AuxiliaryClassifiers
from sskd.pretext import PRETEXTS, PretextContext
from sskd.runs.settings import method_settings
from sskd.training.tasks.head import HeadTask
from tests.golden import BATCH, CLASSES, LOSSES, fill_parameters, labels, parameter_value
from tests.methods.given import CASES, Case, Given, GivesMap, batch_like, cases, features, learned, loss_of


@cases
def simkd(given: Given, entry: str, student_k: int, size: int, teacher_size: int) -> Case:
    student = learned(given.t(student_k, BATCH, 64, size, size))
    teacher = given.t(student_k + 1, BATCH, 128, teacher_size, teacher_size)
    project = projector(64, 64, 128).to(given.dtype)
    fill_parameters(project, 270)
    predictor = Projected(GivesMap(), project, given.head(279, 128), (teacher_size, teacher_size))
    found, method = predictor.features(student), given.method("simkd", weight=1.0)
    target = Features(teacher, (), teacher, (), teacher)
    loss = method.loss_terms(found, target, batch_like(labels(3, BATCH, CLASSES))).losses["simkd"]
    return Case(loss, [student], list(project.parameters()), [found.logits])


simkd("simkd", 260, 8, 4)
simkd("simkd_larger_teacher", 262, 4, 8)


@cases
def srrl(given: Given, entry: str) -> Case:
    logits, head = given.predictions(), given.head(790, 96)
    student, teacher = learned(given.t(785, BATCH, 64)), given.t(786, BATCH, 96).relu()
    method = given.method("srrl", [student], [teacher])
    fill_parameters(method, 780)
    method._classifier = (head,)
    own, batch = features(logits.student, student), batch_like(logits.labels)
    loss = loss_of("", method, own, features(head(teacher), teacher), batch)
    if "total" in entry:  # its KL is of other logits than the term's
        _, found = method(own, features(logits.teacher, teacher), batch)
        return Case(found.losses["ce"] + found.losses["kd"] + loss, [student, logits.student])
    connected = method.connector(student)
    return Case(loss, [student], list(method.parameters()), [connected, head(connected)])


srrl("srrl")
srrl("srrl_total")


class Toy(Network):
    """Four stages of a convolution and a norm, the ReLU after each (active) or before the next."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], active: bool) -> None:
        super().__init__()
        self.stages_active = active
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))
            for before, width, stride in zip((3, *widths), widths, strides, strict=False)
        )
        self.fc = nn.Linear(widths[-1], CLASSES)

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        stage = self.stages[number]
        return F.relu(stage(maps)) if self.stages_active else stage(F.relu(maps))

    def features(self, images: Tensor) -> Features:
        stem = self.stages[0](images)
        maps = [F.relu(stem) if self.stages_active else stem]
        for number in range(1, len(self.stages)):
            maps.append(self.run_stage(number, maps[-1]))
        pooled = F.relu(maps[-1]).mean((2, 3))
        return Features(self.fc(pooled), tuple(maps), pooled, tuple(maps), maps[-1])


@cases
def fcfd(given: Given, entry: str, paths: list[Path], epoch: int, active: bool = False, second: int = 1) -> Case:
    teacher = Toy((8, 8, 16, 24), (1, 1, 2, 2), active).to(given.dtype)
    student = Toy((6, 6, 10, 12), (1, second, 2, 2), False).to(given.dtype)
    images = given.t(940, BATCH, 3, 16, 16)
    fill_parameters(nn.ModuleList([teacher, student]), 950)
    own, fixed = student.features(images), teacher.requires_grad_(False).features(images)
    shapes = (
        FeatureShapes("toy", maps := tuple(tuple(t.shape[1:]) for t in of.feature_maps), maps[-1][0], maps[-1])
        for of in (own, fixed)
    )
    context = MethodContext(student, next(shapes), CLASSES, torch.arange(4), teacher, next(shapes))
    method: Any = METHODS["fcfd"](method_settings("fcfd"), context).to(given.dtype)
    teacher.train()
    method.begin_epoch(epoch)
    bridges = nn.ModuleList(chain.from_iterable(zip(method.to_teacher, method.to_student, strict=True)))
    fill_parameters(bridges, 1000)
    losses, predicted = method.losses(student.stage_maps(own), teacher.stage_maps(fixed), fixed.logits, paths)
    method.loss_terms = lambda *_: LossTerms(losses)
    loss = loss_of("total", method, own, fixed, batch_like(given.predictions().labels))
    parameters = [*student.parameters(), *bridges.parameters()]
    return Case(loss, [], parameters, [fixed.logits, own.logits, *predicted])


fcfd("fcfd_teacher_after_student", [Path(True, 1), Path(True, 2)], 30)
fcfd("fcfd_student_after_teacher", [Path(False, 1), Path(False, 2)], 30)
fcfd("fcfd_mixed_epoch4", [Path(True, 1), Path(False, 2)], 4, active=True, second=2)


@cases
def norm(given: Given, entry: str, k: int, size: int) -> Case:
    student, teacher = learned(given.t(k, BATCH, 64, size, size)), given.t(932, BATCH, 24, 8, 8)
    shapes = FeatureShapes("network", (tuple(student.shape[1:]),), 64, tuple(student.shape[1:]))
    head = nn.Linear(64, CLASSES)
    predictor = Expanded(GivesMap(head), shapes, 4 * 24).to(given.dtype)
    parameters = [*predictor.expand.parameters(), *predictor.contract.parameters(), head.weight, head.bias]
    for i, ((name, shape), parameter) in enumerate(zip(LOSSES["norm"]["parameters"], parameters, strict=True)):
        parameter.data = parameter_value(920 + i, name, shape).to(given.dtype)
    found: Any = predictor.features(student)
    outputs = [found.pre_pool, found.logits, layer_normalised(found.logits)]
    return Case(repeated_error(found.pre_pool, teacher, 4), [student], parameters, outputs)


def norm_ce_kd(given: Given) -> Case:
    logits = given.predictions()
    maps = [given.t(930, BATCH, 64, 8, 8), logits.teacher[:, :4]]
    method = given.method("norm", maps, maps, ce_weight=0.5, kd_weight=0.5)
    method.loss_terms = lambda *_: LossTerms({})
    sides = features(logits.student), features(logits.teacher)
    return Case(loss_of("total", method, *sides, batch_like(logits.labels)), [logits.student])


norm("norm", 930, 8)
norm("norm_larger_teacher", 931, 4)
CASES["norm_ce_kd"] = norm_ce_kd

# --- SSKD: eight images, four views each ------------------------------------------------------------------------------

IMAGES, VIEWS = 8, 4
VIEWED = labels(64, IMAGES, CLASSES)


def viewed(wanted: Tensor) -> Batch:
    return batch_like(wanted, VIEWS)


def contrastive(temperature: float = 1.0) -> Any:
    kind = PRETEXTS["contrastive"]
    head = kind(kind.Settings(name="contrastive", temperature=temperature), PretextContext(64, IMAGES))  # type: ignore[call-arg]
    head.layers = nn.Identity()  # type: ignore[assignment]
    return head


def sskd(**settings: Any) -> Method:
    """Heads without layers: the pooled features are their outputs."""
    shapes = FeatureShapes("resnet8", (), 64)
    context = MethodContext(Network(), shapes, CLASSES, torch.zeros(IMAGES, dtype=torch.int64), head=contrastive())
    method = METHODS["sskd"](method_settings("sskd", **settings), context)
    if hasattr(method, "head"):
        method.head.layers = nn.Identity()
    return method


def sskd_sides(given: Given) -> tuple[Features, Features]:
    """The views 1 and 2 of every image are alike for the teacher, who is sure of their class."""
    logits, output = 3 * given.t(61, 32, CLASSES), given.t(63, 32, 64)
    for j in range(IMAGES):
        for k in (1, 2):
            output[4 * j + k] = (0.9 if j % 2 else 0.3) * output[4 * j] + 0.8 * output[4 * j + k]
            logits[4 * j + k, VIEWED[j]] += 4
    student = learned(3 * given.t(60, 32, CLASSES)), learned(given.t(62, 32, 64))
    return features(*student), features(logits, output)


@cases
def sskd_term(given: Given, entry: str, term: str, keep: float) -> Case:
    student, teacher = sskd_sides(given)
    _, found = sskd(t_keep=keep, ss_keep=keep)(student, teacher, viewed(VIEWED))
    return Case(found.losses[term], [student.pooled if term == "ss" else student.logits])


@cases
def sskd_head(given: Given, entry: str, temperature: float) -> Case:
    output = sskd_sides(given)[0].pooled
    return Case(contrastive(temperature).loss(output, viewed(VIEWED))[0], [output])


def sskd_total(given: Given) -> Case:
    student, teacher = sskd_sides(given)
    return Case(sskd()(student, teacher, viewed(VIEWED))[0], [student.logits, student.pooled])


for keep in (1.0, 0.75, 0.5, 0.0):
    for term in ("t", "ss"):
        sskd_term(f"sskd_{term}_keep{keep}", term, keep)
for temperature in (1.0, 0.5):
    sskd_head(f"sskd_head_ce_tau{temperature:g}", temperature)
CASES["sskd_total"] = sskd_total

# --- HSAKD ------------------------------------------------------------------------------------------------------------


class Scores(nn.Module):
    """Auxiliary classifiers that give these scores."""

    def __init__(self, scores: Any) -> None:
        super().__init__()
        self.scores = scores

    def read(self, features: Features) -> Any:
        return self.scores


def hsakd_student(given: Given) -> Case:
    student = [learned(3 * given.t(k, 32, width)) for k, width in ((300, 100), (302, 400), (303, 400), (304, 400))]
    shapes = FeatureShapes("resnet20", (), 4)
    head: Any = Scores(torch.stack([3 * given.t(305 + level, 32, 400) for level in range(3)]))
    context = MethodContext(Network(), shapes, CLASSES, torch.arange(IMAGES), Network(), shapes, head)
    method: Any = METHODS["hsakd"](method_settings("hsakd"), context)
    method.branches = Scores(student[1:])
    sides = features(student[0]), features(3 * given.t(301, 32, 100))
    return Case(loss_of("total", method, *sides, viewed(labels(308, IMAGES, CLASSES))), student)


def hsakd_losses(given: Given, joint: bool) -> tuple[Tensor, LossTerms, list[Tensor]]:
    """The loss of a head that is trained alone, or with its network."""
    student = [learned(3 * given.t(k, 32, width)) for k, width in ((300, 100), (302, 400), (303, 400), (304, 400))]
    head: Any = PRETEXTS["hsakd"].__new__(PRETEXTS["hsakd"])
    nn.Module.__init__(head)
    head.branches, head.network = Scores(student[1:]), Network() if joint else None
    task: Any = SimpleNamespace(head=head, name="hsakd")
    return *HeadTask._losses(task, features(student[0]), viewed(labels(308, IMAGES, CLASSES))), student


def hsakd_teacher(given: Given) -> Case:
    loss, _, student = hsakd_losses(given, joint=True)
    return Case(loss, student)


BRANCHED = {
    "resnet20": ((16, 32), (32, 16), (64, 8)),
    "wrn_16_2": ((32, 32), (64, 16), (128, 8)),
    "vgg8": ((64, 32), (128, 16), (256, 8), (512, 4)),
    "ShuffleV1": ((240, 16), (480, 8), (960, 4)),
    "ShuffleV2": ((116, 16), (232, 8), (464, 4)),
    "MobileNetV2": ((12, 16), (16, 8), (48, 4), (160, 2)),
}


def golden_order(network: str, branches: AuxiliaryClassifiers) -> list[nn.Parameter]:
    """Bodies, then what follows them, then classifiers; ShuffleNet V2 has the second with the first."""
    together = network == "ShuffleV2"
    modules: list[nn.Module] = []
    for branch in branches:
        modules += [branch.body, branch.tail] if together else [branch.body]
    modules += [] if together else [branch.tail for branch in branches]
    modules += [branch.classifier for branch in branches]
    return [p for module in modules for p in module.parameters()]


@cases
def hsakd_branches(given: Given, entry: str, network: str) -> Case:
    entry = f"hsakd_branches_{network}"
    branches = AuxiliaryClassifiers(network, 400)
    wanted = LOSSES[entry]["parameters"]
    for i, (parameter, (name, shape)) in enumerate(zip(golden_order(network, branches), wanted, strict=True)):
        assert list(parameter.shape) == shape
        parameter.data = parameter_value(400 + i, name, tuple(shape))
    maps = [given.t(310 + i, 4, width, size, size) for i, (width, size) in enumerate(BRANCHED[network])]
    scores = branches.to(given.dtype).read(Features(maps[0], (maps[0], *maps), maps[0], ()))
    return Case(None, outputs=scores)


CASES["hsakd_student"] = hsakd_student
CASES["hsakd_teacher"] = hsakd_teacher
for network in BRANCHED:
    hsakd_branches(f"hsakd_branches_{network}", network)
