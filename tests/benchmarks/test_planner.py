"""Tests a plan's checks of weights, classes, batches, pairs and image sizes, and its cost, before anything is
trained."""

import hashlib
import json
import re
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml

from benchmarks.commands.main import main
from benchmarks.planning import cost
from benchmarks.planning.cost import Concurrency, PlanCost, makespan, run_multiply_adds
from benchmarks.planning.plan import check_runs, make_plan
from benchmarks.profiles.read import read_profile
from benchmarks.report.tables import escape
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label, run_label, unique_cells
from sskd.config.pretrained import FromFile
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import PUBLISHED_DATASETS, DatasetInfo, dataset_info, load_dataset
from sskd.errors import UserError
from sskd.formatting import duration, plural
from sskd.methods import METHODS, Method, MethodInfo
from sskd.networks import build_network
from sskd.pretext import PRETEXTS
from sskd.runs import settings as published
from sskd.runs.settings import method_settings
from sskd.runs.spec import spec_yaml
from tests import small
from tests.test_run_all import TINY


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"seeds": [0]}))
    return path


def started(profile: Path, *options: str) -> int:
    return main([*options, "--profile", str(profile), "--results", str(profile.parent / "results")])


def no_download(*_: object, **__: object) -> None:
    raise AssertionError("a plan downloads nothing")


def test_the_papers_profile_is_planned_without_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "download", no_download)
    options = ["--profile", "paper", "--dataset-root", str(tmp_path), "--results", str(tmp_path / "r")]
    assert main(["plan", *options, "--only", "comparison"]) == 0
    shown = capsys.readouterr().out
    assert f"cifar100 is not in {tmp_path}: counted as 50,000 images" in shown
    assert "student-resnet20-sskd-cifar100-s0" in shown


def test_published_data_sets_are_as_large_as_is_assumed(tmp_path: Path) -> None:
    """Covers the data sets whose sizes torchvision states. A user's file of the same name is counted itself."""
    assert dataset_info(DatasetSpec(name="cifar100"), tmp_path) == (DatasetInfo(50_000, 100, 32, None, 10_000), True)
    assert dataset_info(DatasetSpec(name="imagenet", crop_size=96), tmp_path) == (
        DatasetInfo(1_281_167, 1000, 96, None, 50_000),
        True,
    )
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert dataset_info(DatasetSpec(name="cifar10"), tmp_path) == (DatasetInfo(50_000, 10, 32, None, 10_000), False)
    images, labels = np.zeros((4, 16, 16, 3), np.uint8), np.arange(4)
    np.savez(tmp_path / "stl10.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    load_dataset.cache_clear()
    found, assumed = dataset_info(DatasetSpec(name="stl10"), tmp_path)
    assert (found.train_images, found.num_classes, found.image_size, assumed) == (4, 4, 16, False)
    assert set(PUBLISHED_DATASETS) >= {
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "svhn",
        "stl10",
        "tiny-imagenet",
        "imagenet",
    }


def test_weights_are_missed_before_anything_trains(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = profile.parent / "resnet8.pth"
    given = {"resnet8": {"network": "resnet8", "weights": str(weights)}}
    settings = ("--set", f"teachers={json.dumps(given)}")
    for options in (["plan"], []):
        assert started(profile, *options, *settings) == 2
        error = capsys.readouterr().err
        assert f"no weights file {weights}" in error
        assert "--set teachers.resnet8.weights=FILE" in error
        assert error.count("\n") == 1
    torch.save(build_network("resnet8", 7).state_dict(), weights)
    for options in (["plan"], []):
        assert started(profile, *options, *settings) == 2
        assert "its classifier has 7 classes" in capsys.readouterr().err
    torch.save(build_network("resnet8", 10).state_dict(), weights)
    assert started(profile, "plan", *settings) == 0
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    given["resnet8"]["sha256"] = digest[::-1]
    assert started(profile, "plan", "--set", f"teachers={json.dumps(given)}") == 2
    assert f"its sha256 is {digest}" in capsys.readouterr().err
    assert not (profile.parent / "results" / "tiny" / "runs").exists()
    assert started(profile, "report", *settings) == 2  # there are no results; it needs no teacher
    assert "nothing to report" in capsys.readouterr().err
    assert started(profile, "status", *settings) == 0


def test_torchvisions_weights_have_the_classes_of_imagenet(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = {"resnet34": {"network": "resnet34", "weights": "torchvision:IMAGENET1K_V1"}}
    options = ["plan", "--set", f"teachers={json.dumps(teacher)}", "pair=resnet34/resnet8", "methods=[kd]"]
    assert started(profile, *options) == 2
    assert "torchvision:IMAGENET1K_V1 has 1000 classes, but the data set has 10" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key", ["recipe", "teacher_recipe", "head_recipe", "method_recipes.sskd", "head_recipes.contrastive"]
)
def test_a_batch_that_is_too_large_is_named_by_its_key(
    key: str, profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (["plan"], []):
        assert started(profile, *options, "--methods", "sskd", "--set", f"{key}.batch_size=1434") == 2
        assert f"run_all: {key}.batch_size is 1434" in capsys.readouterr().err
    assert not (profile.parent / "results" / "tiny" / "runs").exists()


def test_pairs_are_checked_at_the_images_size(tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    @METHODS.register("looks")
    class Looks(Method):
        info = MethodInfo("Looks", "a test", 0, "nothing")
        required_features = frozenset({"labels", "feature_maps"})

        @classmethod
        def check(cls, settings: Any, student: Any, teacher: Any) -> None:
            sizes.append(student.feature_maps[0][1:])

    images, labels = np.zeros((6, 48, 48, 3), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    load_dataset.cache_clear()
    data = {"name": "npz", "path": str(tmp_path / "a.npz")}
    whole, recipe = {"fraction": 1.0}, small.RECIPE | {"batch_size": 4}
    spec = small.spec(small.student("looks", dataset=data, split=whole, recipe=recipe))
    check_runs([spec], read_profile("demo", []), tmp_path)
    assert sizes == [(48, 48)]


PLUGIN = """
from torch import nn
from torch.nn import functional as F
from sskd.methods import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import NETWORKS

@METHODS.register("spoiled")
class Spoiled(Method):
    info = MethodInfo("Spoiled", "a test", 2026, "logits")
    required_features = frozenset({"logits"})
    loss_weights = {"t": 1.0}

    def loss_terms(self, student, teacher, batch):
        return LossTerms({"t": F.mse_loss(student.logits, teacher.logits).item()})

@NETWORKS.register("spoilt")
class Spoilt(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(3, classes)

    def forward(self, images):
        logits = self.fc(images.mean((2, 3)))
        return (logits, logits) if self.training else logits
"""


SPOILT = r"network 'spoilt' \(spoiled.py, line \d+\) on images of 32 x 32: .* a tuple"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "kd,spoiled"), r"method 'spoiled' \(spoiled.py, line 13\) .*: its term 't' is a float"),
        (("--set", "pair=spoilt/resnet8"), SPOILT),
        (("--set", "pair=resnet8/spoilt"), SPOILT),
    ],
)
def test_a_plugins_faults_are_told_before_anything_trains(
    options: tuple[str, ...], said: str, profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = profile.parent / "spoiled.py"
    plugin.write_text(PLUGIN)
    for more in (["plan"], []):
        assert started(profile, *more, "--plugin", str(plugin), *options) == 2
        error = capsys.readouterr().err
        assert re.search(said, error)
        assert error.count("\n") == 1
    assert not (profile.parent / "results" / "tiny" / "runs").exists()


def test_a_trial_is_made_once_for_what_runs_have_in_common(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[str] = []
    monkeypatch.setattr("benchmarks.planning.plan.try_method", lambda spec, *_: tried.append(spec.id))
    specs = [small.spec(small.student("kd", seed=seed)) for seed in range(3)]
    check_runs(specs, read_profile("demo", []), tmp_path)
    assert tried == [specs[0].id]


def test_only_what_is_not_finished_is_checked(profile: Path) -> None:
    """Results are read on machines that have neither the weights nor the images."""
    check_runs([], read_profile("demo", []), profile.parent / "nowhere")
    spec = small.spec(small.student("kd", dataset={"name": "npz", "path": "nowhere.npz"}))
    assert make_plan([spec]).runs
    check_runs([spec], read_profile("demo", []), profile.parent)  # data that is not here is another check's


def test_a_step_costs_three_forward_passes_of_the_student_and_one_of_the_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One for itself, and two for the gradients with respect to activations and weights."""
    forward = {"resnet8": 10.0, "resnet20": 100.0}
    monkeypatch.setattr(cost, "forward_multiply_adds", lambda name, *rest: forward[name])
    given = {"run": small.teacher(network="resnet20")}
    student = small.spec(small.student("kd", teacher=given, split={"fraction": 0.5}))
    data = DatasetInfo(100, 10, 32)
    assert run_multiply_adds(student, data) == 2 * 50 * (3 * 10 + 100)  # two epochs of 50 images
    assert run_multiply_adds(small.spec(given["run"] | {"split": {}}), data) == 2 * 100 * 3 * 100


def test_a_heads_views_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data, head = DatasetInfo(100, 10, 32), small.spec(small.head("rotation"))
    student = small.spec(small.student("sskd", with_head=True))
    before = run_multiply_adds(head, data), run_multiply_adds(student, data)
    for task in ("rotation", "contrastive"):
        monkeypatch.setattr(PRETEXTS[task], "view_transform", lambda settings: SimpleNamespace(views_per_image=2))
    assert (run_multiply_adds(head, data), run_multiply_adds(student, data)) == (before[0] / 2, before[1] / 2)


def test_two_runs_at_one_place_are_refused_and_one_run_named_twice_counts_once(
    profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started(profile, "plan", "--set", "methods=[sskd, {name: sskd, ss_weight: 5.0}]") == 2
    assert "'SSKD', 'resnet8/resnet8'" in capsys.readouterr().err
    small_pairs = ("--set", "pairs={vgg13/vgg8: resnet8/resnet8}", "also=[at]", "fractions=[1.0]")
    assert started(profile, "plan", "--only", "fig4a", "--json", *small_pairs) == 0
    assert started(profile, "plan", "--set", "seeds=[0, 1, 0]") == 2
    assert "seeds: 0 is named twice" in capsys.readouterr().err
    assert started(profile, "plan", "--methods", "kd,at,kd") == 2
    assert "methods: 'kd' is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "variant",
    [
        {"name": "kd", "kd_temperature": 2.0},
        {"name": "sskd", "ss_keep": 0.5},
        {"name": "crd", "negatives": 256},
        {"name": "dkd", "standardise": True},
    ],
)
def test_two_settings_of_one_method_have_labels(variant: dict[str, Any]) -> None:
    def cells(*methods: Any) -> list[Cell]:
        profile = read_profile("paper", [f"methods={json.dumps(methods)}", "seeds=[0,1]"])
        return unique_cells("comparison", BENCHMARKS["comparison"].cells(SpecBuilder(profile)))

    name, title = variant["name"], METHODS[variant["name"]].info.title
    both = cells("none", name, variant | {"label": "the other, T=2"})
    assert list(dict.fromkeys(cell.row for cell in both)) == ["Teacher", "Student", title, "the other, T=2"]
    own = [cell.spec for cell in both if cell.row == "the other, T=2"]
    alone = [cell.spec for cell in cells("none", variant) if cell.spec.learns == name]
    assert [spec.id for spec in own] == [spec.id for spec in alone]  # the label is no part of the run
    assert "label:" not in spec_yaml(own[0])
    assert run_label(own[0]) == "the other, T=2"
    if name != "dkd":  # which has a name of its own for it
        with pytest.raises(UserError, match="give one a label"):
            cells(name, variant)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("methods=[kd, {name: kd, label: again}]", "are one run"),
        ("also=[kd, {name: kd, label: again}]", "are one run"),
        ("methods=[kd, {name: kd, kd_temperature: 2.0, label: SSKD}]", "the title of 'sskd'"),
        ("methods=[{name: kd, label: Teacher}]", "label"),
        ("methods=[{name: kd, label: a|b}]", "label"),
        ("methods=[{name: kd, label: ' a'}]", "label"),
        ("methods=[{name: kd, label: 3}]", "label"),
        ("method_settings={kd: {label: all}}", "method_settings.kd.label"),
    ],
)
def test_labels_that_mislead_are_refused(setting: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_profile("paper", [setting])


def test_names_of_what_is_left_out_and_of_what_is_added(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert method_label(method_settings("sskd", ss_weight=0.0)) == "SSKD, no L_ss"
    assert method_label(method_settings("sskd", ss_weight=0.0, t_weight=0.0)) == "SSKD, no L_T and L_ss"
    assert started(profile, "plan", "--methods", "at,at+kd") == 0
    shown = capsys.readouterr().out
    assert "(AT): absent" in shown
    assert "(AT+KD): absent" in shown
    assert "stage 1: 1 run\n" in shown
    assert "stage 2: 2 runs\n" in shown
    assert [plural(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_overrides_are_validated_as_a_whole(tmp_path: Path) -> None:
    """Each half is allowed: a batch of four, and three processes."""
    path = tmp_path / "p.yaml"
    changes = {"recipe": {"epochs": 1, "processes": 3}, "overrides": {"table3": {"recipe": {"batch_size": 4}}}}
    path.write_text(yaml.safe_dump(TINY | changes))
    with pytest.raises(UserError, match="overrides.table3: recipe: batch_size 4 is too small for 3 processes"):
        read_profile(str(path), [])


def test_given_teachers_of_overrides_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    teacher = {"resnet8": {"network": "resnet8", "weights": "a.pth"}}
    path.write_text(yaml.safe_dump(TINY | {"overrides": {"table3": {"teachers": teacher}}}))
    changed = read_profile(str(path), []).for_benchmark("table3")
    assert isinstance(SpecBuilder(changed).teacher("resnet8"), FromFile)


def test_published_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    method_settings("kd")
    monkeypatch.setattr(published, "read_yaml", no_download)
    assert method_settings("at").name == "at"


def test_text_in_latex() -> None:
    assert escape(r"a\b~c^d_e{f}&%$#") == (r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\_e\{f\}\&\%\$\#")


def test_time_with_several_runs_at_once() -> None:
    """A teacher, then whatever needs it: what others wait for is first, and no run begins before what it needs."""
    alone = [small.spec(small.student("none", teacher=None, seed=seed)) for seed in range(3)]
    kd = small.spec(small.student("kd"))
    plan = make_plan([*alone, kd])
    (teacher,) = kd.dependencies
    seconds = {teacher.id: 5.0, kd.id: 4.0} | {spec.id: 2.0 for spec in alone}
    assert makespan(plan, seconds, 1, 1) == sum(seconds.values())
    assert makespan(plan, seconds, 2, 2) == 9  # 5 + 4 beside 2 + 2 + 2
    assert makespan(plan, seconds, 8, 8) == 9
    assert makespan(plan, seconds, 8, 1) == sum(seconds.values())  # all share one GPU
    # two to a GPU: after four seconds all but the teacher are done, and it is alone for its last three
    assert makespan(plan, seconds, 4, 2) == 4 + 3 + 4
    del seconds[teacher.id]  # finished
    assert makespan(plan, seconds, 2, 2) == 6


@pytest.mark.parametrize(
    ("concurrency", "alone", "told"),
    [
        (Concurrency(1, 1), True, "about 2 h sequentially, at"),
        (Concurrency(2, 1), True, "1 h with 2 in parallel, at"),
        (Concurrency(4, 2), True, "1 h with 4 in parallel (if sharing a GPU or the cores gains nothing), at"),
        (Concurrency(4, 2), False, "1 h with 4 in parallel (if as many finished runs ran in parallel), at"),
    ],
)
def test_what_is_told_of_runs_at_once(concurrency: Concurrency, alone: bool, told: str) -> None:
    cost = PlanCost({}, {}, 7200.0, 1e9, "as 3 finished runs had", "", concurrency, 3600.0, alone)
    assert told.replace("1 h", duration(3600)).replace("2 h", duration(7200)) in cost.text


# --- on what an estimate of time rests ------------------------------------------------------------------------------

TRAINED_HERE = {"seconds": 10.0, "machine": {"driver": None}}
TRAINED_ON_A_GPU = {"seconds": 1.0, "machine": {"driver": "550", "device": "NVIDIA A100-SXM4-80GB"}}


@pytest.mark.parametrize(
    ("gpus", "result", "rate", "words"),
    [
        (True, None, cost.ASSUMED_GPU_THROUGHPUT, "assumed: 10 TFLOP/s per GPU"),
        (True, TRAINED_HERE, cost.ASSUMED_GPU_THROUGHPUT, "assumed: 10 TFLOP/s per GPU"),
        (True, TRAINED_ON_A_GPU, "as it had", "per GPU (from 1 finished run)"),
        (False, TRAINED_ON_A_GPU, 7.0, "measured now, training resnet8 on this machine's CPU"),
        (False, TRAINED_HERE, "as it had", "(from 1 finished run)"),
        (None, TRAINED_ON_A_GPU, "as it had", "per GPU (from 1 finished run)"),
        (None, TRAINED_HERE, "as it had", "(from 1 finished run)"),
        (None, None, 7.0, "measured now"),
    ],
)
def test_a_cpus_speed_says_nothing_of_gpus(
    gpus: bool | None,
    result: dict[str, Any] | None,
    rate: float | str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cost, "measure_throughput", lambda *_: 7.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one, other = (small.spec(small.student("none", teacher=None, seed=seed)) for seed in (0, 1))
    plan = make_plan([one, other])
    if result:
        (tmp_path / one.id).mkdir()
        (tmp_path / one.id / "result.json").write_text(json.dumps(result))
    found = cost.plan_cost(plan, tmp_path, read_profile("demo", []), Concurrency(1, 1, gpus, 2.0))
    expected = found.multiply_adds[one.id] / result["seconds"] if result and rate == "as it had" else rate
    assert found.throughput == pytest.approx(expected)
    assert words in found.text
    assert found.seconds[other.id] == pytest.approx(found.multiply_adds[other.id] / found.throughput + 2.0)  # to start


@pytest.mark.parametrize(
    ("gpu", "rate", "words"),
    [
        ("a100", None, "per GPU (from 1 finished run)"),
        ("H100", cost.ASSUMED_GPU_THROUGHPUT, "H100"),
    ],
)
def test_a_named_gpu_has_the_rate_of_runs_that_had_such_a_one(
    gpu: str, rate: float | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one, other = (small.spec(small.student("none", teacher=None, seed=seed)) for seed in (0, 1))
    (tmp_path / one.id).mkdir()
    (tmp_path / one.id / "result.json").write_text(json.dumps(TRAINED_ON_A_GPU))
    found = cost.plan_cost(
        make_plan([one, other]), tmp_path, read_profile("demo", []), Concurrency(2, 1, True, gpu=gpu)
    )
    assert found.throughput == pytest.approx(rate or found.multiply_adds[one.id])
    assert words in found.text


@pytest.mark.parametrize("options", [("--count", "2"), ("--gpu", "A100", "--count", "0")])
def test_a_number_of_gpus_needs_their_name(options: tuple[str, ...], profile: Path) -> None:
    assert main(["plan", "--profile", str(profile), *options]) == 2


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("gpus", [True, False])
def test_the_processes_of_a_run_have_a_gpu_each_or_share_the_cores(
    processes: int, gpus: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measure_throughput", lambda *_: 7.0)
    recipe = small.RECIPE | {"batch_size": 32, "processes": processes}
    plan = make_plan([small.spec(small.student("none", teacher=None, recipe=recipe))])
    found = cost.plan_cost(plan, tmp_path, read_profile("demo", []), Concurrency(1, 1, gpus, 0.0))
    assert found.left == pytest.approx(
        sum(found.multiply_adds.values()) / found.throughput / (processes if gpus else 1)
    )


@pytest.mark.parametrize(("name", "size", "batch"), [("resnet8", 32, 4), ("resnet20", 64, 256)])
def test_the_rate_is_that_of_training_steps(name: str, size: int, batch: int) -> None:
    """A smaller batch is timed for a large network."""
    assert 1e6 < cost.measure_throughput(name, size, batch, seconds=0.0) < 1e14


@pytest.mark.parametrize("setting", ["teacher_seeds=false", "teacher_seeds=true"])
@pytest.mark.parametrize("method", ["none", "sskd"])
def test_seeds_of_a_cell_are_as_if_each_were_made_alone(setting: str, method: str) -> None:
    specs = SpecBuilder(read_profile("paper", ["seeds=[3,0,7]", setting]))
    settings, pair = specs.method(method), ("resnet56", "resnet20")
    alone = [specs.student(pair, settings, seed) for seed in (3, 0, 7)]
    made = [cell.spec for cell in specs.students("/".join(pair), "row", "column", settings)]
    assert made == alone
    assert [spec.id for spec in made] == [spec.id for spec in alone]
    whole = alone[0].model_dump(mode="json", exclude_defaults=True)
    assert alone[0].id.endswith(hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12])


def test_what_else_uses_the_machine_does_not_change_the_measured_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step waits here for several times as long as it takes. It is long enough that cold caches after the wait do
    not matter."""
    measure = partial(cost.measure_throughput.__wrapped__, "resnet8", 32, 16, seconds=0.2)
    alone, resolve = measure(), cost.resolve_precision
    monkeypatch.setattr(cost, "resolve_precision", lambda *given: (time.sleep(0.03), resolve(*given))[1])
    assert measure() > alone / 2
