"""Extreme values: what no run can have is refused when the plan is made, in one line, and never by a run that fails."""

from pathlib import Path

import pytest

from benchmarks.planning.memory import device_memory, view_bytes, views_of
from benchmarks.planning.plan import check_runs
from benchmarks.profiles.read import read_profile
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.spec import RunSpec
from tests import small

GB = 1e9


def planned(*settings: str, room: float = 16 * GB) -> list[RunSpec]:
    """An SSKD student of the demo's profile with these settings, and what it needs, as a plan checks them."""
    specs = SpecBuilder(profile := read_profile("demo", list(settings)))
    student = specs.student(("resnet14", "resnet8"), specs.method("sskd"), 0, pretext=specs.pretext("contrastive"))
    runs = [*student.head.dependencies, student.head, student] if student.head else [student]  # type: ignore[list-item]
    check_runs(runs, profile, Path("data"), room)
    return runs


def test_what_the_demo_has_is_accepted() -> None:
    assert len(planned()) == 3
    assert len(planned("recipe.crop_padding=8", "recipe.batch_size=256", "recipe.learning_rate=30")) == 3


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("recipe.crop_padding=100000", "recipe.crop_padding"),
        ("recipe.crop_padding=16", "recipe.crop_padding"),  # the images have 16 pixels: a crop could miss them
        ("head_recipe.crop_padding=4000", "crop_padding"),
        ("teacher_recipe.crop_padding=17", "crop_padding"),
        ('network_settings={"resnet8": {image_size: 4096}}', "image_size"),
        ('network_settings={"resnet14": {image_size: 4000}}', "image_size"),
        ('network_settings={"resnet8": {image_size: 100000}}', "image_size"),
        ('network_settings={"resnet8": {image_size: 1}}', "image_size"),
        ("dataset={name: imagenet, crop_size: 1000000}", "crop_size"),
        ("dataset={name: imagenet, cache_size: 1000000}", "cache_size"),
        ('method_settings={"sskd": {kd_temperature: 1.0e+308}}', "kd_temperature"),
        ('method_settings={"sskd": {t_temperature: 1.0e-300}}', "t_temperature"),
        ('method_settings={"sskd": {ss_weight: 1.0e+30}}', "ss_weight"),
        ('method_settings={"sskd": {ce_weight: .inf}}', "ce_weight"),
        ('pretext_settings={"contrastive": {temperature: 1.0e+200}}', "temperature"),
        ("recipe.batch_size=1000000000", "batch_size"),
        ("recipe.batch_size=5000", "batch_size"),
        ("recipe.epochs=1000000000", "epochs"),
        ("recipe.full_epochs=1000000000000", "full_epochs"),
        ("recipe.milestones=[1000000000000000]", "milestones"),
        ("recipe.learning_rate=1e30", "learning_rate"),
        ("recipe.learning_rate=.nan", "learning_rate"),
        ("recipe.learning_rate=.inf", "learning_rate"),
        ("learning_rates={resnet8: 1e30}", "learning_rates"),
        ("recipe.decay=1e300", "decay"),
        ("recipe.weight_decay=1e300", "weight_decay"),
        ("recipe.processes=1000000", "processes"),
        ("execution.workers=10000", "workers"),
        ("execution.threads=1000000", "threads"),
        ("probe.iterations=1000000000", "iterations"),
        ("step_costs={sskd: 1e300}", "step_costs"),
        ("split.holdout=1.0", "holdout"),
        ("split={fraction: 0.01, holdout: 0.5}", "holdout"),  # one or two images of each class
        ("split={fraction: 0.03, holdout: 0.9}", "batch_size"),  # one image of each class is left
    ],
)
def test_extremes_are_refused_by_name(setting: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        planned(setting)
    assert "\n" not in str(error.value)


def test_a_batch_is_measured_against_the_memory_there_is() -> None:
    large = 'network_settings={"resnet8": {image_size: 512}}'
    assert planned(large, room=200 * GB)
    with pytest.raises(UserError, match=r"32 images in 4 views of 512 x 512 pixels take at least \d+ GB"):
        planned(large, room=2 * GB)
    assert planned(large, "recipe.batch_size=2", room=2 * GB)
    assert 1e8 < device_memory(Execution(device="cpu")) < 1e14


def test_the_estimate_lies_below_what_is_kept() -> None:
    """resnet8 on one view of 32 x 32, in float32: its convolutions give 16 x 32 x 32 three times, and so on."""
    spec = small.spec(small.student("kd"))
    convolutions = 3 * 16 * 32**2 + 3 * 32 * 16**2 + 3 * 64 * 8**2  # two in each block and one before or beside them
    pixels = 3 * (32 + 8) ** 2 + 12 * 32**2
    assert view_bytes(spec, 32) == pixels + 4 * (convolutions + 2)
    assert views_of(spec) == 1
    assert views_of(small.spec(small.student("sskd", with_head=True))) == 4
