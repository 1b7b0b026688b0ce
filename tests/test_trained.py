"""A trained network in another script, and the trainer by itself with a user's own files."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from sskd import load_student
from sskd.__main__ import main
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError
from sskd.methods import METHODS, Method
from sskd.networks import NETWORKS, Network
from sskd.runs.plugins import load_plugin
from sskd.runs.spec import spec_yaml
from tests import small

OWN = """
from torch import nn
from torch.nn import functional as F
from sskd.methods import METHODS, Method, MethodInfo, LossTerms
from sskd.networks import NETWORKS, Features, Network


@NETWORKS.register("own_flat")
class Flat(Network):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.fc = nn.Linear(8, num_classes)

    def features(self, images):
        before = self.conv(images)
        pooled = F.relu(before).mean((2, 3))
        return Features(self.fc(pooled), (F.relu(before),), pooled, (before,))


@METHODS.register("own_alone")
class Alone(Method):
    info = MethodInfo("Alone", "a test", 2026, "nothing")
    needs_teacher = False

    def loss_terms(self, student, teacher, batch):
        return LossTerms({})
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def forget() -> None:
    """The plugin, as in a new process."""
    for name in [name for name in sys.modules if name.startswith("plugin_own")]:
        del sys.modules[name]
    METHODS._entries.pop("own_alone", None)
    NETWORKS._entries.pop("own_flat", None)


def test_a_trained_network_in_a_script(runs: Path, tmp_path: Path) -> None:
    assert not (runs / small.spec(small.head()).id / "network.json").exists()  # heads have none
    spec = small.spec(small.student("kd"))
    small.link_needs(runs, tmp_path, spec)
    result = small.train_all(spec, tmp_path)
    data = load_dataset(spec.dataset, Path("data"))
    for epoch in ("best", "last"):
        net, info = load_student(tmp_path / spec.id, epoch)
        assert not net.training
        with torch.inference_mode():
            right = net(info.normalise(data.test_images)).argmax(1) == data.test_labels
        assert 100 * right.float().mean().item() == pytest.approx(result[epoch]["test_top1"], abs=0.01)
    assert (info.network, info.image_size, info.class_names) == ("resnet8", 32, data.class_names)
    assert (info.mean, info.std) == (data.mean, data.std)
    teacher = next(tmp_path.glob("teacher-*"))
    assert load_student(teacher)[1] == info


def test_what_is_no_student(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run folder"):
        load_student(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no network.json"):
        load_student(tmp_path)
    for damaged in ("[]", "{}", '{"network": 3}'):
        (tmp_path / "network.json").write_text(damaged)
        with pytest.raises(UserError, match=r"network.json: "):
            load_student(tmp_path)


def test_train_evaluate_and_load_what_is_ones_own(
    plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_plugin(plugin)
    spec = small.spec(small.student("own_alone", network="own_flat", teacher=None))
    (tmp_path / "spec.yaml").write_text(spec_yaml(spec))
    forget()
    command = ["train", str(tmp_path / "spec.yaml"), "--runs", str(tmp_path / "runs")]
    assert main(command) == 2
    assert "own_" in capsys.readouterr().err
    assert main([*command, "--plugin", str(plugin)]) == 0
    run = tmp_path / "runs" / spec.id
    result = json.loads((run / "result.json").read_text())
    assert [entry["path"] for entry in result["machine"]["plugins"]] == [str(plugin)]
    forget()
    capsys.readouterr()
    evaluate = ["evaluate", "--network", "own_flat", "--weights", str(run / "best.safetensors"), "--dataset", "digits"]
    evaluate += ["--precision", "fp32", "--json"]
    assert main(evaluate) == 2
    assert "unknown network 'own_flat'" in capsys.readouterr().err
    assert main([*evaluate, "--plugin", str(plugin)]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == pytest.approx(result["best"]["test_top1"])
    forget()
    with pytest.raises(UserError, match="unknown network 'own_flat'"):
        load_student(run)
    assert load_student(run, plugins=[plugin])[1].network == "own_flat"


@pytest.mark.slow
def test_several_processes_load_what_is_ones_own(plugin: Path, tmp_path: Path) -> None:
    load_plugin(plugin)
    spec = small.student("own_alone", network="own_flat", teacher=None, recipe=small.RECIPE | {"processes": 2})
    (tmp_path / "spec.yaml").write_text(spec_yaml(small.spec(spec)))
    command = ["train", str(tmp_path / "spec.yaml"), "--runs", str(tmp_path / "runs"), "--threads", "1"]
    assert main([*command, "--plugin", str(plugin)]) == 0
    assert yaml.safe_load(next((tmp_path / "runs").glob("*/spec.yaml")).read_text())["network"] == "own_flat"


@pytest.mark.parametrize("method", ["simkd", "around"])
def test_a_student_that_predicts_through_more_than_its_network_is_no_teacher(method: str) -> None:
    """The file's shapes are not those of the network that its run names."""

    @METHODS.register("around")
    class HookedNetwork(Method):
        def predictor(self, student: Network) -> Network:
            return student

    run = small.student(method)
    for asked in (small.student("kd", teacher={"run": run}), small.head(teacher={"run": run})):
        with pytest.raises(UserError, match=f"a student of '{method}' predicts with"):
            small.spec(asked)
    assert small.spec(small.student("kd", teacher={"run": small.student("kd")})).dependencies
