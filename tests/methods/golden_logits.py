"""Golden cases of the methods that compare predictions."""

import torch

from sskd.methods import LossTerms
from sskd.methods.luminet import perception
from sskd.methods.sdd import region_logits
from sskd.methods.wkdl import class_distances, transport_costs, wasserstein
from tests.golden import BATCH, CLASSES
from tests.methods.given import CASES, Case, Given, batch_like, cases, features, learned, loss_of


@cases
def of_logits(given: Given, entry: str, name: str, *terms: str, first: int = 600, **settings: object) -> Case:
    """A method of logits: its terms, or with "total" in the entry the objective."""
    classes = 1000 if first == 330 else CLASSES
    student, teacher, labels, *_ = given.predictions(first, classes)
    method = given.method(name, entry=entry, **settings)
    if name == "wkdl":
        method.distances.copy_(distances(given))
    loss = loss_of(entry, method, features(student), features(teacher), batch_like(labels), terms)
    return Case(loss, [student, *method.parameters()])


@cases
def of_views(given: Given, entry: str, name: str, *terms: str, first: int = 600, **settings: object) -> Case:
    """A method of a weak and a strong view: image j's are in rows 2j and 2j + 1."""
    student, teacher, labels, strong_student, strong_teacher = given.predictions(first)
    rows = [torch.stack(pair, 1).flatten(0, 1) for pair in ((student, strong_student), (teacher, strong_teacher))]
    method = given.method(name, **settings)
    loss = loss_of(entry, method, features(rows[0]), features(rows[1]), batch_like(labels, 2), terms)
    return Case(loss, [student, strong_student])


of_logits("kd_T4", "kd", "kd", first=1, kd_weight=1.0)
of_logits("dkd", "dkd", first=200)
of_logits("dkd_beta2", "dkd", first=200, nckd_weight=2.0)
of_logits("dkd_target_part", "dkd", first=200, nckd_weight=0.0)
of_logits("dkd_total_epoch5", "dkd", first=200)
of_logits("lskd_dkd", "dkd", first=200, standardise=True)
of_logits("lskd_kd", "kd", "kd", first=200, standardise=True, kd_weight=1.0)
of_logits("lskd_kd_total", "kd", first=200, standardise=True)
of_logits("dist_t1", "dist", first=200, temperature=1.0, inter_weight=1.0, intra_weight=1.0)
of_logits("dist_t4", "dist", first=200, inter_weight=1.0, intra_weight=1.0)
of_logits("ttm_0.1", "ttm", first=200, weight=1.0, gamma=0.1)
of_logits("wttm_0.2", "wttm", first=200, weight=1.0, gamma=0.2)
of_logits("nkd_imagenet", "nkd", first=200, temperature=1.0, others_weight=1.5)
of_logits("nkd_cifar", "nkd", first=200)
of_logits("wsld_cifar_total", "wsld", first=200)
of_logits("wsld_imagenet_total", "wsld", first=330, temperature=2.0, weight=2.5)
for epoch in (1, 5, 10):
    of_logits(f"ctkd_epoch{epoch}", "ctkd", first=200, weight=1.0)
of_logits("lskd_ctkd_epoch5", "ctkd", first=200, weight=1.0, standardise=True)
of_logits("ctkd_total_epoch5", "ctkd", first=200)
of_views("mlkd_ce", "mlkd", "ce", "ce_strong", first=200)
of_views("mlkd_kd", "mlkd", "instance", first=200)
of_views("mlkd_cc", "mlkd", "class", first=200)
of_views("mlkd_bc", "mlkd", "batch", first=200)
of_views("mlkd_total", "mlkd", first=200)
of_views("lskd_mlkd_total", "mlkd", first=200, standardise=True)

of_logits("rld", "rld")
of_logits("rld_same_t", "rld", sample_temperature=4.0)
of_logits("rld_sample_part", "rld", "sample")
of_logits("rld_masked_part", "rld", "masked", masked_weight=1.0)
of_logits("rld_imagenet", "rld", temperature=1.0, masked_weight=0.5)
of_logits("rld_standardised", "rld", standardise=True)
of_logits("rld_total_epoch5", "rld")
of_logits("normkd_t2", "normkd", weight=1.0)
of_logits("normkd_t1", "normkd", weight=1.0, deviations=1.0)
of_logits("normkd_total", "normkd")
of_logits("normkd_dkd", "normkd", host="dkd")
of_logits("normkd_dkd_total_epoch5", "normkd", host="dkd")
of_logits("luminet", "luminet")
of_logits("luminet_imagenet", "luminet", weight=4.0, temperature=0.7)
of_logits("luminet_total_epoch5", "luminet")
of_logits("wkdl", "wkdl")
of_logits("wkdl_imagenet", "wkdl", weight=30.0, temperature=2.0, sharpness=2.0)
of_logits("wkdl_total_epoch150", "wkdl")
of_logits("wkdl_total_epoch200", "wkdl")
of_views("crld_ce", "crld", "ce", "ce_strong")
of_views("crld_within", "crld", "within", within_weight=1.0)
of_views("crld_across", "crld", "across", across_weight=1.0)
of_views("crld_total", "crld")
of_views("crld_imagenet_total", "crld", ce_weight=2.0, temperature=1.0)


def nothing_left(given: Given) -> Case:
    student, teacher, labels, *_ = given.predictions()
    teacher[torch.arange(BATCH), labels] -= 100
    method = given.method("rld")
    return Case(loss_of("", method, features(student), features(teacher), batch_like(labels)), [student])


def perceptions(given: Given) -> Case:
    return Case(None, outputs=[perception(logits) for logits in given.predictions()[:2]])


def distances(given: Given) -> torch.Tensor:
    raw = 0.4 * given.t(631, CLASSES, CLASSES).abs()
    return ((raw + raw.T) / 2).fill_diagonal_(0)


def flow_free(given: Given) -> Case:
    student, teacher, *_ = given.predictions()
    shares = ((logits / 8).softmax(1) for logits in (student, teacher))
    return Case(wasserstein(*shares, transport_costs(distances(given), 1.0)), [student])


CASES["rld_nothing_left"] = nothing_left
CASES["luminet_perception"] = perceptions
CASES["wkdl_flow_free"] = flow_free
CASES["wkdl_distance"] = lambda given: Case(None, outputs=[class_distances(given.t(630, 5, 24, 16))])


@cases
def of_regions(given: Given, entry: str, host: str, which: str) -> Case:
    entry = f"sdd_{host}_{which}"
    labels, teacher = given.predictions().labels, 3 * given.t(617, BATCH, CLASSES, 21)
    wrong = (torch.arange(BATCH)[:, None] + torch.arange(21)) % 3 == 0
    teacher.scatter_add_(1, labels[:, None, None].expand(BATCH, 1, 21), (12.0 * ~wrong[:, None]).to(teacher))
    count = 5 if which == "12" else 21
    student = learned(3 * given.t(616, BATCH, CLASSES, 21)[:, :, :count])
    method = given.method("sdd", entry=entry, host=host, **({} if "total" in which else {"weight": 1.0}))
    regions = student.transpose(1, 2), teacher[:, :, :count].transpose(1, 2)
    method.loss_terms = lambda *_: LossTerms(method.losses(*regions, labels))
    sides = features(student[:, :, 0]), features(teacher[:, :, 0])
    return Case(loss_of(entry, method, *sides, batch_like(labels)), [student])


@cases
def regions_of(given: Given, entry: str, k: int, size: int) -> Case:
    found = region_logits(given.t(k, BATCH, 64, size, size), given.head(614, 64), (1, 2, 4)).transpose(1, 2)
    return Case(None, outputs=[found, *(found[:, :, n] for n in (0, 1, 4, 5, 20))])


for host in ("kd", "dkd", "nkd"):
    for which in ("124", "12", "total_epoch5"):
        of_regions(f"sdd_{host}_{which}", host, which)
for k, size in ((610, 8), (611, 4), (612, 2), (613, 7)):
    regions_of(f"sdd_regions_{size}", k, size)
