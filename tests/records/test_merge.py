"""Several people's results in one report: whose each cell is, equal copies once, conflicts shown, not overwritten."""

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks.analysis.frame import specs_of
from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.records.merge import merge, named, read_who
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.runs.run_folder import RunFolder
from tests.benchmarks.made import finish
from tests.records.forging import Change, in_place_of, in_result

COMPARISON = str(Path(__file__).with_name("comparison.yaml"))
PROFILE = ["--profile", COMPARISON]
KD = "student-resnet8-kd-digits16-s1"


@pytest.fixture
def cells() -> dict[str, list[Cell]]:
    profile = read_profile(COMPARISON, [])
    return {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile))}


def results_of(
    cells: dict[str, list[Cell]], folder: Path, skip: tuple[str, ...], device: str, more: float = 0.0
) -> None:
    """A person's results: runs that were never trained, all but those with a word of ``skip`` in their id."""
    finish(cells, folder / "runs", lambda spec: 70.0 + spec.seed + more, skip)
    for spec in specs_of(cells).values():
        run = RunFolder(folder / "runs", spec)
        if run.path.exists():
            run.create()
            result = json.loads(run.result.read_text())
            result["machine"] |= {"device": device, "host": device.lower()}
            run.result.write_text(json.dumps(result))


def merged(folder: Path, *sources: str) -> str:
    """The comparison's Markdown of what was merged."""
    assert main(["merge", *PROFILE, "--results", str(folder), *sources]) == 0
    return (folder / "demo" / "comparison.md").read_text()


def test_two_halves_make_one_report(
    cells: dict[str, list[Cell]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results_of(cells, tmp_path / "alice", ("-sskd-", "-crd-"), "Epyc")
    results_of(cells, tmp_path / "theirs" / "demo", ("-kd-", "-at-", "-none-"), "Xeon")
    text = merged(tmp_path / "out", str(tmp_path / "alice"), f"bob={tmp_path / 'theirs'}")
    summary = text.split("\n\nSSKD minus every other")[0]
    table = [line.split(" | ") for line in summary.splitlines() if line.startswith("| ")]
    lines = {line[0].strip("| "): line for line in table}
    assert lines["SSKD"][2] == lines["KD"][2] == "3"
    assert "By alice (Epyc, epyc): Student in resnet14/resnet8 (seed 0, 1, 2), KD in" in text
    assert "By bob (Xeon, xeon): CRD in resnet14/resnet8 (seed 0, 1, 2), SSKD in" in text
    assert "alice, bob (Epyc, epyc): Teacher" in text  # both have it, and the same
    assert "‡" not in text
    assert "alice, bob" in (tmp_path / "out" / "demo" / "runs.csv").read_text()
    assert "0 in conflict" in capsys.readouterr().out
    # merged again nothing changes, and from a merged folder it is the same
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("who.json")}
    merge([str(tmp_path / "alice"), f"bob={tmp_path / 'theirs'}"], tmp_path / "out" / "demo", "demo", lambda _: None)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("who.json")} == before
    merge([str(tmp_path / "out")], tmp_path / "again" / "demo", "demo", lambda _: None)
    again = {path.read_bytes() for path in (tmp_path / "again").rglob("who.json")}
    assert again == set(before.values())


def test_two_results_of_one_run_are_shown_and_the_first_stays(cells: dict[str, list[Cell]], tmp_path: Path) -> None:
    results_of(cells, tmp_path / "alice", (), "Epyc")
    results_of(cells, tmp_path / "bob", ("-sskd-", "-crd-", "-at-", "-none-", "teacher", "head"), "Xeon", more=1.0)
    text = merged(tmp_path / "out", str(tmp_path / "alice"), str(tmp_path / "bob"))
    runs = tmp_path / "out" / "demo" / "runs"
    (run,) = (path for path in runs.iterdir() if path.name.startswith(KD))
    kept = json.loads((run / "result.json").read_text())
    assert kept == json.loads((tmp_path / "alice" / "runs" / run.name / "result.json").read_text())
    who = read_who(run)
    assert who
    assert [source.name for source in who.conflicts] == ["bob"]
    other = tmp_path / "out" / "demo" / str(who.conflicts[0].folder) / "result.json"
    assert other.read_bytes() == (tmp_path / "bob" / "runs" / run.name / "result.json").read_bytes()
    last = kept["last"]["test_top1"]
    assert f"‡ two results of one run, {run.name}: alice has {last:.2f} (used); bob has {last + 0.9:.2f}." in text
    assert next(line for line in text.splitlines() if line.startswith("| KD |")).endswith("| ‡ |")
    assert not next(line for line in text.splitlines() if line.startswith("| SSKD |")).endswith("| ‡ |")
    assert "two results of one run" in (tmp_path / "out" / "demo" / "index.html").read_text()


@pytest.mark.parametrize(
    ("source", "there", "name", "place"),
    [
        ("bob=DIR", "", "bob", "DIR"),
        ("DIR", "", "", "DIR"),
        ("./lr=0.1", "lr=0.1", "", "./lr=0.1"),
        ("lr=0.1", "lr=0.1", "", "lr=0.1"),  # a folder of this name is there
        ("bob=DIR", "bob", "bob", "DIR"),  # a folder of bob's beside it
    ],
)
def test_a_source_and_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, there: str, name: str, place: str
) -> None:
    (tmp_path / there).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert named(source) == (name, place)


ELSEWHERE = ["../../evil", "..", "a/b", ".hidden", "-x", "a\\b", "tab\t"]


@pytest.mark.parametrize(
    "source", ["/data/lr=0.1", "=DIR", "bob=", "../lr=0.1", *(f"{name}=DIR" for name in ELSEWHERE)]
)
def test_a_source_that_is_neither_and_a_name_that_leads_elsewhere(source: str) -> None:
    with pytest.raises(UserError, match="name|folder"):
        named(source)


def test_bad_sources(cells: dict[str, list[Cell]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--results", str(tmp_path / "out")]
    assert main(["merge", *PROFILE, *out, str(tmp_path / "nothing")]) == 2
    assert "no finished run" in capsys.readouterr().err
    results_of(cells, tmp_path / "out" / "demo", (), "Epyc")
    assert main(["merge", *PROFILE, *out, str(tmp_path / "out")]) == 2
    assert "the same folder" in capsys.readouterr().err
    # one damaged folder is named, and costs nothing else
    results_of(cells, tmp_path / "alice", (), "Epyc", more=1.0)
    damaged = next((tmp_path / "alice" / "runs").glob("student-*"))
    (damaged / "spec.yaml").write_text("role: [")
    assert main(["merge", *PROFILE, *out, str(tmp_path / "alice")]) == 0
    printed = capsys.readouterr().out
    assert "omitted: " in printed
    assert "here has " in printed  # what was there before it


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a single run in them, and beside them a file that belongs to nobody else."""
    folder = tmp_path_factory.mktemp("one")
    profile = read_profile(COMPARISON, [])
    made = {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile))}
    results_of(
        made, folder / "theirs", ("teacher", "head", "-sskd-", "-crd-", "-at-", "-none-", "-s0-", "-s2-"), "Epyc"
    )
    (folder / "secret").write_text("secret")
    return folder


def test_the_known_files_of_a_run_are_copied_alone(one_run: Path, tmp_path: Path) -> None:
    shutil.copytree(one_run, tmp_path / "one")
    (run,) = (tmp_path / "one" / "theirs" / "runs").iterdir()
    shutil.copytree(run, run / "epochs" / "more")
    (run / "notes.txt").symlink_to("../../../secret")
    (run / "wandb").symlink_to("..", target_is_directory=True)
    os.mkfifo(run / "pipe")
    (run / "run.py").write_text("print()")
    merge([f"bob={tmp_path / 'one' / 'theirs'}"], tmp_path / "out", "demo", lambda _: None)
    copied = {str(path.relative_to(tmp_path / "out" / "runs" / run.name)) for path in (tmp_path / "out").rglob("*.*")}
    assert (
        {"spec.yaml", "result.json", "who.json"} <= copied <= {"spec.yaml", "result.json", "metrics.jsonl", "who.json"}
    )


LEFT_OUT: dict[str, Change] = {
    "a link for the result": in_place_of("result.json", lambda path: path.symlink_to("../../../secret")),
    "a FIFO for the result": in_place_of("result.json", os.mkfifo),
    "a folder for the weights": in_place_of("best.safetensors", Path.mkdir),
    "a result that is a list": lambda run: (run / "result.json").write_text("[1]"),
    "a machine that is a list": in_result(machine=[]),
    "a link for the run": lambda run: (run.rename(run.parents[1] / "kept"), run.symlink_to("../kept")),
}


@pytest.mark.parametrize("strange", LEFT_OUT)
def test_a_run_that_is_none_is_left_out(one_run: Path, tmp_path: Path, strange: str) -> None:
    shutil.copytree(one_run, tmp_path / "one")
    (run,) = (tmp_path / "one" / "theirs" / "runs").iterdir()
    LEFT_OUT[strange](run)
    said: list[str] = []
    merge([f"bob={tmp_path / 'one' / 'theirs'}"], tmp_path / "out", "demo", said.append)
    assert "omitted: " in said[0]
    assert run.name in said[0]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name not in ("out", "runs")]


def test_a_link_for_all_runs_is_not_followed(one_run: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "runs").symlink_to(one_run / "theirs" / "runs")
    with pytest.raises(UserError, match="no finished run"):
        merge([str(tmp_path / "theirs")], tmp_path / "out", "demo", lambda _: None)
