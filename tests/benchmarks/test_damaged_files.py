"""A damaged file in a run's folder is that run's trouble: every command names it, and shows the rest."""

import errno
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from benchmarks.commands.main import VERBS, main
from benchmarks.profiles.read import read_profile
from sskd.__main__ import main as sskd_main
from sskd.errors import UserError
from sskd.runs.result_file import read_result
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from tests.benchmarks.made import finish
from tests.benchmarks.test_report import cells_of, top1

DAMAGES: dict[str, bytes | None] = {
    "cut off": b'{"best": {"epo',
    "empty": b"",
    "list": b"[]",
    "nothing in it": b"{}",
    "null": b'{"best": null, "last": null, "message": null, "stage": null, "epoch": null}',
    "not UTF-8": b'{"message": "\xff\xfe"}',
    "text for a number": b'{"seconds": "x", "message": 5, "epoch": "x", "top1": "x", "images_per_second": []}',
    "deep": b"[" * 100_000,
    "number": b"7",
    "a folder": None,
}
REQUEST = ["--profile", "paper", "--only", "fig4a", "--seeds", "0", "--set", "fractions=[0.25,0.5,0.75]"]


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, list[RunSpec]]:
    """Finished runs, of which as many students have a damage each; the specs of those."""
    profile = read_profile("paper", ["seeds=[0]", "fractions=[0.25,0.5,0.75]"])
    cells = cells_of(profile, "fig4a")
    finish(cells, tmp_path / "paper" / "runs", top1)
    students = list({cell.spec.id: cell.spec for cell in cells["fig4a"] if cell.row != "Teacher"}.values())
    assert len(students) > len(DAMAGES)
    return tmp_path, students[: len(DAMAGES)]


def damage(results: tuple[Path, list[RunSpec]], name: str) -> None:
    root, students = results
    for spec, content in zip(students, DAMAGES.values(), strict=True):
        folder = root / "paper" / "runs" / spec.id
        if name != "result.json":
            (folder / "result.json").unlink()
        write(folder / name, content)


def write(path: Path, content: bytes | None) -> None:
    """None: a folder in the file's place."""
    path.unlink(missing_ok=True)
    path.mkdir() if content is None else path.write_bytes(content)


def run(results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main([*options, *REQUEST, "--results", str(results[0])]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["result.json", "failed.json", "progress.json", "metrics.jsonl"])
def test_commands_survive_it(
    results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage(results, name)
    broken = {spec.id for spec in results[1]}
    named = name in ("result.json", "failed.json")

    # status
    rows = {row["id"]: row for row in json.loads(run(results, capsys, "status", "--json"))["runs"]}
    for run_id, row in rows.items():
        if run_id not in broken:
            assert (row["state"], row["top1"]) == ("finished", pytest.approx(0.9 * 70, abs=4))
        elif named:
            assert row["state"] == "failed"
            assert f"cannot read {results[0] / 'paper' / 'runs' / run_id / name}" in row["why"]
        else:
            assert row["state"] == "to do"
            assert row["why"].startswith("interrupted: run_all.py goes on with it")
    assert len(run(results, capsys, "status").splitlines()) == 1 + len(broken)

    # plan
    plan = json.loads(run(results, capsys, "plan", "--json"))
    assert plan["rate_from"].startswith("as ")
    for row in plan["runs"]:
        if row["id"] in broken:
            assert row["state"] == {"result.json": "finished", "failed.json": "failed"}.get(name, "incomplete")
        assert ("cannot read" in row["why"]) == (row["id"] in broken and named)
    text = run(results, capsys, "plan")
    assert text.count(f"/{name}: ") == (len(broken) if named else 0)

    # the report
    text = run(results, capsys, "report", "--name", "damaged")
    assert "| SSKD | 75% | 1 | " in text
    assert text.count("cannot read") >= (len(broken) if named else 0)
    page = (results[0] / "paper" / "reports" / "damaged" / "index.html").read_text()
    assert all(f'id="run-{run_id}"' in page for run_id in broken)


def test_finished_runs_whose_curves_are_damaged_keep_their_numbers(
    results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str]
) -> None:
    for spec, content in zip(results[1], DAMAGES.values(), strict=True):
        write(results[0] / "paper" / "runs" / spec.id / "metrics.jsonl", content)
    assert "cannot read" not in run(results, capsys, "report", "--name", "damaged")
    assert "cannot read" not in run(results, capsys, "plan")
    assert "failed" not in run(results, capsys, "status")


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_what_is_read_of_each(tmp_path: Path, content: bytes | None) -> None:
    spec = next(cell.spec for cell in cells_of(read_profile("paper", ["seeds=[0]"]), "fig4a")["fig4a"])
    folder = RunFolder(tmp_path, spec)
    folder.path.mkdir()
    for file in (folder.result, folder.failure, folder.metrics):
        write(file, content)
    with pytest.raises(UserError, match=r"cannot read .*result\.json: .*; delete it"):
        read_result(folder.result, "student")
    assert folder.read_failure()["message"].startswith(f"cannot read {folder.failure}: ")
    assert all(isinstance(row, dict) for row in folder.read_metrics())
    if content is None:
        return
    folder.metrics.write_bytes(b'{"epoch": 1}\n' + content + b'\n{"epoch": 3}\n')
    assert folder.read_metrics()[0] == {"epoch": 1}


def test_damaged_results_are_failures(
    results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to train: every other run is finished."""
    monkeypatch.setattr("benchmarks.dispatch.local.make_slots", lambda *_: [])
    command = [*REQUEST, "--results", str(results[0])]
    assert main(command) == 0
    damage(results, "result.json")
    capsys.readouterr()
    assert main(command) == 1
    shown = capsys.readouterr()
    assert f"{len(DAMAGES)} with a result that cannot be read" in shown.out
    for spec in results[1]:
        assert f"run_all: {spec.id}: cannot read" in shown.err


def test_weights_that_are_missing_or_damaged_are_named_under_the_table(
    results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, students = results
    whole = safetensors_bytes({"a": torch.zeros(3)})
    for folder in (root / "paper" / "runs").iterdir():
        for name in ("best", "last"):
            (folder / f"{name}.safetensors").write_bytes(whole)
    assert "The weights of" not in run(results, capsys, "report", "--name", "weights")
    damages: list[bytes | None] = [whole[:-1], b"", b"garbage", whole + b"x", None]
    for spec, content in zip(students, damages, strict=False):
        write(root / "paper" / "runs" / spec.id / "best.safetensors", content)
    (root / "paper" / "runs" / students[5].id / "last.safetensors").unlink()
    text = run(results, capsys, "report", "--name", "weights")
    (damaged,) = [line for line in text.splitlines() if "are damaged" in line]
    (missing,) = [line for line in text.splitlines() if "are missing" in line]
    assert damaged.startswith("The weights of 5 of ")
    assert students[5].id in missing
    assert "cannot read" not in text


# --- folders that are none, and what this user may not read -----------------------------------------------------------


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What is in the folder cannot be reached, as by another user (root is forbidden nothing)."""

    def guarded(name: str, module: Any) -> None:
        original = getattr(module, name)

        def hooked(path: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(path, str | os.PathLike) and f"{folder}{os.sep}" in os.fspath(path):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return original(path, *arguments, **named)

        monkeypatch.setattr(module, name, hooked)

    for name in ("stat", "lstat", "open", "mkdir"):
        guarded(name, os)
    guarded("open", io)


@pytest.mark.parametrize("what", ["a file", "not to be entered", "a link to nothing", "metrics"])
def test_one_bad_folder_costs_only_its_run(
    results: tuple[Path, list[RunSpec]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    root, students = results
    folder = root / "paper" / "runs" / students[0].id
    if what == "not to be entered":
        forbid(monkeypatch, folder)
    elif what == "metrics":
        (folder / "result.json").unlink()
        write(folder / "metrics.jsonl", None)
    else:
        shutil.rmtree(folder)
        folder.write_bytes(b"") if what == "a file" else folder.symlink_to(root / "nowhere")
    named = what in ("a file", "not to be entered")
    rows = {row["id"]: row for row in json.loads(run(results, capsys, "status", "--json"))["runs"]}
    assert [run_id for run_id, row in rows.items() if row["state"] != "finished"] == [students[0].id]
    assert ("cannot read" in rows[students[0].id]["why"]) == named
    plan = {row["id"]: row for row in json.loads(run(results, capsys, "plan", "--json"))["runs"]}
    assert ("cannot read" in plan[students[0].id]["why"]) == named
    assert "| SSKD | 75% | 1 | " in run(results, capsys, "report", "--name", "bad")


@pytest.mark.parametrize(
    "command", [["verify", "{}"], ["merge", "{}"], ["report", "--results", "{}"], ["--profile", "{}/a.yaml"]]
)
def test_what_may_not_be_entered_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret" / "inner"
    secret.mkdir(parents=True)
    forbid(monkeypatch, secret.parent)
    given = [word.format(secret) for word in command]
    verb = [given.pop(0)] if given[0] in VERBS else []
    results = ["--results", str(tmp_path / "r")]
    assert main([*verb, *([] if "verify" in command else REQUEST), *results, *given]) == 2
    errors = capsys.readouterr().err
    assert str(secret) in errors
    assert len(errors.strip().splitlines()) == 1


def test_data_that_may_not_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, tmp_path / "secret")
    weights = tmp_path / "secret" / "a.pth"
    for arguments in (
        ["--dataset", "cifar100", "--dataset-root", str(weights.parent / "data"), "--weights", "x.pth"],
        ["--dataset", "digits", "--weights", str(weights)],
    ):
        assert sskd_main(["evaluate", "--network", "resnet8", *arguments]) == 2
        errors = capsys.readouterr().err
        assert str(weights.parent) in errors
        assert len(errors.strip().splitlines()) == 1
