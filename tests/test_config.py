"""SpecBuilder: validation with the key's path, overrides, and ids that follow from meaning alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sskd.config.execution import Execution
from sskd.config.recipe import Recipe, SplitSpec
from sskd.config.settings import MethodSettings, PretextSettings
from sskd.config.validation import from_dict
from sskd.config.yaml import override
from sskd.errors import UserError
from sskd.runs.spec import RunSpec, parse_spec, read_spec, spec_yaml
from tests import small

RESULTS = Path(__file__).parent.parent / "results"

HEAD: dict[str, Any] = {
    "role": "head",
    "network": "resnet14",
    "dataset": {"name": "digits"},
    "pretext": "contrastive",
    "teacher": {"run": {"role": "teacher", "network": "resnet14", "dataset": {"name": "digits"}}},
}
STUDENT: dict[str, Any] = {
    "role": "student",
    "network": "resnet8",
    "dataset": {"name": "digits"},
    "method": {"name": "sskd"},
    "teacher": HEAD["teacher"],
    "head": HEAD,
}


def spec(data: dict[str, Any]) -> RunSpec:
    return parse_spec(data, "here")


def changed(path: str, value: Any) -> dict[str, Any]:
    return override(STUDENT, [f"{path}={json.dumps(value)}"])


def test_ids_follow_meaning() -> None:
    plain = spec(STUDENT)
    written_out = yaml.safe_load(spec_yaml(plain))
    backwards = dict(reversed(written_out.items()))
    assert spec(written_out).id == spec(backwards).id == plain.id
    assert spec(changed("recipe.learning_rate", 0.05)).id == plain.id  # the default, written
    assert spec(changed("method.ss_weight", 10)).id == plain.id  # 10 and 10.0 mean the same
    for path, value in (
        ("seed", 1),
        ("recipe.epochs", 3),
        ("method.ss_keep", 0.5),
        ("split.noise", 0.1),
        ("dataset.name", "cifar10"),
    ):
        assert spec(changed(path, value)).id != plain.id
    other_teacher = json.loads(json.dumps(STUDENT).replace('"resnet14", "dataset"', '"resnet20", "dataset"'))
    assert spec(other_teacher).id != plain.id


def test_a_changed_copy_has_an_id_of_its_own() -> None:
    spec = small.spec(small.student("kd"))
    first = spec.id
    again = spec.model_copy(update={"seed": 7})
    assert again.id == small.spec(small.student("kd", seed=7)).id != first


def test_pinned_ids() -> None:
    """An id must never change: results in the world are found by it. If this fails, a default of a spec's field or a
    published setting was changed; give the new meaning a new field or value instead."""
    assert spec(HEAD["teacher"]["run"]).id == "teacher-resnet14-digits-s0-ef7aae50eb44"
    assert spec(HEAD).id == "head-resnet14-contrastive-digits-s0-80080400fb82"
    assert spec(STUDENT).id == "student-resnet8-sskd-digits-s0-5ee760a94891"


def test_ids_of_committed_results() -> None:
    """Their specs name settings that are no more, and are read; their ids are the names of their folders."""
    committed = list(RESULTS.glob("*/runs/*/spec.yaml"))
    assert any("loss_over" in path.read_text() for path in committed)
    assert [path for path in committed if read_spec(path).id != path.parent.name] == []


def test_removed_settings() -> None:
    """Read where they meant what is always done, or changed no number; refused where they meant another run."""
    assert spec(changed("recipe.loss_over", "batch")).id == spec(STUDENT).id
    with pytest.raises(UserError, match="^here: recipe: 'loss_over' .* 'batch'"):
        spec(changed("recipe.loss_over", "process"))
    old = {"keep_memory": False, "native": True, "together": 3, "offload_activations": True, "threads": 2}
    assert from_dict(Execution, old, "x") == Execution(threads=2)


DEFAULTS: dict[Any, str] = {
    Recipe(): "epochs=240 batch_size=64 learning_rate=0.05 milestones=[150, 180, 210] full_epochs=240 decay=0.1 "
    "momentum=0.9 weight_decay=0.0005 crop_padding=4 flip=True optimizer=sgd nesterov=False betas=[0.9, 0.999] "
    "schedule=step warmup_epochs=0.0 augmentation=standard cutout_size=8 label_smoothing=0.0 mixup=0.0 cutmix=0.0 "
    "ema=0.0 precision=auto processes=1",
    SplitSpec(): "fraction=1.0 noise=0.0 seed=0 holdout=0.0 labels=None indices=None",
    PretextSettings(name="x"): "name=x transformation=rotation",
    MethodSettings(name="x"): "name=x ce_weight=1.0 kd_weight=0.0 kd_temperature=4.0 divergence=kl warmup_epochs=0.0",
}


@pytest.mark.parametrize("model", DEFAULTS, ids=lambda model: type(model).__name__)
def test_pinned_defaults(model: Any) -> None:
    """Ids leave defaults out, so a changed default would change what old ids mean."""
    assert " ".join(f"{key}={value}" for key, value in model.model_dump(mode="json").items()) == DEFAULTS[model]


def test_weights_of_known_content_may_lie_anywhere() -> None:
    def with_teacher(**teacher: str) -> str:
        data = {key: value for key, value in STUDENT.items() if key != "head"} | {"method": "kd"}
        return spec(data | {"teacher": {"network": "resnet14", **teacher}}).id

    assert with_teacher(weights="a.pth", sha256="0f") == with_teacher(weights="b/c.pth", sha256="0f")
    assert with_teacher(weights="a.pth") != with_teacher(weights="b/c.pth")
    assert with_teacher(weights="a.pth", sha256="0f") != with_teacher(weights="a.pth", sha256="1f")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("recipe.epochs", "3", "recipe.epochs: Input should be a valid integer, found '3'"),
        ("recipe.epochs", 0, "recipe.epochs: Input should be greater than 0"),
        ("split.fraction", 1.5, "split.fraction: "),
        ("method.ss_wieght", 1, "method: unknown key 'ss_wieght'; did you mean 'ss_weight'?"),
        ("head.pretext", "contrastve", "unknown pretext 'contrastve'; did you mean 'contrastive'?"),
        ("head.teacher.run.recipe.epochs", 5, "the head must belong to the student's teacher"),
        ("head", None, "the method 'sskd' needs a 'head'"),
        ("teacher", None, "needs a 'teacher'|must belong"),
        ("teacher.run.role", "student", "teacher.run.method: Field required"),
        ("role", "pupil", "role: Input should be 'teacher', 'head' or 'student'"),
    ],
)
def test_refused_with_the_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^here: .*({message.replace('?', '[?]')})") as error:
        spec(changed(path, value))
    assert "\n" not in str(error.value)


def test_overrides_are_yaml_and_leave_the_original() -> None:
    data = {"a": {"b": 1}}
    assert override(data, ["a.b=[1, 2]", "a.c.d=true", "e=x"]) == {
        "a": {"b": [1, 2], "c": {"d": True}},
        "e": "x",
    }
    assert data == {"a": {"b": 1}}


def test_read_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(spec_yaml(spec(STUDENT)))
    assert read_spec(path) == spec(STUDENT)
    with pytest.raises(UserError, match="no such file"):
        read_spec(tmp_path / "none.yaml")
