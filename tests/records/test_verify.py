"""Verification by replay: an honest record holds, and each way of forging one is caught.

A forger does all that can be done without training: every forged folder is submitted anew, so all hashes fit.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.commands.main import main
from benchmarks.records import computing, submission
from benchmarks.records.record import Manifest, Submission, read_manifest
from benchmarks.records.submission import segments_of, submit
from benchmarks.records.verify import chance, verify
from sskd.runs.epoch_state import read_state, state_hash
from sskd.runs.files import write_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.replay import Replayed
from sskd.training.run import train
from tests import small

KEEPING = small.EXECUTION.model_copy(update={"keep_epochs": True, "threads": 1})
EPOCHS = 4
DIGITS = {"dataset": {"name": "digits16"}}


def student(rate: float = 0.02) -> RunSpec:
    recipe = small.RECIPE | {"epochs": EPOCHS, "learning_rate": rate}
    return small.spec(small.student("kd", recipe=recipe, teacher={"run": small.teacher(**DIGITS)}, **DIGITS))


HONEST = student()


@pytest.fixture(autouse=True)
def _few_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes verification always replay only the last of the final epochs."""
    monkeypatch.setattr(submission, "LAST", 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and a student that kept its states."""
    folder = tmp_path_factory.mktemp("runs")
    small.train_all(HONEST.dependencies[0], folder)
    train(HONEST, folder, KEEPING, log=lambda _: None)
    return folder


@pytest.fixture
def forged(runs: Path, tmp_path: Path) -> RunFolder:
    """A copy of the honest run's folder, to be changed."""
    shutil.copytree(runs, tmp_path / "forged")
    return RunFolder(tmp_path / "forged", HONEST)


def checked(run: RunFolder, seed: int = 7, count: int = EPOCHS) -> dict[str, Any]:
    target = run.path.parent.parent / "submissions"
    return verify(submit(run.path, target), small.EXECUTION, seed, count, log=lambda _: None)


def failures(verdict: dict[str, Any]) -> dict[str, list[str]]:
    assert verdict["outcome"] == ("holds" if all(check["passed"] for check in verdict["checks"]) else "does not hold")
    return {check["check"]: check["problems"] for check in verdict["checks"] if not check["passed"]}


def test_an_honest_record_holds(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["submit", str(runs / HONEST.id), "--results", "mine"]) == 0
    made = Path("mine") / "submissions" / HONEST.id
    commitment = hashlib.sha256((made / "submission.json").read_bytes()).hexdigest()
    assert commitment in capsys.readouterr().out
    assert {path.suffix for path in made.rglob("*") if path.is_file()} == {".json", ".jsonl", ".yaml", ".safetensors"}
    assert main(["verify", str(made), "--seed", "5"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    verdict = json.loads((made / "verdict.json").read_text())
    assert verdict["outcome"] == "holds"
    replayed = [check for check in verdict["checks"] if "equal" in check]
    assert [check["equal"] for check in replayed] == [True] * len(verdict["segments"])
    assert verdict["commitment"] == read_manifest(made).commitment == commitment


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


def test_a_swapped_state_is_caught(forged: RunFolder) -> None:
    """Weights of another epoch stand for the last, in its state too."""
    early, last = (read_state(forged.epoch_state(number)) for number in (2, EPOCHS))
    forged.keep_epoch(EPOCHS, last | {"modules": early["modules"]})
    weights = {key.removeprefix("network."): value for key, value in early["modules"].items()}
    forged.write_weights("last", forged.weights_file(weights, EPOCHS))
    found = failures(checked(forged, count=0))
    assert "the last weights are those of the last state" not in found
    assert "not bit-identical" in str(found["epoch 3 to 4"])


def test_a_skipped_epoch_is_caught(forged: RunFolder) -> None:
    """Epoch 2 was not trained: its state is that of epoch 1, with the number changed."""
    state = read_state(forged.epoch_state(1))
    forged.keep_epoch(2, state | {"epoch": 2})
    found = failures(checked(forged))
    assert {"epoch 1 to 2", "epoch 2 to 3"} == found.keys()


def test_another_training_is_caught(forged: RunFolder) -> None:
    """A run that was trained otherwise is given out for the one that was asked for."""
    other = student(rate=0.03)
    train(other, forged.path.parent, KEEPING, log=lambda _: None)
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
    forged: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds where the bits are equal all the same."""
    result = json.loads(forged.result.read_text())
    result["machine"]["device"] = "another processor, 2 cores"
    write_json(forged.result, result)
    assert checked(forged, count=0)["outcome"] == "holds"
    replay = computing.replay_epoch
    monkeypatch.setattr(computing, "replay_epoch", lambda *args: _otherwise(replay(*args)))
    assert checked(forged, count=0)["outcome"] == "undecided"


def test_one_machine_rounds_in_one_way() -> None:
    """If one epoch is bit-identical here, the record's machine rounds like this one, so the other epochs must be
    bit-identical too."""
    rows = [{"stage": "initial"}] * 2 + [{"stage": "main"}] * 3
    record = Submission(Path(), Manifest.model_construct(), HONEST, rows, {})
    odd = computing._rounded_otherwise
    assert odd(record, {0: True, 1: True, 4: False}) == []  # another stage computes other things
    assert len(odd(record, {0: True, 1: False, 2: True, 3: False, 4: False})) == 3


def _otherwise(replayed: Replayed) -> Replayed:
    """Changes results as another kind of processor would by rounding."""
    modules = replayed.state["modules"]
    far = {key: value + 1e-4 if value.is_floating_point() else value for key, value in modules.items()}
    return replayed._replace(state=replayed.state | {"modules": far})


def test_large_states_are_opened_for_the_number_that_draws_them(
    forged: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submission, "SMALL", 1000)
    monkeypatch.chdir(tmp_path)
    assert main(["submit", str(forged.path)]) == 0
    made = Path("results/submissions") / HONEST.id
    best = json.loads(forged.result.read_text())["best"]["epoch"]
    opened = {int(path.stem) for path in (made / "epochs").iterdir()}
    assert opened == {1, best - 1, best, EPOCHS - 1, EPOCHS} - {0}
    before = read_manifest(made).commitment
    (made / "epochs" / "0001.safetensors").unlink()
    assert main(["verify", str(made), "--seed", "3"]) == 2
    assert "submit RUN --seed 3" in capsys.readouterr().err
    assert main(["submit", str(forged.path), "--seed", "3"]) == 0
    assert read_manifest(made).commitment == before
    assert main(["verify", str(made), "--seed", "3"]) == 0
    # once committed to, the record cannot change under the same name
    rows = forged.read_metrics()
    forged.rewrite_metrics([rows[0] | {"loss": 0.0}, *rows[1:]])
    assert main(["submit", str(forged.path), "--seed", "3"]) == 2
    assert "another result" in capsys.readouterr().err


def test_what_a_number_draws() -> None:
    rows = [{"stage": "first"}] * 10 + [{"stage": "main"}] * 90
    result = {"best": {"epoch": 60}, "last": {"epoch": 90}, "chosen": {"epoch": 31}}
    assert segments_of("a", 1, rows[-1:], {"best": {"epoch": 1}, "last": {"epoch": 1}}).all == [0]
    chosen = [segments_of("a", seed, rows, result) for seed in range(200)]
    assert all(each.always == [0, 40, 69, 99] and len(each.drawn) == 3 for each in chosen)
    assert all(not {*each.always} & {*each.drawn} and each.others == 96 for each in chosen)
    assert {segment for each in chosen for segment in each.drawn} == {*range(100)} - {0, 40, 69, 99}
    assert segments_of("a", 1, rows, result) == segments_of("a", 1, rows, result)
    assert segments_of("a", 1, rows, result) != segments_of("b", 1, rows, result)
    assert segments_of("a", 1, rows, result, 96).all == list(range(100))


def test_the_chance_of_one_replaced_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replaced state is found as often as it is drawn, and as often as the verdict claims."""
    monkeypatch.undo()
    rows = [{"stage": "main"}] * 24
    result = {"best": {"epoch": 20}, "last": {"epoch": 24}}
    chosen = [segments_of("a", seed, rows, result, 5) for seed in range(2000)]
    said = chance(chosen[0])
    assert said["others"] == 24 - 5  # the first, the last three, and the best are always replayed
    assert abs(sum(7 in each.all for each in chosen) / 2000 - said["found"]) < 0.04
    for percent, count in said["segments_for"].items():
        more, fewer = (chance(segments_of("a", 1, rows, result, n))["found"] for n in (count, count - 1))
        assert more >= int(percent) / 100 > fewer


def test_runs_that_cannot_be_submitted(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, said in (
        (["submit", str(runs / HONEST.dependencies[0].id), "--results", str(tmp_path)], "keep_epochs"),
        (["submit", str(tmp_path / "nothing"), "--results", str(tmp_path)], "nothing"),
        (["verify", str(tmp_path / "nothing")], "is not a submission"),
    ):
        assert main(command) == 2
        assert said in capsys.readouterr().err


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
