"""Golden cases of the methods that compare maps or pooled features, by their shapes alone."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.methods.catkd import class_attention_loss
from sskd.methods.feature_maps import match_sizes
from sskd.methods.ofd import margins, partial_distance
from sskd.methods.reviewkd import hcl
from tests.golden import BATCH, CLASSES, LOSSES, fill_parameters, parameter_value
from tests.methods.given import CASES, Case, Given, batch_like, cases, features, learned, loss_of

Shapes = Mapping[int, tuple[int, ...]]
SMALL, WIDE = ((16, 16, 16), (32, 8, 8), (64, 4, 4)), ((24, 16, 16), (48, 8, 8), (96, 4, 4))
LARGE = ((24, 32, 32), (48, 16, 16), (96, 8, 8))
STUDENT: Shapes = dict(zip((10, 11, 12, 40), (*SMALL, (64,)), strict=True))
EQUAL: Shapes = dict(zip((20, 21, 22, 41), (*SMALL, (64,)), strict=True))
WIDER: Shapes = {30: (32, 8, 8), 31: (64, 8, 8), 32: (128, 8, 8), 42: (128,)}
LAST_STUDENT: Shapes = {12: (64, 4, 4), 40: (64,)}
LAST_WIDER: Shapes = {32: (128, 8, 8), 42: (128,)}
ALL_MAPS, LAST_MAP, SECOND_MAP, POOLED = slice(0, -1), slice(-2, -1), slice(1, 2), slice(-1, None)


def prepare(given: Given, method: Any) -> None:
    """The golden values start where the modules before the comparison end, or at fixed weights (vid)."""
    match method.settings.name:
        case "fitnet":
            method.regressor = nn.Identity()
        case "ft":
            method.translator = method.paraphraser.encoder = nn.Identity()
        case "cc":
            for embed in (method.embed_student, method.embed_teacher):
                nn.init.eye_(embed.weight)
                nn.init.zeros_(embed.bias)
        case "vid":
            for i, weight in enumerate(p for name, p in method.named_parameters() if "regressor" in name):
                weight.data = 0.1 * given.t(101 + i, *weight.shape)


@cases
def of_maps(
    given: Given,
    entry: str,
    name: str,
    weight: float,
    student: Shapes,
    teacher: Shapes,
    whose: slice,
    **settings: object,
) -> Case:
    """A method's term; ``weight``: the published one. Maps are after the first, which no method here uses."""
    first, own, theirs = given.t(7, BATCH, 4, 16, 16), given.maps(student), given.maps(teacher)
    own = [learned(each) for each in own]
    method = given.method(name, [first, *own], [first, *theirs], **settings)
    prepare(given, method)
    predicted = given.predictions(1)
    sides = features(predicted.student, first, *own), features(predicted.teacher, first, *theirs)
    loss = loss_of(entry, method, *sides, batch_like(predicted.labels))
    return Case(loss / weight, own[whose])


of_maps("fitnet_mse", "fitnet", 100, STUDENT, EQUAL, SECOND_MAP)
of_maps("at", "at", 1000, STUDENT, EQUAL, ALL_MAPS)
of_maps("at_other_sizes", "at", 1000, STUDENT, WIDER, ALL_MAPS)
of_maps("sp", "sp", 3000, STUDENT, WIDER, LAST_MAP)
of_maps("cc", "cc", 0.02, STUDENT, EQUAL, POOLED, width=64)
of_maps("vid", "vid", 1, LAST_STUDENT, LAST_WIDER, LAST_MAP)
of_maps("rkd", "rkd", 1, STUDENT, WIDER, POOLED)
of_maps("pkt", "pkt", 30000, STUDENT, WIDER, POOLED)
of_maps("nst", "nst", 50, STUDENT, WIDER, ALL_MAPS)
of_maps("ft", "ft", 200, STUDENT, EQUAL, LAST_MAP)


@cases
def of_stage(given: Given, name: str, *first: Tensor) -> Case:
    """A method whose term is that of an initial stage."""
    student, teacher = ([*first, *given.maps(shapes)] for shapes in (STUDENT, EQUAL))
    student = [learned(each) for each in student]
    (stage,) = given.method(name, student, teacher).initial_stages()
    logits = given.predictions(1)
    sides = features(logits.student, *student), features(logits.teacher, *teacher)
    loss = stage.loss(*sides, batch_like(logits.labels))[name]
    return Case(loss, student[len(first) : -1])


of_stage("ab", torch.zeros(BATCH, 4, 16, 16))
of_stage("fsp")


def crd(given: Given) -> Case:
    student, teacher, *banks = (
        F.normalize(given.t(k, rows, 128), dim=1) for k, rows in ((50, BATCH), (51, BATCH), (52, 200), (53, 200))
    )
    method = given.method("crd", [student], [teacher])
    method.banks.student, method.banks.teacher = banks
    method.banks.labels = torch.zeros(200, dtype=torch.long)
    contrasts = torch.from_numpy(np.random.RandomState(1054).randint(0, 200, (BATCH, 33)))
    return Case(method.loss(learned := student.requires_grad_(), teacher, contrasts), [learned])


CASES["crd_first_batch"] = crd

REVIEWED: Shapes = dict(zip(range(205, 209), (*SMALL, (64,)), strict=True))
TEACHER: Shapes = {209: (32, 16, 16), 210: (64, 8, 8), 211: (128, 4, 4), 212: (128,)}
LARGER: Shapes = {213: (32, 32, 32), 214: (64, 16, 16), 215: (128, 8, 8), 212: (128,)}


@cases
def reviewkd(given: Given, entry: str, shapes: Shapes) -> Case:
    student, teacher = [learned(each) for each in given.maps(REVIEWED)], given.maps(shapes)
    method = given.method("reviewkd", [student[0], *student], [teacher[0], *teacher], weight=1.0)
    fill_parameters(method, 220)
    return Case(method.loss(student, teacher), student, list(method.parameters()))


def pyramid(given: Given) -> Case:
    student = [learned(each) for each in given.maps({216: (32, 32, 32), 217: (64, 16, 16), 218: (128, 8, 8)})]
    pairs = zip(student, given.maps(LARGER), strict=False)
    return Case(torch.stack([hcl(*pair) for pair in pairs]).sum(), student)


@cases
def catkd(given: Given, entry: str, size: int, normalise: bool) -> Case:
    student, teacher = learned(given.t(320, BATCH, 100, 4, 4)), given.t(321, BATCH, 100, 8, 8)
    return Case(class_attention_loss(student, teacher, size, normalise), [student])


reviewkd("reviewkd", TEACHER)
reviewkd("reviewkd_larger_teacher", LARGER)
CASES["reviewkd_pyramid_loss"] = pyramid
for size, normalise in product((2, 4), (False, True)):
    catkd(f"catkd_{size}x{size}" + "_normalised" * normalise, size, normalise)


@cases
def ofd(given: Given, entry: str, first: int = 763, shapes: Sequence[tuple[int, ...]] = WIDE) -> Case:
    logits = given.predictions()
    student = [learned(each) for each in given.maps(dict(zip((760, 761, 762), SMALL, strict=True)))]
    teacher = given.maps(dict(zip(range(first, first + 3), shapes, strict=True)))
    sides = [[side[0], *side, logits.teacher[:, :4]] for side in (student, teacher)]
    method = given.method("ofd", *sides, **({} if "total" in entry else {"weight": 1.0}))
    fill_parameters(method, 750)
    for level, margin in enumerate(ofd_margins(given)):
        method.register_buffer(f"margin{level}", margin)
    own, theirs = features(logits.student, *sides[0]), features(logits.teacher, *sides[1])
    loss = loss_of(entry, method, own, theirs, batch_like(logits.labels))
    return Case(loss, student, () if "total" in entry else list(method.parameters()))


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
    student, teacher = learned(given.t(769, BATCH, 24, 16, 16)), given.t(763, BATCH, 24, 16, 16)
    return Case(partial_distance(student, teacher, ofd_margins(given)[0]), [student])


ofd("ofd")
ofd("ofd_larger_teacher", 766, LARGE)
ofd("ofd_total")
CASES["ofd_margins"] = lambda given: Case(None, outputs=ofd_margins(given))
CASES["ofd_level"] = ofd_level


def semckd(given: Given) -> Case:
    student = [learned(each) for each in given.maps(dict(zip((800, 801, 802), SMALL, strict=True)))]
    teacher, pooled = given.maps({803: (24, 16, 16), 804: (48, 8, 8)}, 0.2), given.t(601, BATCH, 4)
    sides = ([side[0], *side, pooled] for side in (student, teacher))
    method = given.method("semckd", *sides, batch_size=BATCH)
    own_parameters, parameters = iter(method.parameters()), []
    for i, (name, shape) in enumerate(LOSSES["semckd"]["parameters"]):
        unused = name.startswith(("query", "key")) and "regressor" in name
        parameter = torch.zeros(shape, requires_grad=True, dtype=given.dtype) if unused else next(own_parameters)
        parameter.data = parameter_value(1100 + i, name, shape).to(given.dtype)
        parameters.append(parameter)
    scaled = [0.2 * each for each in student]
    pairs = zip(method.projections, product(scaled, teacher), strict=True)
    projected = [project(match_sizes(*pair)[0]) for project, pair in pairs]
    return Case(method.loss(scaled, teacher), student, parameters, [method.attention(scaled, teacher), *projected])


CASES["semckd"] = semckd


@cases
def wkdf(
    given: Given, entry: str, s: int, student: tuple[int, ...], teacher: tuple[int, ...], **settings: object
) -> Case:
    logits, maps = given.predictions(), [given.t(s, BATCH, *student), given.t(s + 1, BATCH, *teacher)]
    maps[0] = learned(maps[0])
    sides = [[each, each, logits.teacher[:, :4]] for each in maps]
    method = given.method("wkdf", *sides, weight=1.0, **settings)
    fill_parameters(method, 650)
    projected = method.projector(maps[0])
    own, theirs = (features(logits.teacher, *side) for side in sides)
    loss = loss_of(entry, method, own, theirs, batch_like(logits.labels))
    return Case(loss, [maps[0]], list(method.parameters()), [projected, *method.parts(projected, maps[1])])


wkdf("wkdf", 640, (32, 8, 8), (48, 8, 8), grid=1)
wkdf("wkdf_grid4", 640, (32, 8, 8), (48, 8, 8), grid=4, mean_weight=3.0)
wkdf("wkdf_grid4_7x7", 642, (32, 7, 7), (48, 7, 7), grid=4, mean_weight=2.0)
wkdf("wkdf_imagenet", 642, (32, 7, 7), (48, 7, 7), grid=4, mean_weight=2.0, hidden=64)
wkdf("wkdf_smaller_student", 644, (32, 4, 4), (48, 8, 8), grid=4, mean_weight=3.0)


@cases
def kdpp(given: Given, entry: str, teacher_k: int, means_k: int, width: int = 64) -> Case:
    logits, rows = given.predictions(), torch.linspace(0.3, 1.5, BATCH, dtype=torch.float64)[:, None]
    student = learned((1.5 * given.t(900, BATCH, 64).relu() * rows).to(given.dtype))
    teacher = given.t(teacher_k, BATCH, width).relu()
    method = given.method("kdpp", [student], [teacher], entry, kd_weight=3.5)
    method.means.copy_(given.t(means_k, CLASSES, width).relu())
    parameters, outputs = [], []
    if width > 64:
        fill_parameters(method, 905)
        method.widen[1].eval()
        parameters, outputs = list(method.parameters()), [method.widen(student)]
    sides = features(logits.student, student), features(logits.teacher, teacher)
    loss = loss_of(entry, method, *sides, batch_like(logits.labels))
    return Case(loss, [student, logits.student] if "total" in entry else [student], parameters, outputs)


kdpp("kdpp_nd", 901, 902)
kdpp("kdpp_total_epoch5", 901, 902)
kdpp("kdpp_nd_widened", 910, 911, 128)
