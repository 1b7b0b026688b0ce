"""Verification by replay: an honest record holds, and each way of forging one is caught.

A forger does all that can be done without training: every forged folder is submitted anew, so all hashes fit.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.cli import main
from benchmarks.records import submission
from benchmarks.records.submission import drawn, read_manifest, submit
from benchmarks.records.verify import verdict_sha256, verify
from sskd.runs.epoch_state import read_state, state_hash
from sskd.runs.files import write_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.loop import train
from tests import small

KEEPING = small.EXECUTION.model_copy(update={"keep_epochs": True, "threads": 1})
EPOCHS = 4


def student(epochs: int = EPOCHS, seed: int = 0, rate: float = 0.02) -> RunSpec:
    recipe = small.RECIPE | {"epochs": epochs, "learning_rate": rate}
    return small.spec(small.student("kd", recipe=recipe, seed=seed))


HONEST = student()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and a student that kept its states."""
    folder = tmp_path_factory.mktemp("runs")
    small.train_all(HONEST.needs[0], folder)
    train(HONEST, folder, KEEPING, say=lambda _: None)
    return folder


@pytest.fixture
def forged(runs: Path, tmp_path: Path) -> RunFolder:
    """A copy of the honest run's folder, to be changed."""
    shutil.copytree(runs, tmp_path / "forged")
    return RunFolder(tmp_path / "forged", HONEST)


def checked(run: RunFolder, seed: int = 7, count: int = EPOCHS) -> dict[str, Any]:
    target = run.path.parent.parent / "submissions"
    return verify(submit(run.path, target), small.EXECUTION, seed, count, say=lambda _: None)


def failures(verdict: dict[str, Any]) -> dict[str, list[str]]:
    assert verdict["outcome"] == ("holds" if all(check["passed"] for check in verdict["checks"]) else "does not hold")
    return {check["check"]: check["problems"] for check in verdict["checks"] if not check["passed"]}


def test_an_honest_record_holds(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--submit", str(runs / HONEST.id), "--results", "mine"]) == 0
    made = Path("mine") / "submissions" / HONEST.id
    assert {path.suffix for path in made.rglob("*") if path.is_file()} == {".json", ".jsonl", ".yaml", ".safetensors"}
    assert main(["--verify", str(made), "--seed", "5"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    verdict = json.loads((made / "verdict.json").read_text())
    assert verdict["outcome"] == "holds"
    replayed = [check for check in verdict["checks"] if "equal" in check]
    assert [check["equal"] for check in replayed] == [True] * len(verdict["segments"])
    assert verdict["commitment"] == read_manifest(made).commitment
    assert verdict["sha256"] == verdict_sha256(verdict)
    assert verdict["sha256"] != verdict_sha256(verdict | {"seed": 6})


def test_forged_accuracy_is_caught(forged: RunFolder) -> None:
    result, rows = json.loads(forged.result.read_text()), forged.read_metrics()
    for row in (result["best"], result["last"], rows[-1]):
        row |= {"test_top1": 60.0, "epoch": EPOCHS}
    result["best"] = result["last"]
    write_json(forged.result, result)
    forged.rewrite_metrics(rows)
    shutil.copyfile(forged.weights("last"), forged.weights("best"))
    found = failures(checked(forged, count=0))
    assert "test_top1 is 60.0" in str(found["accuracy of the last weights"])
    assert "test_top1 is 60.0" in str(found["epoch 3 to 4"])


def test_swapped_weights_are_caught(forged: RunFolder) -> None:
    """Weights of another epoch stand for the last, with the accuracy that they have."""
    state = read_state(forged.epoch_state(2))["modules"]
    forged.save_weights("last", {key.removeprefix("network."): value for key, value in state.items()}, EPOCHS)
    assert "the last weights are those of the last state" in failures(checked(forged, count=0))


def test_a_swapped_state_is_caught_too(forged: RunFolder) -> None:
    """The last state is forged to have them as well."""
    early, last = (read_state(forged.epoch_state(number)) for number in (2, EPOCHS))
    forged.keep_epoch(EPOCHS, last | {"modules": early["modules"]})
    weights = {key.removeprefix("network."): value for key, value in early["modules"].items()}
    forged.save_weights("last", weights, EPOCHS)
    found = failures(checked(forged, count=0))
    assert "the last weights are those of the last state" not in found
    assert "not equal bit for bit" in str(found["epoch 3 to 4"])


def test_a_skipped_epoch_is_caught(forged: RunFolder) -> None:
    """Epoch 2 was not trained: its state is that of epoch 1, with the number changed."""
    state = read_state(forged.epoch_state(1))
    forged.keep_epoch(2, state | {"epoch": 2})
    found = failures(checked(forged))
    assert {"epoch 1 to 2", "epoch 2 to 3"} == found.keys()


@pytest.mark.parametrize("other", [student(rate=0.03), student(seed=1)], ids=["another learning rate", "another seed"])
def test_another_training_is_caught(forged: RunFolder, other: RunSpec) -> None:
    """A run that was trained otherwise is given out for the one that was asked for."""
    train(other, forged.path.parent, KEEPING, say=lambda _: None)
    theirs = RunFolder(forged.path.parent, other)
    for number in range(1, EPOCHS + 1):
        forged.keep_epoch(number, read_state(theirs.epoch_state(number)) | {"run": HONEST.id})
    rows = [row | {"rate": HONEST.recipe.learning_rate} for row in theirs.read_metrics()]
    forged.rewrite_metrics(rows)
    write_json(forged.result, json.loads(theirs.result.read_text()) | {"id": HONEST.id})
    for which in ("best", "last"):
        shutil.copyfile(theirs.weights(which), forged.weights(which))
    found = failures(checked(forged, count=0))
    assert {"epoch 0 to 1", "epoch 3 to 4"} == found.keys()


def test_another_kind_of_machine_decides_nothing_where_bits_differ(
    forged: RunFolder,
) -> None:
    """It holds where the bits are equal all the same, and never does where the accuracy is not the weights'."""
    result = json.loads(forged.result.read_text())
    result["machine"]["device"] = "another processor"
    write_json(forged.result, result)
    assert checked(forged, count=0)["outcome"] == "holds"
    early = read_state(forged.epoch_state(2))
    forged.keep_epoch(EPOCHS - 1, read_state(forged.epoch_state(EPOCHS - 1)) | {"modules": early["modules"]})
    shutil.rmtree(forged.path.parent.parent / "submissions")
    assert checked(forged, count=0)["outcome"] == "undecided"
    result["last"]["test_top1"] = 99.0
    write_json(forged.result, result)
    shutil.rmtree(forged.path.parent.parent / "submissions")
    assert checked(forged, count=0)["outcome"] == "does not hold"


def _accuracy(folder: Path) -> None:
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace('"parameters"', '"paramaters"'))


def _more(folder: Path) -> None:
    (folder / "run.py").write_text("print()")


def _fewer(folder: Path) -> None:
    (folder / "best.safetensors").unlink()


@pytest.mark.parametrize("change", [_accuracy, _more, _fewer])
def test_a_changed_submission_is_refused(forged: RunFolder, tmp_path: Path, change: Callable[[Path], None]) -> None:
    made = submit(forged.path, tmp_path / "submissions")
    change(made)
    found = failures(verify(made, small.EXECUTION, 1, say=lambda _: None))
    assert list(found) == ["files are what was committed to"]


def test_large_states_are_opened_for_the_number_that_draws_them(
    forged: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submission, "SMALL", 1000)
    monkeypatch.chdir(tmp_path)
    assert main(["--submit", str(forged.path)]) == 0
    made = Path("results/submissions") / HONEST.id
    assert [path.name for path in (made / "epochs").iterdir()] == ["0004.safetensors"]
    before = read_manifest(made).commitment
    assert main(["--verify", str(made), "--seed", "3"]) == 2
    assert "--submit RUN --seed 3" in capsys.readouterr().err
    assert main(["--submit", str(forged.path), "--seed", "3"]) == 0
    assert read_manifest(made).commitment == before
    assert main(["--verify", str(made), "--seed", "3"]) == 0
    # once committed to, the record cannot change under the same name
    rows = forged.read_metrics()
    forged.rewrite_metrics([rows[0] | {"loss": 0.0}, *rows[1:]])
    assert main(["--submit", str(forged.path), "--seed", "3"]) == 2
    assert "another record" in capsys.readouterr().err


def test_what_a_number_draws() -> None:
    assert drawn("a", 1, 1, 3) == [0]
    chosen = [drawn("a", seed, 100, 3) for seed in range(200)]
    assert all(len(each) == 5 and each[0] == 0 and each[-1] == 99 for each in chosen)
    assert len({segment for each in chosen for segment in each}) > 90  # any of them may be drawn
    assert drawn("a", 1, 100, 3) == drawn("a", 1, 100, 3) != drawn("b", 1, 100, 3)


def test_runs_that_cannot_be_submitted(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = HONEST.needs[0]
    assert main(["--submit", str(runs / teacher.id), "--results", str(tmp_path)]) == 2
    assert "keep_epochs" in capsys.readouterr().err
    assert main(["--submit", str(tmp_path / "nothing"), "--results", str(tmp_path)]) == 2
    assert main(["--verify", str(tmp_path / "nothing")]) == 2
    assert "is no submission" in capsys.readouterr().err
    assert main(["--seed", "1", "--dry-run"]) == 2
    assert "--seeds" in capsys.readouterr().err


def test_a_state_comes_back_as_it_was(runs: Path) -> None:
    path = RunFolder(runs, HONEST).epoch_state(1)
    state = read_state(path)
    weights = load_file(path)
    laid = state["modules"]["network.conv1.weight"]
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(laid, weights["modules/network.conv1.weight"])
    assert state["optimizer"]["state"].keys() == set(range(len(state["optimizer"]["param_groups"][0]["params"])))
    assert state_hash(state) == state_hash(state | {"seconds": 9.0, "rows": []})
    assert state_hash(state) != state_hash(state | {"epoch": 3})
