"""A damaged file in a run's folder is that run's trouble: every command names it, and shows the rest."""

import errno
import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from benchmarks.analysis.frame import results_frame
from benchmarks.commands.main import VERBS, main
from benchmarks.profiles.read import read_profile
from benchmarks.report.tables import notes, summary
from benchmarks.report.write import Written
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.__main__ import main as sskd_main
from sskd.errors import UserError
from sskd.runs.records import read_result
from sskd.runs.run_folder import RunFolder
from tests import small
from tests.benchmarks.made import RESULT, cells_of, finish, top1

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
REQUEST = ["--profile", "paper", "--only", "fig4a", "--seeds", "0,1,2", "--set", "fractions=[0.25,0.5,0.75]"]


class Results:
    """A folder of results with 36 finished students of figure 4a."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.runs, self.capsys = folder, folder / "paper" / "runs", capsys
        profile = read_profile("paper", ["seeds=[0,1,2]", "fractions=[0.25,0.5,0.75]"])
        self.cells = cells_of(profile, "fig4a")
        finish(self.cells, self.runs, top1)
        self.students = list(dict.fromkeys(cell.spec.id for cell in self.cells["fig4a"]))

    def damage(self, whats: Iterable[str], *names: str) -> dict[str, str]:
        """Gives each of as many students a damaged file: each of ``names`` with each of ``whats``. Returns the names by
        run."""
        places = [(name, what) for name in names for what in whats]
        for run, (name, what) in zip(self.students, places, strict=False):
            if name != "result.json":
                (self.runs / run / "result.json").unlink()
            write(self.runs / run / name, DAMAGES[what])
        return {run: name for run, (name, _) in zip(self.students, places, strict=False)}

    def run(self, *options: str) -> str:
        assert main([*options, *REQUEST, "--results", str(self.folder)]) == 0
        return self.capsys.readouterr().out

    def states(self, verb: str) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in json.loads(self.run(verb, "--json"))["runs"]}

    def frame(self) -> pd.DataFrame:
        frame = results_frame(self.cells, self.runs)
        return frame[frame["benchmark"] == "fig4a"]


@pytest.fixture
def results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Results:
    return Results(tmp_path, capsys)


def write(path: Path, content: bytes | None) -> None:
    """None: a folder in the file's place."""
    path.unlink(missing_ok=True)
    path.mkdir() if content is None else path.write_bytes(content)


def test_commands_survive_it(results: Results) -> None:
    """Finished runs keep their numbers without their curves."""
    some = ("cut off", "nothing in it", "null", "not UTF-8", "text for a number", "deep", "a folder")
    broken = results.damage(some, "result.json", "failed.json", "progress.json", "metrics.jsonl")
    without_curves = results.students[-5:]
    for place, run in enumerate(without_curves):
        write(results.runs / run / "metrics.jsonl", b"\xff" if place else None)
    named = {run for run, name in broken.items() if name in ("result.json", "failed.json")}
    for run, row in results.states("status").items():
        if run in named:
            assert row["state"] == "failed"
            assert f"cannot read {results.runs / run / broken[run]}" in row["why"]
        elif run in broken:
            assert row["state"] == "to do"
            assert row["why"].startswith("interrupted: run_all.py resumes it")
        else:
            assert (row["state"], row["top1"]) == ("finished", pytest.approx(0.9 * 71, abs=5))
    assert len(results.run("status").splitlines()) == 1 + len(broken)
    expected = {"result.json": "finished", "failed.json": "failed"}
    for run, row in results.states("plan").items():
        if run in broken:
            assert row["state"] == expected.get(broken[run], "incomplete")
        assert ("cannot read" in row["why"]) == (run in named)
    text = results.run("report", "--name", "damaged")
    assert "| SSKD | 75% | 3 | " in text
    assert text.count("cannot read") >= len(named) / 3  # a cell of three seeds says it once
    page = (results.folder / "paper" / "reports" / "damaged" / "index.html").read_text()
    assert all(f'id="run-{run}"' in page for run in broken)


def changed(outer: str, inner: str, value: str) -> bytes:
    """A whole result but for one key, which has ``value`` as it stands there."""
    score = {"epoch": 2, "test_top1": 70.0}
    result: dict[str, Any] = RESULT | {"best": dict(score), "last": dict(score)}
    (result[outer] if inner else result)[inner or outer] = "HERE"
    return json.dumps(result).replace('"HERE"', value).encode()


WRONG = {
    "text": changed("best", "test_top1", '"72"'),
    "not a number": changed("last", "test_top1", "NaN"),
    "no number": changed("last", "test_top1", "null"),
    "without end": changed("best", "epoch", "1e999"),
    "a truth": changed("seconds", "", "true"),
    "no machine": changed("machine", "", "[]"),
}


@pytest.mark.parametrize("what", [*DAMAGES, *WRONG])
def test_what_is_read_of_each(tmp_path: Path, what: str) -> None:
    content = (DAMAGES | WRONG)[what]
    folder = RunFolder(tmp_path, small.spec(small.student("kd")))
    folder.path.mkdir()
    for file in (folder.result, folder.failure, folder.metrics):
        write(file, content)
    with pytest.raises(UserError, match=r"cannot read .*result\.json: .*; delete it"):
        read_result(folder.result, "student")
    if what in WRONG:
        return
    assert folder.read_failure()["message"].startswith(f"cannot read {folder.failure}: ")
    assert all(isinstance(row, dict) for row in folder.read_metrics())
    if content is not None:
        folder.metrics.write_bytes(b'{"epoch": 1}\n' + content + b'\n{"epoch": 3}\n')
        assert folder.read_metrics()[0] == {"epoch": 1}


def test_what_is_changed_in_it_is_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(changed("seconds", "", "2.0"))
    assert read_result(tmp_path / "result.json", "student")["seconds"] == 2.0


def test_damaged_results_are_failures(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to train: every other run is finished."""
    monkeypatch.setattr("benchmarks.dispatch.local.ProcessSlot", lambda *_: None)
    monkeypatch.setattr("benchmarks.report.write.write_report", lambda *_: Written(defaultdict(str), ""))
    broken = results.damage(DAMAGES, "result.json")
    assert main([*REQUEST, "--results", str(results.folder)]) == 1
    shown = results.capsys.readouterr()
    assert f"{len(DAMAGES)} with an unreadable result" in shown.out
    for run in broken:
        assert f"run_all: {run}: cannot read" in shown.err


def test_weights_that_are_missing_or_damaged_are_named_under_the_table(results: Results) -> None:
    whole = safetensors_bytes({"a": torch.zeros(3)})
    for folder in results.runs.iterdir():
        for name in ("best", "last"):
            (folder / f"{name}.safetensors").write_bytes(whole)

    def said() -> list[str]:
        frame, benchmark = results.frame(), BENCHMARKS["fig4a"]
        return [line for line in notes(frame, benchmark, summary(frame, benchmark)) if line.startswith("The weights")]

    assert said() == []
    damages: list[bytes | None] = [whole[:-1], b"", b"garbage", whole + b"x", None]
    for run, content in zip(results.students, damages, strict=False):
        write(results.runs / run / "best.safetensors", content)
    (results.runs / results.students[5] / "last.safetensors").unlink()
    missing, damaged = said()
    assert damaged.startswith("The weights of 5 of 36 ")
    assert results.students[5] in missing


# --- folders that are none, and what this user may not read -----------------------------------------------------------


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes the contents of the folder inaccessible, as for another user (root can access everything)."""

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


def test_bad_folders_cost_only_their_runs(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a link to nothing and a folder that may not be entered in its place, and a folder as its metrics."""
    file, link, forbidden, metrics = (results.runs / run for run in results.students[:4])
    shutil.rmtree(file)
    file.write_bytes(b"")
    shutil.rmtree(link)
    link.symlink_to(results.folder / "nowhere")
    forbid(monkeypatch, forbidden)
    (metrics / "result.json").unlink()
    write(metrics / "metrics.jsonl", None)
    rows = results.states("status")
    bad = {run for run, row in rows.items() if row["state"] != "finished"}
    assert bad == set(results.students[:4])
    named = {file.name, forbidden.name}
    assert {run for run in bad if "cannot read" in rows[run]["why"]} == named
    assert {run for run, row in results.states("plan").items() if "cannot read" in row["why"]} == named
    frame = results.frame()
    assert set(frame["id"][frame["state"] != "finished"]) == bad


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
