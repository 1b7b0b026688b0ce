"""The presets published_code and paper_text: what they set, what wins over them, and their losses on one batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.data.batch import Batch
from sskd.data.transformations import PaperTransformations
from sskd.data.views import Rotations
from sskd.methods import METHODS, MethodContext
from sskd.networks import Features, FeatureShapes, build_network
from sskd.pretext import PRETEXTS, PretextContext
from sskd.runs.spec import FromRun
from tests import golden

IMAGES = 8


def specs(*settings: str) -> SpecBuilder:
    return SpecBuilder(read_profile("smoke", list(settings)))


def sskd_cell(made: SpecBuilder, benchmark: str = "comparison") -> Cell:
    return next(cell for cell in BENCHMARKS[benchmark].cells(made) if cell.row == "SSKD")


def test_published_code_is_the_default_and_leaves_ids_as_they_are() -> None:
    plain, named = sskd_cell(specs()).spec, sskd_cell(specs("preset=published_code")).spec
    assert plain is not None
    assert named is not None
    assert plain.id == named.id
    assert plain.head is not None
    assert isinstance(PRETEXTS["contrastive"].view_transform(plain.head.pretext), Rotations)


@pytest.mark.parametrize("benchmark", ["comparison", "table3"])
def test_paper_text_is_explicit_in_every_run(benchmark: str) -> None:
    """The preset's settings are in the specs of the comparison and of a table, so their ids differ."""
    paper_text, published = (
        sskd_cell(specs(f"preset={name}"), benchmark).spec for name in ("paper_text", "published_code")
    )
    assert paper_text is not None
    assert published is not None
    method: Any = paper_text.method
    assert (method.t_weight, method.ss_weight, method.t_keep) == (10, 2.7, 1)
    assert method.divergence == "cross_entropy"
    assert paper_text.head is not None
    task: Any = paper_text.head.pretext
    assert (task.transformation, task.temperature) == ("paper", 0.5)
    assert isinstance(PRETEXTS["contrastive"].view_transform(task), PaperTransformations)
    assert isinstance(paper_text.teacher, FromRun)
    assert paper_text.teacher.epoch == "last"
    assert isinstance(published.teacher, FromRun)
    assert published.teacher.epoch == "best"
    assert paper_text.id != published.id
    assert published.head is not None
    assert paper_text.head.id != published.head.id


def test_what_the_profile_says_wins() -> None:
    made = specs(
        "preset=paper_text",
        "method_settings.sskd.t_weight=5.0",
        "pretext={name: contrastive, transformation: rotation}",
        "teacher_epoch=best",
    )
    method: Any = made.method("sskd", ss_weight=1.0)
    assert (method.t_weight, method.ss_weight, method.divergence) == (5, 1, "cross_entropy")
    task: Any = made.profile.pretext
    assert (task.transformation, task.temperature) == ("rotation", 0.5)
    assert made.pretext("contrastive") == task
    assert made.pretext("exemplar").transformation == "paper"
    assert made.pretext("jigsaw").transformation == "rotation"  # not used: its views are the puzzles
    spec = sskd_cell(made).spec
    assert isinstance(spec.teacher, FromRun)
    assert spec.teacher.epoch == "best"


def test_one_benchmarks_own_setting_keeps_the_rest_of_the_preset() -> None:
    profile = read_profile("smoke", ["preset=paper_text", "overrides.table3.method_settings.sskd.ss_keep=0.5"])
    method: Any = SpecBuilder(profile.for_benchmark("table3")).method("sskd")
    assert (method.ss_keep, method.t_weight) == (0.5, 10)


def losses(preset: str) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Every loss of a preset on the golden SSKD inputs (eight images in four views), and the student's inputs."""
    made = specs(f"preset={preset}")
    student = [(3 * golden.tensor(60, 32, 100)).requires_grad_(), golden.tensor(62, 32, 64).requires_grad_()]
    teacher, output = 3 * golden.tensor(61, 32, 100), golden.tensor(63, 32, 64)
    labels = golden.labels(64, IMAGES, 100)
    for j in range(IMAGES):
        for k in (1, 2):
            output[4 * j + k] = (0.9 if j % 2 else 0.3) * output[4 * j] + 0.8 * output[4 * j + k]
            teacher[4 * j + k, labels[j]] += 4
    task: Any = PRETEXTS["contrastive"](made.profile.pretext, PretextContext(64, IMAGES))
    task.layers = torch.nn.Identity()
    context = MethodContext(
        student=build_network("resnet8", 100),
        student_shapes=FeatureShapes("resnet8", (), 64),
        num_classes=100,
        labels=torch.zeros(IMAGES, dtype=torch.int64),
        head=task,
    )
    method: Any = METHODS["sskd"](made.method("sskd"), context)
    method.head.layers = torch.nn.Identity()
    batch = Batch(torch.zeros(32, 3, 1, 1), labels, torch.arange(IMAGES), None, torch.Generator())
    total, terms = method(Features(student[0], (), student[1], ()), Features(teacher, (), output, ()), batch)
    return {"head": task.loss(student[1], batch)[0], **terms.losses, "total": total}, student


def test_the_two_presets_on_one_batch() -> None:
    (code, code_inputs), (paper, paper_inputs) = losses("published_code"), losses("paper_text")
    # 3: the head's loss, at temperatures 1 and 0.5
    assert code["head"].item() != pytest.approx(paper["head"].item(), rel=1e-3)
    # not among the differences
    assert code["ce"].item() == paper["ce"].item()
    # 4: other values, the same gradient
    for name in ("kd", "t", "ss"):
        assert paper[name] > code[name] + 0.1
        column = 1 if name == "ss" else 0
        found, expected = (
            torch.autograd.grad(terms[name], inputs[column], retain_graph=True)[0]
            for terms, inputs in ((code, code_inputs), (paper, paper_inputs))
        )
        torch.testing.assert_close(found, expected)
    # 2: the weights, swapped
    assert code["total"].item() == pytest.approx(weighted(code, t=2.7, ss=10.0))
    assert paper["total"].item() == pytest.approx(weighted(paper, t=10.0, ss=2.7))


def weighted(terms: dict[str, Tensor], t: float, ss: float) -> float:
    return sum(w * terms[n].item() for n, w in {"ce": 0.1, "kd": 0.9, "t": t, "ss": ss}.items())
