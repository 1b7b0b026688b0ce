"""Golden losses, gradients and outputs of the methods that tables of 2022 to 2025 compare with, in both precisions."""

import re
from collections.abc import Callable, Sequence
from itertools import chain, product
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.recipe import Recipe
from sskd.methods import METHODS, LossTerms, Method, MethodContext
from sskd.methods.crld import is_confident
from sskd.methods.dot import TwoMomenta
from sskd.methods.fcfd import Path, classified, frozen_running_statistics
from sskd.methods.feature_maps import match_sizes
from sskd.methods.luminet import perception
from sskd.methods.norm import Expanded, layer_normalised, repeated_error
from sskd.methods.ofd import margins, partial_distance
from sskd.methods.sdd import region_logits
from sskd.methods.wkdf import falling
from sskd.methods.wkdl import class_distances, transport_costs, wasserstein
from sskd.networks import Features, FeatureShapes, Network, build_network, feature_shapes
from sskd.runs.settings import method_settings
from tests.golden import (
    BATCH,
    CLASSES,
    LOSSES,
    assert_golden,
    assert_outputs,
    assert_summary,
    fill_parameters,
    labels,
    parameter_value,
    tensor,
)
from tests.methods.stand_ins import batch_like

PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
LABELS = labels(602, BATCH, CLASSES)


class Case(NamedTuple):
    loss: Tensor | None  # None: outputs alone
    inputs: Sequence[Tensor] = ()
    parameters: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()


class Given:
    """The fixed inputs in one precision. ``z_s`` and ``z_s2`` have gradients."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.z_s, self.z_s2 = (self.learned(3 * self.t(k, BATCH, CLASSES)) for k in (600, 603))
        self.z_t, self.z_t2 = 3 * self.t(601, BATCH, CLASSES), 1.8 * self.t(604, BATCH, CLASSES)
        for teacher, every in ((self.z_t, 2), (self.z_t2, 3)):
            teacher[torch.arange(0, BATCH, every), LABELS[::every]] += 12

    def t(self, k: int, *shape: int) -> Tensor:
        return tensor(k, *shape).to(self.dtype)

    def learned(self, value: Tensor) -> Tensor:
        return value.to(self.dtype).clone().requires_grad_()

    def head(self, k: int, width: int) -> nn.Linear:
        layer = nn.Linear(width, CLASSES).to(self.dtype).requires_grad_(False)
        layer.weight.copy_((2 / width) ** 0.5 * self.t(k, CLASSES, width))
        layer.bias.copy_(0.1 * self.t(k + 1, CLASSES))
        return layer

    def method(
        self,
        name: str,
        student: Sequence[Tensor] = (),
        teacher: Sequence[Tensor] = (),
        epoch: int = 240,
        batch_size: int = 64,
        **settings: Any,
    ) -> Any:
        """The method in the published code's ``epoch`` (from 1), for maps and a pooled vector like these."""
        networks = [Ends(tensors, self.dtype) for tensors in (student, teacher)]
        shapes = [network.shapes for network in networks]
        context = MethodContext(
            networks[0],
            shapes[0],
            CLASSES,
            torch.arange(50),
            networks[1],
            shapes[1],
            None,
            Recipe(batch_size=batch_size),
        )
        method = METHODS[name](method_settings(name, **settings), context).to(self.dtype)
        method.begin_epoch(epoch - method.first_epoch)
        return method


class Ends(Network):
    """A network of which a method sees the shapes and the classifier."""

    def __init__(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        *maps, (embed_dim, *_) = [tuple(tensor.shape[1:]) for tensor in tensors] or [(4,)]
        self.shapes = FeatureShapes("network", tuple(maps), embed_dim)
        self.fc = nn.Linear(self.shapes.embed_dim, CLASSES).to(dtype)


def features(logits: Tensor, *maps_and_pooled: Tensor) -> Features:
    *maps, pooled = maps_and_pooled or (logits.detach()[:, :4],)
    return Features(logits, tuple(maps), pooled, tuple(maps))


def views(weak: Tensor, strong: Tensor) -> Tensor:
    """Image j's weak view in row 2j, its strong one in row 2j + 1."""
    return torch.stack([weak, strong], dim=1).flatten(0, 1)


def own(method: Method, student: Features, teacher: Features, *names: str, per_image: int = 1) -> Tensor:
    """The method's own terms, weighted: those of the names, or all."""
    terms = method.loss_terms(student, teacher, batch_like(LABELS, per_image)).losses
    return torch.stack([method.loss_weights[name] * terms[name] for name in names or terms]).sum()


def total(method: Method, student: Features, teacher: Features, per_image: int = 1) -> Tensor:
    return method(student, teacher, batch_like(LABELS, per_image))[0]


CASES: dict[str, Callable[[Given], Case]] = {}


def of_logits(entry: str, name: str, *terms: str, **settings: Any) -> None:
    """A method of logits: its terms, or with "total" in the entry the objective."""

    def case(given: Given) -> Case:
        method = given.method(name, **settings)
        sides = features(given.z_s), features(given.z_t)
        return Case(total(method, *sides) if "total" in entry else own(method, *sides, *terms), [given.z_s])

    CASES[entry] = case


SAME = {"sample_temperature": 4.0}
IMAGENET = {"temperature": 1.0, "masked_weight": 0.5}
of_logits("rld", "rld")
of_logits("rld_same_t", "rld", **SAME)
of_logits("rld_sample_part", "rld", "sample")
of_logits("rld_masked_part", "rld", "masked", masked_weight=1.0)
of_logits("rld_imagenet", "rld", **IMAGENET)
of_logits("rld_standardised", "rld", standardise=True)
of_logits("rld_total_epoch5", "rld", epoch=5)
of_logits("normkd_t2", "normkd", weight=1.0)
of_logits("normkd_t1", "normkd", weight=1.0, deviations=1.0)
of_logits("normkd_total", "normkd")
of_logits("normkd_dkd", "normkd", host="dkd")
of_logits("normkd_dkd_total_epoch5", "normkd", host="dkd", epoch=5)
of_logits("luminet", "luminet")
of_logits("luminet_imagenet", "luminet", weight=4.0, temperature=0.7)
of_logits("luminet_total_epoch5", "luminet", epoch=5)


def nothing_left(given: Given) -> Case:
    teacher = given.z_t.clone()
    teacher[torch.arange(BATCH), LABELS] -= 100
    return Case(own(given.method("rld"), features(given.z_s), features(teacher)), [given.z_s])


CASES["rld_nothing_left"] = nothing_left
CASES["luminet_perception"] = lambda given: Case(None, outputs=[perception(given.z_s), perception(given.z_t)])


def of_regions(entry: str) -> None:
    _, host, which, *_ = entry.split("_")

    def case(given: Given) -> Case:
        teacher = 3 * given.t(617, BATCH, CLASSES, 21)
        wrong = (torch.arange(BATCH)[:, None] + torch.arange(21)) % 3 == 0
        teacher.scatter_add_(1, LABELS[:, None, None].expand(BATCH, 1, 21), (12.0 * ~wrong[:, None]).to(teacher))
        count = 5 if which == "12" else 21
        student = given.learned(3 * given.t(616, BATCH, CLASSES, 21)[:, :, :count])
        weight = {} if which == "total" else {"weight": 1.0}
        method = given.method("sdd", host=host, epoch=5 if which == "total" else 240, **weight)
        regions = student.transpose(1, 2), teacher[:, :, :count].transpose(1, 2)
        method.loss_terms = lambda *_: LossTerms(method.losses(*regions, LABELS))
        sides = features(student[:, :, 0]), features(teacher[:, :, 0])
        return Case((total if which == "total" else own)(method, *sides), [student])

    CASES[entry] = case


for each_host in ("kd", "dkd", "nkd"):
    for which in ("124", "12", "total_epoch5"):
        of_regions(f"sdd_{each_host}_{which}")


def regions_of(entry: str, k: int, size: int) -> None:
    def case(given: Given) -> Case:
        found = region_logits(given.t(k, BATCH, 64, size, size), given.head(614, 64), (1, 2, 4)).transpose(1, 2)
        return Case(None, outputs=[found, *(found[:, :, n] for n in (0, 1, 4, 5, 20))])

    CASES[entry] = case


for k, size in ((610, 8), (611, 4), (612, 2), (613, 7)):
    regions_of(f"sdd_regions_{size}", k, size)


def of_views(entry: str, *terms: str, **settings: Any) -> None:
    """A method of a weak and a strong view."""

    def case(given: Given) -> Case:
        method = given.method("crld", **settings)
        sides = features(views(given.z_s, given.z_s2)), features(views(given.z_t, given.z_t2))
        if "ce" in terms:
            found = method(*sides, batch_like(LABELS, 2))[1].losses
            return Case(found["ce"] + found["ce_strong"], [given.z_s, given.z_s2])
        loss = own(method, *sides, *terms, per_image=2) if terms else total(method, *sides, per_image=2)
        return Case(loss, [given.z_s, given.z_s2])

    CASES[entry] = case


of_views("crld_ce", "ce")
of_views("crld_within", "within", within_weight=1.0)
of_views("crld_across", "across", across_weight=1.0)
of_views("crld_total")
of_views("crld_imagenet_total", ce_weight=2.0, temperature=1.0)


def srrl(given: Given, with_total: bool = False) -> Case:
    student, teacher = given.learned(tensor(785, BATCH, 64)), given.t(786, BATCH, 96).relu()
    method, head = given.method("srrl", [student], [teacher]), given.head(790, 96)
    fill_parameters(method, 780)
    method._classifier = (head,)
    sides = features(given.z_s, student), features(head(teacher), teacher)
    loss = own(method, *sides)
    if with_total:  # its KL is of other logits than the term's
        _, found = method(sides[0], features(given.z_t, teacher), batch_like(LABELS))
        return Case(found.losses["ce"] + found.losses["kd"] + loss, [student, given.z_s])
    connected = method.connector(student)
    return Case(loss, [student], list(method.parameters()), [connected, head(connected)])


CASES["srrl"] = srrl
CASES["srrl_total"] = lambda given: srrl(given, with_total=True)


def maps(given: Given, shapes: dict[int, tuple[int, ...]], factor: float = 1.0) -> list[Tensor]:
    return [factor * given.t(k, BATCH, *shape) for k, shape in shapes.items()]


SMALL = ((16, 16, 16), (32, 8, 8), (64, 4, 4))
WIDER = ((24, 16, 16), (48, 8, 8), (96, 4, 4))
LARGER = ((24, 32, 32), (48, 16, 16), (96, 8, 8))


def ofd(given: Given, first: int = 763, shapes: Sequence[tuple[int, ...]] = WIDER, with_total: bool = False) -> Case:
    student = [given.learned(each) for each in maps(given, dict(zip((760, 761, 762), SMALL, strict=True)))]
    teacher = maps(given, dict(zip(range(first, first + 3), shapes, strict=True)))
    method = given.method("ofd", *([side[0], *side, given.z_t[:, :4]] for side in (student, teacher)), weight=1.0)
    fill_parameters(method, 750)
    for level, margin in enumerate(ofd_margins(given)):
        method.register_buffer(f"margin{level}", margin)
    loss = method.loss(student, teacher)
    if with_total:
        return Case(F.cross_entropy(given.z_s, LABELS) + method_settings("ofd").weight * loss, student)  # type: ignore[attr-defined]
    return Case(loss, student, list(method.parameters()))


def ofd_margins(given: Given) -> list[Tensor]:
    found = []
    for level, width in enumerate((24, 48, 96)):
        norm = nn.BatchNorm2d(width).to(given.dtype).requires_grad_(False)
        norm.weight.copy_(1 + 0.5 * given.t(770 + 2 * level, width))
        norm.bias.copy_(given.t(771 + 2 * level, width))
        norm.weight[0], norm.bias[0], norm.weight[1] = 0.1, 1.0, -0.7
        found.append(margins(norm))
    return found


def ofd_level(given: Given) -> Case:
    student, teacher = given.learned(tensor(769, BATCH, 24, 16, 16)), given.t(763, BATCH, 24, 16, 16)
    return Case(partial_distance(student, teacher, ofd_margins(given)[0]), [student])


CASES["ofd"] = ofd
CASES["ofd_larger_teacher"] = lambda given: ofd(given, 766, LARGER)
CASES["ofd_total"] = lambda given: ofd(given, with_total=True)
CASES["ofd_margins"] = lambda given: Case(None, outputs=ofd_margins(given))
CASES["ofd_level"] = ofd_level


def semckd(given: Given) -> Case:
    plain = maps(given, dict(zip((800, 801, 802), SMALL, strict=True)))
    student = [given.learned(each) for each in plain]
    teacher = maps(given, {803: (24, 16, 16), 804: (48, 8, 8)}, 0.2)
    method = given.method(
        "semckd", *([side[0], *side, given.z_t[:, :4]] for side in (student, teacher)), batch_size=BATCH
    )
    own_parameters, parameters = iter(method.parameters()), []
    for i, (name, shape) in enumerate(LOSSES["semckd"]["parameters"]):
        unused = name.startswith(("query", "key")) and "regressor" in name
        parameter = torch.zeros(shape, requires_grad=True, dtype=given.dtype) if unused else next(own_parameters)
        parameter.data = parameter_value(1100 + i, name, shape).to(given.dtype)
        parameters.append(parameter)
    scaled = [0.2 * each for each in student]
    projected = [
        project(match_sizes(student_map, teacher_map)[0])
        for project, (student_map, teacher_map) in zip(method.projections, product(scaled, teacher), strict=True)
    ]
    outputs = [method.attention(scaled, teacher), *projected]
    return Case(method.loss(scaled, teacher), student, parameters, outputs)


CASES["semckd"] = semckd


def distances(given: Given) -> Tensor:
    raw = 0.4 * given.t(631, CLASSES, CLASSES).abs()
    return ((raw + raw.T) / 2).fill_diagonal_(0)


def wkdl(entry: str, **settings: Any) -> None:
    def case(given: Given) -> Case:
        method = given.method("wkdl", **settings)
        method.distances.copy_(distances(given))
        sides = features(given.z_s), features(given.z_t)
        return Case((total if "total" in entry else own)(method, *sides), [given.z_s])

    CASES[entry] = case


def flow_free(given: Given) -> Case:
    student, teacher = ((z / 8).softmax(1) for z in (given.z_s, given.z_t))
    return Case(wasserstein(student, teacher, transport_costs(distances(given), 1.0)), [given.z_s])


wkdl("wkdl", epoch=1)
wkdl("wkdl_imagenet", epoch=1, weight=30.0, temperature=2.0, sharpness=2.0)
wkdl("wkdl_total_epoch150", epoch=150)
wkdl("wkdl_total_epoch200", epoch=200)
CASES["wkdl_flow_free"] = flow_free
CASES["wkdl_distance"] = lambda given: Case(None, outputs=[class_distances(given.t(630, 5, 24, 16))])


def wkdf(entry: str, s: int, student: tuple[int, ...], teacher: tuple[int, ...], **settings: Any) -> None:
    def case(given: Given) -> Case:
        maps = given.learned(given.t(s, BATCH, *student)), given.t(s + 1, BATCH, *teacher)
        sides = ([each, each, given.z_t[:, :4]] for each in maps)
        method = given.method("wkdf", *sides, weight=1.0, **settings)
        fill_parameters(method, 650)
        projected = method.projector(maps[0])
        loss = own(method, *(features(given.z_t, each, given.z_t[:, :4]) for each in maps))
        outputs = [projected, *method.parts(projected, maps[1])]
        return Case(loss, [maps[0]], list(method.parameters()), outputs)

    CASES[entry] = case


wkdf("wkdf", 640, (32, 8, 8), (48, 8, 8), grid=1)
wkdf("wkdf_grid4", 640, (32, 8, 8), (48, 8, 8), grid=4, mean_weight=3.0)
wkdf("wkdf_grid4_7x7", 642, (32, 7, 7), (48, 7, 7), grid=4, mean_weight=2.0)
wkdf("wkdf_imagenet", 642, (32, 7, 7), (48, 7, 7), grid=4, mean_weight=2.0, hidden=64)
wkdf("wkdf_smaller_student", 644, (32, 4, 4), (48, 8, 8), grid=4, mean_weight=3.0)


def kdpp(given: Given, with_total: bool = False) -> Case:
    raw = 1.5 * given.t(900, BATCH, 64).relu() * torch.linspace(0.3, 1.5, BATCH, dtype=torch.float64)[:, None]
    student, teacher = given.learned(raw), given.t(901, BATCH, 64).relu()
    method = given.method("kdpp", [student], [teacher], epoch=5, kd_weight=3.5)
    method.means.copy_(given.t(902, CLASSES, 64).relu())
    sides = features(given.z_s, student), features(given.z_t, teacher)
    inputs = [student, given.z_s] if with_total else [student]
    return Case((total if with_total else own)(method, *sides), inputs)


def kdpp_widened(given: Given) -> Case:
    raw = 1.5 * given.t(900, BATCH, 64).relu() * torch.linspace(0.3, 1.5, BATCH, dtype=torch.float64)[:, None]
    student, teacher = given.learned(raw), given.t(910, BATCH, 128).relu()
    method = given.method("kdpp", [student], [teacher])
    method.means.copy_(given.t(911, CLASSES, 128).relu())
    fill_parameters(method, 905)
    method.widen[1].eval()
    loss = own(method, features(given.z_s, student), features(given.z_t, teacher))
    return Case(loss, [student], list(method.parameters()), [method.widen(student)])


CASES["kdpp_nd"] = kdpp
CASES["kdpp_total_epoch5"] = lambda given: kdpp(given, with_total=True)
CASES["kdpp_nd_widened"] = kdpp_widened


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


def fcfd(entry: str, paths: list[Path], epoch: int, active: bool = False, second: int = 1) -> None:
    def case(given: Given) -> Case:
        teacher = Toy((8, 8, 16, 24), (1, 1, 2, 2), active).to(given.dtype)
        student = Toy((6, 6, 10, 12), (1, second, 2, 2), False).to(given.dtype)
        images = given.t(940, BATCH, 3, 16, 16)
        fill_parameters(nn.ModuleList([teacher, student]), 950)
        learned, fixed = student.features(images), teacher.requires_grad_(False).features(images)
        shapes = (
            FeatureShapes("toy", maps := tuple(tuple(t.shape[1:]) for t in of.feature_maps), maps[-1][0], maps[-1])
            for of in (learned, fixed)
        )
        context = MethodContext(student, next(shapes), CLASSES, torch.arange(4), teacher, next(shapes))
        method: Any = METHODS["fcfd"](method_settings("fcfd"), context).to(given.dtype)
        teacher.train()
        method.begin_epoch(epoch)
        bridges = nn.ModuleList(chain.from_iterable(zip(method.to_teacher, method.to_student, strict=True)))
        fill_parameters(bridges, 1000)
        losses, predicted = method.losses(student.stage_maps(learned), teacher.stage_maps(fixed), fixed.logits, paths)
        method.loss_terms = lambda *_: LossTerms(losses)
        outputs = [fixed.logits, learned.logits, *predicted]
        return Case(total(method, learned, fixed), [], [*student.parameters(), *bridges.parameters()], outputs)

    CASES[entry] = case


fcfd("fcfd_teacher_after_student", [Path(True, 1), Path(True, 2)], 30)
fcfd("fcfd_student_after_teacher", [Path(False, 1), Path(False, 2)], 30)
fcfd("fcfd_mixed_epoch4", [Path(True, 1), Path(False, 2)], 4, active=True, second=2)


class GivesMap(Network):
    """A network whose last map is what it is given."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.fc = head

    def features(self, images: Tensor) -> Features:
        return Features(images, (images,), images, (images,), images)


def norm(given: Given, student_map: Tensor) -> Case:
    student, teacher = given.learned(student_map), given.t(932, BATCH, 24, 8, 8)
    shapes = FeatureShapes("network", (tuple(student.shape[1:]),), 64, tuple(student.shape[1:]))
    head = nn.Linear(64, CLASSES)
    predictor = Expanded(GivesMap(head), shapes, 4 * 24).to(given.dtype)
    parameters = [*predictor.expand.parameters(), *predictor.contract.parameters(), head.weight, head.bias]
    for i, ((name, shape), parameter) in enumerate(zip(LOSSES["norm"]["parameters"], parameters, strict=True)):
        parameter.data = parameter_value(920 + i, name, shape).to(given.dtype)
    found = predictor.features(student)
    assert found.pre_pool is not None
    outputs = [found.pre_pool, found.logits, layer_normalised(found.logits)]
    return Case(repeated_error(found.pre_pool, teacher, 4), [student], parameters, outputs)


def norm_ce_kd(given: Given) -> Case:
    maps = [given.t(930, BATCH, 64, 8, 8), given.z_t[:, :4]]
    method = given.method("norm", maps, maps, ce_weight=0.5, kd_weight=0.5)
    method.loss_terms = lambda *_: LossTerms({})
    return Case(total(method, features(given.z_s), features(given.z_t)), [given.z_s])


CASES["norm"] = lambda given: norm(given, given.t(930, BATCH, 64, 8, 8))
CASES["norm_larger_teacher"] = lambda given: norm(given, given.t(931, BATCH, 64, 4, 4))
CASES["norm_ce_kd"] = norm_ce_kd


@pytest.mark.parametrize(("dtype", "relative"), PRECISIONS, ids=["fp32", "fp64"])
@pytest.mark.parametrize("entry", list(CASES))
def test_golden(entry: str, dtype: torch.dtype, relative: float) -> None:
    case = CASES[entry](Given(dtype))
    if case.loss is None:
        assert_outputs(entry, case.outputs, relative)
    else:
        assert_golden(entry, case.loss, case.inputs, case.parameters, case.outputs, relative)


@pytest.mark.parametrize(("dtype", "relative"), PRECISIONS, ids=["fp32", "fp64"])
@pytest.mark.parametrize(
    ("entry", "difference", "rate", "decay"),
    [("dot", 0.075, 0.05, 5e-4), ("dot_imagenet", 0.09, 0.2, 1e-4), ("dot_delta0", 0.0, 0.05, 5e-4)],
)
def test_dots_steps(
    entry: str, difference: float, rate: float, decay: float, dtype: torch.dtype, relative: float
) -> None:
    """Weight 1 has no gradient of the distillation, weight 2 none of the task. With no difference the steps are
    SGD's."""
    shapes, given = ((3, 4), (5,), (6,)), Given(dtype)
    weights, plain = ([nn.Parameter(given.t(700 + i, *shape)) for i, shape in enumerate(shapes)] for _ in range(2))
    optimizer = TwoMomenta(weights, rate, 0.9, difference, decay)
    sgd = torch.optim.SGD(plain, rate, momentum=0.9, weight_decay=decay)
    optimizer.by_rest = {weights[0], weights[2]}
    for number, wanted in enumerate(LOSSES[entry]["steps"]):
        if number == 3:
            optimizer.param_groups[0]["lr"] = sgd.param_groups[0]["lr"] = rate / 10
        rest, task = ([given.t(k + 10 * number + i, *shape) for i, shape in enumerate(shapes)] for k in (710, 715))
        optimizer.task = {weights[0]: task[0], weights[1]: task[1]}
        for weight, same, gradient in zip(weights, plain, (task[0] + rest[0], task[1], rest[2]), strict=True):
            weight.grad, same.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        sgd.step()
        for kind in ("task", "distillation"):
            for weight, summary in zip(weights, wanted[kind], strict=True):
                assert (kind in optimizer.state[weight]) == (summary is not None)
                if summary is not None:
                    assert_summary(optimizer.state[weight][kind], summary, relative)
        for weight, summary in zip(weights, wanted["parameters"], strict=True):
            assert_summary(weight.detach(), summary, relative)
        if not difference:
            torch.testing.assert_close(weights[:2], plain[:2])


def test_crld_keeps_what_the_teacher_is_sure_of() -> None:
    given = Given(torch.float32)
    kept = {"weak": is_confident(given.z_t, 0.9).tolist(), "strong": is_confident(given.z_t2, 0.2).tolist()}
    assert kept == LOSSES["crld_kept"]


@pytest.mark.parametrize(("when", "factor"), LOSSES["wkd_weight"].items())
def test_wkds_weight_falls(when: str, factor: float) -> None:
    start, epochs, epoch = map(float, re.findall(r"\d+", when))
    assert falling(epoch, start, epochs) == pytest.approx(factor, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV2", "vgg8"])
def test_norms_student_is_the_student_where_nothing_is_added(name: str) -> None:
    plain, images = build_network(name, 4).eval(), torch.randn(2, 3, 32, 32)
    wanted = plain(images)
    widened = Expanded(plain, feature_shapes(name), 16).eval()
    assert not torch.equal(widened(images), wanted)
    nn.init.zeros_(widened.contract[1].weight)
    torch.testing.assert_close(widened(images), wanted, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV1", "ShuffleV2", "vgg8", "ResNet50"])
def test_stages_one_after_the_other_are_the_network(name: str) -> None:
    network = build_network(name, 4).eval()
    features = network.features(torch.randn(2, 3, 32, 32))
    maps: Tensor = features.feature_maps[0]
    for number, wanted in enumerate(network.stage_maps(features), start=1):
        maps = network.run_stage(number, maps)
        torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(classified(network, maps), features.logits, rtol=1e-4, atol=1e-12)
    assert network.stages_active == (network.stage_maps(features)[0].min() >= 0)
    assert feature_shapes(name).staged


def test_paths_leave_running_averages_alone() -> None:
    network = build_network("resnet8", 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with frozen_running_statistics(network):
        network(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network(torch.randn(2, 3, 32, 32))
    assert not torch.equal(network.bn1.running_mean, before["bn1.running_mean"])
