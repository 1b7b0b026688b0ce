"""A report belongs to what was asked for: a profile's own is never replaced by another request's."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.report.report_folder import LONGEST, request_name
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from tests.benchmarks.made import finish
from tests.benchmarks.test_changes import OWN_METHOD, forget_plugins
from tests.test_run_all import TINY

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two seeds of none, KD and SSKD, finished."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    profile = read_profile(str(path), [])
    cells = {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile))}
    finish(cells, tmp_path / "results" / "tiny" / "runs", lambda spec: 50.0 + spec.seed)
    return tmp_path / "results" / "tiny"


def report(results: Path, *options: str) -> int:
    profile = str(results.parent.parent / "tiny.yaml")
    return main(["report", "--profile", profile, "--results", str(results.parent), *options])


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        (["--methods", "none,kd", "--seeds", "0"], "methods=none,kd_seeds=0"),
        (["--methods", "none,kd,sskd", "--seeds", "0"], "methods=none,kd,sskd_seeds=0"),
        (["--set", "seeds=[0]"], None),
        (["--reference", "kd"], "reference=kd"),
        (["--methods", "none,kd", "--name", "mine"], "mine"),
        (["--name", "mine"], "mine"),
    ],
)
def test_another_request_has_a_folder_of_its_own(
    results: Path, options: list[str], folder: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(results) == 0
    before = files(results)
    capsys.readouterr()
    assert report(results, *options) == 0
    (variant,) = (results / "reports").iterdir()
    assert folder is None or variant.name == folder
    assert f"written to {variant}" in capsys.readouterr().out
    assert {name: data for name, data in files(results).items() if not name.startswith("reports")} == before
    page = (variant / "index.html").read_text()
    assert 'href="../../runs/student-' in page
    assert f"Of this report: {variant.name}." in page
    assert "Of this report" not in (results / "index.html").read_text()
    assert "<polyline" in page  # curves come from the runs, which are shared
    again = files(results)
    assert report(results, *options) == 0
    assert files(results) == again


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "comparison"],
        ["--methods", "none,kd,sskd", "--seeds", "0,1"],  # in other words what the profile says
        ["--set", "execution.device=cpu", "seeds=[0, 1]"],
        ["--dataset-root", "elsewhere"],
    ],
)
def test_the_same_request_in_other_words_is_the_profiles(results: Path, options: list[str]) -> None:
    assert report(results) == 0
    before = files(results)
    assert report(results, *options) == 0
    assert files(results) == before


def placed(results: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Path:
    """The folder that a request's report goes to, and its request.json; the report itself is not made."""
    folders = list[Path]()

    def write_report(profile: object, cells: object, folder: Path, *more: object) -> dict[str, str]:
        folders.append(folder)
        return defaultdict(str)

    monkeypatch.setattr("benchmarks.report.write.write_report", write_report)
    assert report(results, *options) == 0
    return folders[0]


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "execution.device=cpu"],
        ["--set", "execution={device: cpu}", "cluster=side_by_side"],
        ["--set", "cluster.runs_at_once=3"],
        ["--set", "cluster.time=1:00:00", "execution.workers=1"],
        ["--dataset-root", "elsewhere"],
    ],
)
def test_how_runs_are_executed_makes_no_other_report(
    results: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    asked = ["--methods", "none,kd", "--seeds", "0"]
    first = placed(results, monkeypatch, *asked)
    again = placed(results, monkeypatch, *asked, *options)
    assert again == first == results / "reports" / "methods=none,kd_seeds=0"
    assert placed(results, monkeypatch, *options) == results
    named = placed(results, monkeypatch, *asked, "--name", "mine")
    assert placed(results, monkeypatch, *asked, "--name", "mine", *options) == named
    before = json.loads((named / "request.json").read_text())
    (named / "request.json").write_text(json.dumps(before | {"set": ["execution.device=cpu"]}))  # an older version's
    assert placed(results, monkeypatch, *asked, "--name", "mine") == named
    other = placed(results, monkeypatch, *asked, "--set", "recipe.epochs=1", "execution.device=cpu")
    assert other.name == "methods=none,kd_seeds=0_recipe.epochs=1"


@pytest.mark.parametrize("setting", ["strict=[packages]", 'waivers={"batch": "a reason"}', "overrides={}"])
def test_what_a_table_refuses_is_part_of_the_request(
    results: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    folder = placed(results, monkeypatch, "--set", setting)
    assert (folder == results) == (setting == "overrides={}")


def test_two_plugins_have_two_reports(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each defines a method of one name, so their runs have the same ids: the files tell them apart."""
    files = [results.parent / folder / name for folder, name in (("a", "mine.py"), ("b", "mine.py"), ("b", "yours.py"))]
    folders = list[Path]()
    for file in [*files, files[0]]:
        file.parent.mkdir(exist_ok=True)
        file.write_text(OWN_METHOD.format(name="own_edited", title="Own"))
        forget_plugins()
        folders.append(placed(results, monkeypatch, "--methods", "none,own_edited", "--plugin", str(file)))
    assert len(set(folders)) == 3
    assert folders[0] == folders[-1]
    assert folders[0].name == "methods=none,own_edited_plugin=mine"
    # a plugin that defines nothing of the report makes no other one
    assert placed(results, monkeypatch, "--methods", "none,kd", "--plugin", str(files[0])).name == "methods=none,kd"
    assert placed(results, monkeypatch, "--plugin", str(files[0])) == results


def test_a_profile_with_its_plugin_has_its_report(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = results.parent / "own.py", results.parent / "other.py"
    for file in (own, other):
        file.write_text(OWN_METHOD.format(name="own_edited", title="Own"))
    path = results.parent.parent / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"methods": ["none", "own_edited"], "plugins": [str(own)]}))
    assert placed(results, monkeypatch) == results
    assert placed(results, monkeypatch, "--methods", "none").name == "methods=none"
    path.write_text(yaml.safe_dump(TINY | {"methods": ["none", "own_edited"]}))  # the file does not say whose it is
    forget_plugins()
    assert placed(results, monkeypatch, "--plugin", str(other)) == results
    forget_plugins()
    assert placed(results, monkeypatch, "--plugin", str(own)).name == "plugin=own"  # other.py's report stays
    forget_plugins()
    assert placed(results, monkeypatch, "--plugin", str(other)) == results


def test_a_benchmark_that_the_profile_has_not(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(results) == 0
    before = (results / "index.html").read_bytes()
    assert report(results, "--only", "comparison,fig3a") == 0
    assert (results / "reports" / "comparison,fig3a" / "comparison.md").exists()
    assert (results / "index.html").read_bytes() == before


def test_a_name_is_one_requests(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(results, "--methods", "none,kd", "--name", "mine") == 0
    before = files(results)
    assert report(results, "--methods", "none,sskd", "--name", "mine") == 2
    assert "mine is the report of another request" in capsys.readouterr().err
    for bad in ("../evil", ".", "", " ", "a/b", "-x"):
        if bad:
            assert report(results, f"--name={bad}") == 2
            assert f"--name {bad}: letters" in capsys.readouterr().err
    assert files(results) == before


def test_names_of_requests() -> None:
    assert request_name({"only": "fig4a", "set": ["recipe.epochs=3"]}) == "fig4a_recipe.epochs=3"
    odd = [request_name({"set": [f"dataset.path={path}"]}) for path in ("/a/b", "/a-b", "a b")]
    assert len(set(odd)) == 3
    assert all("/" not in name and name.startswith("dataset.path=") for name in odd)
    assert len(request_name({"methods": "x" * 500})) == LONGEST + 9
    assert "/" not in request_name({"set": ["name=../../x"]})


def test_nothing_finished_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As from another folder than that of the results."""
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--profile", "smoke", "--only", "comparison"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"runs is finished in {tmp_path / 'results' / 'smoke' / 'runs'}: nothing to report" in error
    assert not list(tmp_path.iterdir())


def test_how_many_are_finished_and_where(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(results) == 0
    assert f"8 of 8 runs finished in {results / 'runs'}\n" in capsys.readouterr().out
    assert report(results, "--json") == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "comparison"


@pytest.mark.slow
def test_the_committed_report_stays_byte_for_byte(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "short", tmp_path / "short")
    before = files(tmp_path / "short")
    options = ["report", "--profile", "short", "--results", str(tmp_path)]
    assert main([*options, "--methods", "none,kd", "--seeds", "0"]) == 0
    after = files(tmp_path / "short")
    assert {name: data for name, data in after.items() if not name.startswith("reports")} == before
    assert "reports/methods=none,kd_seeds=0/index.html" in after
