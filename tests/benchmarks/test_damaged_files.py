"""A damaged file in a run's folder is that run's trouble: every command names it, and shows the rest."""

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.profiles.read import read_profile
from sskd.errors import UserError
from sskd.runs.result_file import read_result
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from tests.benchmarks.made import finish
from tests.benchmarks.test_report import cells_of, top1

DAMAGES = {
    "cut off": b'{"best": {"epo',
    "empty": b"",
    "list": b"[]",
    "nothing in it": b"{}",
    "null": b'{"best": null, "last": null, "message": null, "stage": null, "epoch": null}',
    "not UTF-8": b'{"message": "\xff\xfe"}',
    "text for a number": b'{"seconds": "x", "message": 5, "epoch": "x", "top1": "x", "images_per_second": []}',
    "deep": b"[" * 100_000,
    "number": b"7",
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
        (folder / name).write_bytes(content)


def run(results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main([*REQUEST, "--results", str(results[0]), *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["result.json", "failed.json", "progress.json", "metrics.jsonl"])
def test_commands_survive_it(
    results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage(results, name)
    broken = {spec.id for spec in results[1]}
    named = name in ("result.json", "failed.json")

    # --status
    rows = {row["id"]: row for row in json.loads(run(results, capsys, "--status", "--json"))["runs"]}
    for run_id, row in rows.items():
        if run_id not in broken:
            assert (row["state"], row["top1"]) == ("finished", pytest.approx(0.9 * 70, abs=4))
        elif named:
            assert row["state"] == "failed"
            assert f"cannot read {results[0] / 'paper' / 'runs' / run_id / name}" in row["why"]
        else:
            assert (row["state"], row["why"]) == ("to do", "interrupted: run_all.py goes on with it")
    assert len(run(results, capsys, "--status").splitlines()) == 1 + len(broken)

    # --dry-run
    plan = json.loads(run(results, capsys, "--dry-run", "--json"))
    assert plan["rate_from"].startswith("as ")
    for row in plan["runs"]:
        if row["id"] in broken:
            assert row["state"] == {"result.json": "finished", "failed.json": "failed"}.get(name, "incomplete")
        assert ("cannot read" in row["why"]) == (row["id"] in broken and named)
    text = run(results, capsys, "--dry-run")
    assert text.count(f"/{name}: ") == (len(broken) if named else 0)

    # the report
    text = run(results, capsys, "--report-only", "--name", "damaged")
    assert "| SSKD | 75% | 1 | " in text
    assert text.count("cannot read") >= (len(broken) if named else 0)
    page = (results[0] / "paper" / "reports" / "damaged" / "index.html").read_text()
    assert all(f'id="run-{run_id}"' in page for run_id in broken)


def test_finished_runs_whose_curves_are_damaged_keep_their_numbers(
    results: tuple[Path, list[RunSpec]], capsys: pytest.CaptureFixture[str]
) -> None:
    for spec, content in zip(results[1], DAMAGES.values(), strict=True):
        (results[0] / "paper" / "runs" / spec.id / "metrics.jsonl").write_bytes(content)
    assert "cannot read" not in run(results, capsys, "--report-only", "--name", "damaged")
    assert "cannot read" not in run(results, capsys, "--dry-run")
    assert "failed" not in run(results, capsys, "--status")


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_what_is_read_of_each(tmp_path: Path, content: bytes) -> None:
    spec = next(cell.spec for cell in cells_of(read_profile("paper", ["seeds=[0]"]), "fig4a")["fig4a"])
    folder = RunFolder(tmp_path, spec)
    folder.path.mkdir()
    for file in (folder.result, folder.failure, folder.metrics):
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*result\.json: .*; delete it"):
        read_result(folder.result, "student")
    assert folder.read_failure()["message"].startswith(f"cannot read {folder.failure}: ")
    assert all(isinstance(row, dict) for row in folder.read_metrics())
    folder.metrics.write_bytes(b'{"epoch": 1}\n' + content + b'\n{"epoch": 3}\n')
    assert folder.read_metrics()[0] == {"epoch": 1}
