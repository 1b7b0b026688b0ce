"""Forged and malformed records: what is found, by which check, without training anything again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.commands.main import main
from benchmarks.records import computing
from benchmarks.records.record import read_manifest, with_weights_from
from benchmarks.records.submission import submit
from benchmarks.records.verify import verify
from sskd.errors import UserError
from sskd.runs.epoch_state import read_state
from sskd.runs.files import write_json
from sskd.runs.run_folder import RunFolder
from sskd.training.run import train
from tests import small
from tests.records.forging import committed_anew, in_place_of, in_result, in_text

KEEPING = small.EXECUTION.model_copy(update={"keep_epochs": True, "threads": 1})
RECIPE = small.RECIPE | {"epochs": 3}
SPLIT = {"fraction": 0.1, "holdout": 0.3}
STUDENT = small.spec(small.student("none", teacher=None, recipe=RECIPE, split=SPLIT, dataset={"name": "digits16"}))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student that chose its epoch by images that were held out, and its submission."""
    folder = tmp_path_factory.mktemp("honest")
    train(STUDENT, folder / "runs", KEEPING, log=lambda _: None)
    submit(folder / "runs" / STUDENT.id, folder)
    return folder


@pytest.fixture
def made(honest: Path, tmp_path: Path) -> Path:
    """A copy of the submission, to be changed."""
    return Path(shutil.copytree(honest / STUDENT.id, tmp_path / STUDENT.id))


@pytest.fixture
def run(honest: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run's folder, to be changed and submitted."""
    shutil.copytree(honest / "runs", tmp_path / "runs")
    return RunFolder(tmp_path / "runs", STUDENT)


def found(made: Path) -> dict[str, str]:
    """The checks that fail, and what they say."""
    verdict = verify(made, small.EXECUTION, 1, 0, log=lambda _: None)
    assert verdict["outcome"] == "does not hold"
    return {check["check"]: str(check["problems"]) for check in verdict["checks"] if not check["passed"]}


# --- what lies in the folder ------------------------------------------------------------------------------------------


STATE = "epochs/0002.safetensors"
ELSEWHERE = {
    "a FIFO for a state": in_place_of(STATE, os.mkfifo),
    "a link for a state": in_place_of(STATE, lambda path: path.symlink_to("0001.safetensors")),
    "another state": lambda made: shutil.copyfile(made / "epochs/0001.safetensors", made / STATE),
    "a state too many": lambda made: shutil.copyfile(made / STATE, made / "epochs/0004.safetensors"),
    "a folder for the spec": in_place_of("spec.yaml", Path.mkdir),
    "a link for the states": in_place_of("epochs", lambda path: path.symlink_to("/tmp", target_is_directory=True)),
    "an empty folder": lambda made: (made / "epochs" / "more").mkdir(),
    "a device's name that is not listed": lambda made: (made / "null").symlink_to("/dev/zero"),
    "weights that are missing": lambda made: (made / "last.safetensors").unlink(),
    "another result": lambda made: in_text("result.json", '"parameters"', '"paramaters"')(made),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_folder_holds_what_is_listed_and_nothing_else(made: Path, what: str) -> None:
    ELSEWHERE[what](made)
    assert list(found(made)) == ["files are what was committed to"]
    if what == "another state":
        assert main(["verify", str(made), "--seed", "1"]) == 1


# --- what cannot be read ----------------------------------------------------------------------------------------------


DEEP = "[" * 300 + "]" * 300
MALFORMED: dict[str, Callable[[Path], object]] = {
    "deep metrics": in_text("metrics.jsonl", '"epoch": 1', f'"more": {DEEP}, "epoch": 1'),
    "a list in the metrics": in_text("metrics.jsonl", '"epoch": 1', '"more": [1], "epoch": 1'),
    "epoch 1e9": in_text("metrics.jsonl", '"epoch": 1', '"epoch": 1000000000'),
    "epoch 0": in_text("metrics.jsonl", '"epoch": 1', '"epoch": 0'),
    "a huge number": in_text("metrics.jsonl", '"epoch": 1', f'"more": {"9" * 400}, "epoch": 1'),
    "bytes that are no text": lambda made: (made / "metrics.jsonl").write_bytes(b"\xff\xfe\x00"),
    "a result that is a list": lambda made: (made / "result.json").write_text("[]"),
    "a deep result": lambda made: (made / "result.json").write_text("[" * 100_000 + "]" * 100_000),
    "machine null": in_result(machine=None),
    "no split": in_result(measured_with__split=None),
    "threads abc": in_result(machine__threads="abc"),
    "threads 5000": in_result(machine__threads=5000),
    "compiled": in_result(measured_with__execution__compile="default"),
    "precision int4": in_result(precision="int4"),
    "a device that is a number": in_result(machine__device=3),
    "several processes": in_text("spec.yaml", "processes: 1", "processes: 5"),
    "epochs 1e9": in_text("spec.yaml", "epochs: 3", "epochs: 1000000000"),
    "a deep spec": lambda made: (made / "spec.yaml").write_text(DEEP),
    "an endless spec": lambda made: (made / "spec.yaml").write_text("a: &a [x, x]\nb: &b [*a, *a]\n" * 20),
    "images from a device": in_text("spec.yaml", "  name: digits16\n", "  name: npz\n  path: /dev/zero\n"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_cannot_be_read_is_said_in_a_line(made: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    MALFORMED[what](made)
    committed_anew(made)
    assert main(["verify", str(made), "--seed", "1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("sha256", ["0" * 64, None])
def test_weights_are_no_device(tmp_path: Path, sha256: str | None) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for place in ("/dev/zero", "/missing/pipe.pth" if sha256 else str(tmp_path / "pipe.pth")):
        teacher = {"network": "resnet8", "weights": place} | ({"sha256": sha256} if sha256 else {})
        with pytest.raises(UserError, match="neither a file nor a folder"):
            with_weights_from(small.spec(small.student("kd", teacher=teacher)), tmp_path)


MANIFESTS: list[dict[str, Any]] = [
    {"states": {}},
    {"states": {"0002.safetensors": "0" * 64}},
    {"states": {f"{number:04d}.safetensors": "0" * 64 for number in range(1, 20_000)}},
    {"files": {}},
    {"files": {"needs/../../spec.yaml": "0" * 64}},
    {"version": 10**30},
    {"run": None},
    {"more": DEEP},
]


def test_a_manifest_that_cannot_be_read(made: Path) -> None:
    whole = json.loads((made / "submission.json").read_text())
    for change in MANIFESTS:
        write_json(made / "submission.json", whole | change)
        with pytest.raises(UserError):
            read_manifest(made)
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("result.json")):
        in_place_of("submission.json", make)(made)
        with pytest.raises(UserError, match="plain file"):
            read_manifest(made)


# --- what its parts say against each other ----------------------------------------------------------------------------

AGREE = "the record agrees with itself"
CONTRADICTIONS: dict[str, Callable[[Path], object]] = {
    "a chosen epoch that does not exist": in_result(chosen__epoch=240, chosen__test_top1=100.0),
    "another held-out accuracy of the chosen epoch": in_result(chosen__held_out_top1=100.0),
    "no chosen epoch": in_result(chosen=None),
    "another held-out accuracy of the best epoch": in_result(best__held_out_top1=100.0),
    "another loss of the last epoch": in_result(last__test_loss=0.0),
    "a measure that is none": in_result(best__test_top3=100.0),
    "a precision that the spec excludes": in_result(precision="bf16"),
    "another torch than its packages": in_result(machine__packages={"torch": "1.0"}),
    "a GPU, and a processor's states": in_result(machine__device="NVIDIA A100-SXM4-80GB", machine__driver="1"),
    "an epoch too many": lambda made: (made / "metrics.jsonl").open("a").write(_lines(made)[-1] + "\n"),
    "epochs out of order": lambda made: (made / "metrics.jsonl").write_text("\n".join(_lines(made)[::-1]) + "\n"),
    "another run": in_result(id="student-x"),
    "held-out accuracies of some epochs": in_text("metrics.jsonl", "held_out_top1", "held_out_top9"),
}


def _lines(made: Path) -> list[str]:
    return (made / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_contradiction_does_not_hold(made: Path, what: str) -> None:
    CONTRADICTIONS[what](made)
    committed_anew(made)
    assert list(found(made)) == [AGREE]


@pytest.mark.parametrize("change", [{"step": 2}, {"epoch": 1}, {"epoch": 3}, {"stage": 1}, {"run": "student-x"}])
def test_states_are_of_whole_epochs(run: RunFolder, tmp_path: Path, change: dict[str, Any]) -> None:
    """Also those that no number draws."""
    run.keep_epoch(2, read_state(run.epoch_state(2)) | change)
    assert "after epoch 2" in found(submit(run.path, tmp_path))[AGREE]


# --- what is computed -------------------------------------------------------------------------------------------------


@pytest.fixture
def no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained again: what is found is found without it."""
    monkeypatch.setattr(computing, "_check_segment", lambda *args: True)


MEASURE = "it was measured with what it says"


def test_what_it_was_measured_with_is_computed_again(
    made: Path, no_replay: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "_check_weights", lambda *args: None)
    others = dict.fromkeys(("pixels", "split", "teacher", "network"), "0" * 64)
    changed: dict[str, Any] = others | {"image_size": 17, "mean": [0.5, 0.5, 0.5]}
    in_result(parameters=1, train_images=50_000, **{f"measured_with__{key}": value for key, value in changed.items()})(
        made
    )
    committed_anew(made)
    said = found(made)[MEASURE]
    assert [key for key in (*changed, "parameters", "train_images") if f"{key} is" not in said] == []


def test_best_weights_are_those_of_their_epoch(run: RunFolder, tmp_path: Path, no_replay: None) -> None:
    """Weights from elsewhere, however good, are not those of the state, whether it is drawn or not."""
    state = read_state(run.epoch_state(1))["modules"]
    weights = {key.removeprefix("network."): value + 1e-7 for key, value in state.items()}
    best = json.loads(run.result.read_text())["best"]["epoch"]
    run.write_weights("best", run.weights_file(weights, best))
    assert list(found(submit(run.path, tmp_path))) == ["the best weights are those of the best state"]


def test_accuracies_are_measured_again(run: RunFolder, tmp_path: Path, no_replay: None) -> None:
    """Metrics and result agree on accuracies that the weights do not have."""
    result, rows = json.loads(run.result.read_text()), run.read_metrics()
    for name in ("best", "last", "chosen"):
        for key in ("held_out_loss", "test_loss"):
            result[name][key] = rows[result[name]["epoch"] - 1][key] = 1e-3
    write_json(run.result, result)
    run.rewrite_metrics(rows)
    problems = found(submit(run.path, tmp_path))
    assert problems.keys() == {f"accuracy of the {which} weights" for which in ("best", "last", "chosen")}
    assert all("held_out_loss is 0.001" in text and "test_loss is 0.001" in text for text in problems.values())


def test_runs_that_nobody_could_replay_are_not_submitted(run: RunFolder, tmp_path: Path) -> None:
    result = json.loads(run.result.read_text())
    result["measured_with"]["execution"]["compile"] = "default"
    write_json(run.result, result)
    with pytest.raises(UserError, match="compile"):
        submit(run.path, tmp_path)


def test_a_record_decides_neither_over_many_threads_nor_over_the_device(
    made: Path, no_replay: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of threads that a machine may have, and this one may not be able to start."""
    monkeypatch.setattr(computing, "_check_weights", lambda *args: None)
    in_result(machine__threads=4096, measured_with__execution__device="cuda:9")(made)
    committed_anew(made)
    verify(made, small.EXECUTION, 1, 0, log=lambda _: None)
    assert torch.get_num_threads() <= max(computing.THREADS, os.cpu_count() or 1)


def test_a_batch_that_no_memory_holds_is_refused_before_it_is_made(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "device_memory", lambda execution: 1e3)
    monkeypatch.setattr(computing, "prepare", lambda *args: pytest.fail("it was set up"))
    with pytest.raises(UserError, match="choose a smaller batch_size"):
        verify(made, small.EXECUTION, 1, 0, log=lambda _: None)


COMMITTED = Path(__file__).parents[2] / "results" / "submissions"


@pytest.mark.parametrize("name", sorted(path.name for path in COMMITTED.iterdir()))
def test_a_committed_record_holds(tmp_path: Path, no_replay: None, name: str) -> None:
    """All of it but the replay, which the slow test of docs/verify.md does."""
    made = shutil.copytree(COMMITTED / name, tmp_path / name)
    assert sum(path.stat().st_size for path in made.rglob("*")) < 5e6
    assert verify(made, small.EXECUTION, 1, log=lambda _: None)["outcome"] == "holds"
