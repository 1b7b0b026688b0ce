"""A run: what it trains, leaves and measures, and what it refuses; the same spec gives the same numbers."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sskd.training.tasks.student
from sskd.__main__ import main
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError
from sskd.methods import LossTerms
from sskd.networks import build_network
from sskd.runs.plugins import load_plugin
from sskd.runs.spec import spec_yaml
from sskd.training.evaluation import EvaluationSet, accuracy
from sskd.training.meter import Meter
from sskd.training.result import make_result
from sskd.training.run import Interrupted, train
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small

SSKD = small.spec(small.student("sskd", with_head=True))
KD = small.spec(small.student("kd"))


def test_what_a_run_leaves(runs: Path) -> None:
    folder = runs / SSKD.id
    files = {"spec.yaml", "metrics.jsonl", "best.safetensors", "last.safetensors", "result.json", "events.out"}
    assert {path.name.split(".tfevents")[0] for path in folder.iterdir()} >= files
    assert not list(folder.glob("resume*"))
    assert not list(folder.glob("*.partial"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    logged = {"stage", "rate", "head_accuracy", "ss_kept", "t_kept", "seconds", "images_per_second"}
    logged |= {"loss", "loss_ce", "loss_kd", "loss_t", "loss_ss", "test_top1", "test_top5", "test_loss"}
    assert set(rows[0]) >= logged
    weights = {"ce": 0.1, "kd": 0.9, "t": 2.7, "ss": 10.0}
    assert rows[0]["loss"] == pytest.approx(sum(w * rows[0][f"loss_{name}"] for name, w in weights.items()), rel=1e-5)
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["epoch"] == 2
    best = max(rows, key=lambda row: row["test_top1"])
    assert result["best"]["test_top1"] == best["test_top1"]
    assert 0 <= result["cka"] <= 1
    assert result["kl"] > 0
    assert result["machine"]["torch"] == torch.__version__


def test_the_same_spec_gives_the_same_and_leaves_its_teacher_alone(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics and weights, whatever ran before; the teacher's weights and running statistics after a whole training."""
    kept = []
    original = sskd.training.tasks.student.load_teacher

    def remember(setup: Any, teacher: Any) -> Any:
        network = original(setup, teacher)
        kept.append((network, {key: value.clone() for key, value in network.state_dict().items()}))
        return network

    monkeypatch.setattr(sskd.training.tasks.student, "load_teacher", remember)
    small.link_needs(runs, tmp_path, SSKD)
    torch.manual_seed(99)
    train(SSKD, tmp_path, small.EXECUTION)
    assert small.metrics(tmp_path / SSKD.id) == small.metrics(runs / SSKD.id)
    again, first = (load_file(base / SSKD.id / "last.safetensors") for base in (tmp_path, runs))
    assert all(torch.equal(again[key], first[key]) for key in first)
    network, before = kept[0]
    assert not network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_only_the_student_and_its_method_are_trained(runs: Path, tmp_path: Path) -> None:
    small.link_needs(runs, tmp_path, SSKD)
    job = build_task(prepare(SSKD, tmp_path, small.EXECUTION))
    learned = {id(p) for p in job.modules.parameters()}
    trained = {id(p) for stage in job.stages for p in stage.parameters}
    assert trained == learned  # all that is saved is trained, and nothing else: no teacher, no teacher's head


def test_a_head_is_measured_once(runs: Path, tmp_path: Path) -> None:
    """A head is evaluated after its last epoch, the only one that is used; also if it was interrupted before."""
    head = SSKD.head
    assert head is not None
    rows = small.metrics(runs / head.id)
    assert ["test_head_top1" in row for row in rows] == [False, True]
    result = json.loads((runs / head.id / "result.json").read_text())
    assert result["best"] == result["last"]
    assert result["last"]["epoch"] == 2
    assert result["last"]["test_head_top1"] == rows[-1]["test_head_top1"]
    best, last = (load_file(runs / head.id / f"{epoch}.safetensors") for epoch in ("best", "last"))
    assert all(torch.equal(best[key], last[key]) for key in last)
    small.link_needs(runs, tmp_path, head)
    for asked in (iter([False, True]), iter([False, False, False, True])):
        with pytest.raises(Interrupted):
            train(head, tmp_path, small.EXECUTION, should_stop=asked.__next__)
    train(head, tmp_path, small.EXECUTION)
    assert small.metrics(tmp_path / head.id) == rows


# --- python -m sskd train ---------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = SSKD.head
    assert head is not None
    before = {path: path.stat().st_mtime_ns for path in (runs / head.id).iterdir()}
    assert main(small.train_command(head, runs)) == 0
    result = runs / head.id / "result.json"
    assert f"{head.id} is already finished; its result is in {result}" in capsys.readouterr().out
    assert train(head, runs, small.EXECUTION) == json.loads(result.read_text())
    assert {path: path.stat().st_mtime_ns for path in (runs / head.id).iterdir()} == before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_train(precision: str, tmp_path: Path) -> None:
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"precision": precision, "epochs": 3}))
    result = small.train_all(spec, tmp_path)
    rows = small.metrics(tmp_path / spec.id)
    assert result["precision"] == precision
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_students_of_a_seed_start_and_see_the_same(runs: Path, tmp_path: Path) -> None:
    """Paired comparisons: the same first weights and the same batches, whatever the method."""
    small.link_needs(runs, tmp_path, KD)
    starts = []
    for method in ("kd", "at", "vid"):
        spec = small.spec(small.student(method))
        job = build_task(prepare(spec, tmp_path, small.EXECUTION))
        loader = prepare(spec, tmp_path, small.EXECUTION).loader(job.stages[-1].view_transform, "main")
        starts.append((job.modules.network.state_dict(), next(iter(loader.epoch(0))).images))
    for weights, images in starts[1:]:
        assert all(torch.equal(weights[key], starts[0][0][key]) for key in weights)
        assert torch.equal(images, starts[0][1])


def test_errors_before_training(tmp_path: Path) -> None:
    weights = {"network": "resnet8", "weights": str(tmp_path / "t.safetensors")}
    save_file(build_network("resnet8", 100).state_dict(), weights["weights"])
    for data, match in (
        (small.student("kd"), "needs the weights of teacher-resnet8.*train that run first"),
        (small.teacher(recipe=small.RECIPE | {"batch_size": 512}), "batch_size is 512, but the training set has"),
        (small.student("kd", teacher=weights | {"weights": "absent.pth"}), "no weights file"),
        (small.student("kd", teacher=weights), "resnet8 with 10 classes: its classifier has 100 classes"),
        (small.student("kd", teacher=weights | {"sha256": "0" * 64}), "is not the expected file"),
    ):
        with pytest.raises(UserError, match=match):
            train(small.spec(data), tmp_path, small.EXECUTION)


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"learning_rate": 1000, "weight_decay": 100}))
    with pytest.raises(UserError, match=r"diverged in epoch [12] of stage 'main': loss.* not finite"):
        train(spec, tmp_path, small.EXECUTION)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create .*: Not a directory"):
        train(small.spec(small.teacher()), tmp_path / "file", small.EXECUTION)


def test_meter_weighs_by_images_and_survives_saving() -> None:
    def add(total: float, count: int, **terms: float) -> None:
        meter.add(torch.tensor(total), LossTerms({name: torch.tensor(value) for name, value in terms.items()}), count)
        meter.count(count)

    meter = Meter()
    add(1.0, 30, ce=2.0)
    saved = meter.state_dict()
    meter = Meter()
    meter.load_state_dict(saved)
    add(4.0, 10, ce=5.0)
    assert meter.means() == {"loss": 1.75, "loss_ce": 2.75}
    add(1.0, 10, kd=8.0)  # other terms than before
    assert meter.means() == {"loss": 1.6, "loss_ce": 2.2, "loss_kd": 1.6}
    meter.reset()
    add(3.0, 2, ce=5.0)
    assert meter.means() == {"loss": 3.0, "loss_ce": 5.0, "loss_kd": 0.0}


@pytest.mark.slow  # compiling takes longer than training here
def test_compiled_networks_learn_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's own folder may hold what it compiled here for another instruction set, which then fails in the middle
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    spec = small.spec(small.student("kd"))
    small.train_all(spec, tmp_path)
    plain = small.metrics(tmp_path / spec.id)
    (tmp_path / spec.id).rename(tmp_path / "plain")
    train(spec, tmp_path, small.EXECUTION.model_copy(update={"compile": "default"}), log=lambda _: None)
    for line, expected in zip(small.metrics(tmp_path / spec.id), plain, strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_network_in_its_mode_whatever_happens(training: bool) -> None:
    """An error in the middle, or a loop that is left early."""
    data = load_dataset(DatasetSpec(name="digits"), Path("data"))
    test = EvaluationSet(data, torch.device("cpu"), "fp32", batch_size=100)
    network = build_network("resnet8", data.num_classes).train(training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "features", lambda images: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            accuracy(network, test)
    assert network.training is training
    features = test.features(network)
    next(features)
    features.close()
    assert network.training is training


def test_a_plugin_that_breaks_the_contract_trains_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "half.py"
    plugin.write_text(
        "from sskd.methods import METHODS, LossTerms, Method, MethodInfo\n\n\n"
        "@METHODS.register('half')\n"
        "class Half(Method):\n"
        "    info = MethodInfo('Half', 'a test', 2026, 'logits')\n"
        "    needs, loss_weights = frozenset({'logits'}), {'t': 1.0}\n\n"
        "    def loss_terms(self, student, teacher, batch):\n"
        "        return LossTerms({'t': (student.logits - teacher.logits).mean().half()})\n"
    )
    load_plugin(plugin)
    spec = small.spec(small.student("half"))
    small.link_needs(runs, tmp_path / "runs", spec)
    (tmp_path / "spec.yaml").write_text(spec_yaml(spec))
    command = ["train", str(tmp_path / "spec.yaml"), "--runs", str(tmp_path / "runs"), "--plugin", str(plugin)]
    assert main(command) == 2
    assert "method 'half' (half.py, line 9) for resnet8/resnet8: its term 't' is float16" in capsys.readouterr().err
    assert not (tmp_path / "runs" / spec.id).exists()


@pytest.mark.parametrize("bad", [{"test_loss": float("nan")}, {"held_out_loss": float("inf")}])
def test_no_result_is_written_that_could_not_be_read(bad: dict[str, float]) -> None:
    """A network whose numbers are finite in train mode alone is a failed run."""
    setup: Any = SimpleNamespace(spec=KD)
    rows = {"last": {"epoch": 2, "test_top1": 10.0, **bad}}
    with pytest.raises(UserError, match=rf"{next(iter(bad))} of epoch 2 not finite"):
        make_result(setup, None, rows, {}, {})  # type: ignore[arg-type]
