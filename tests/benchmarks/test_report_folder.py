"""A report belongs to what was asked for: a profile's own is never replaced by another request's."""

import json
from pathlib import Path

import pytest

from benchmarks.commands.main import main, make_parser
from benchmarks.commands.request import read_request
from benchmarks.profiles.read import read_profile
from benchmarks.report.report_folder import LONGEST, ReportTarget, request_name
from sskd.errors import UserError
from tests.benchmarks.made import cells_of, finish, own_method, tiny
from tests.benchmarks.test_staleness import forget_plugins


def target(folder: Path, *options: str) -> ReportTarget:
    """Returns the target of a request's report, after saving the request."""
    given = ["report", "--profile", tiny(folder), "--results", str(folder / "results"), *options]
    found = read_request(make_parser().parse_args(given)).target
    found.save_request()
    return found


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], ""),
        (["--only", "comparison"], ""),
        (["--dataset-root", "elsewhere"], ""),
        (["--set", "cluster.runs_at_once=3", "cluster.time=1:00:00"], ""),
        (["--set", "execution={device: cpu}", "cluster=side_by_side"], ""),
        (["--methods", "none,kd", "--seeds", "0", "--set", "execution.workers=1"], "methods=none,kd_seeds=0"),
        (["--seeds", "0", "--set", "recipe.epochs=1", "execution.device=cpu"], "seeds=0_recipe.epochs=1"),
        (["--only", "comparison,fig3a"], "comparison,fig3a"),
        (["--reference", "kd"], "reference=kd"),
        (["--name", "mine"], "mine"),
        (["--set", "strict=[packages]"], "strict=-packages-ccdae465"),
    ],
)
def test_a_request_has_the_profiles_report_or_one_of_its_own(tmp_path: Path, options: list[str], name: str) -> None:
    found, own = target(tmp_path, *options), tmp_path / "results" / "tiny"
    assert found.folder == (own / "reports" / name if name else own)
    assert (found.request is None) == (not name)
    assert target(tmp_path, *options).folder == found.folder


def test_a_name_is_one_requests(tmp_path: Path) -> None:
    folder = target(tmp_path, "--methods", "none,kd", "--name", "mine").folder
    with pytest.raises(UserError, match="mine is the report of another request"):
        target(tmp_path, "--methods", "none,sskd", "--name", "mine")
    execution = ["--set", "execution.workers=1"]
    assert target(tmp_path, "--methods", "none,kd", "--name", "mine", *execution).folder == folder
    for bad in ("../evil", ".", " ", "a/b", "-x"):
        with pytest.raises(UserError, match="--name"):
            target(tmp_path, f"--name={bad}")


def test_two_plugins_have_two_reports(tmp_path: Path) -> None:
    """Each defines a method of one name, so their runs have the same ids: the files tell them apart."""
    folders = []
    for name in ("a/mine.py", "b/mine.py", "b/yours.py", "a/mine.py"):
        plugin = own_method(tmp_path / name, "own_edited", "Own")
        forget_plugins()
        folders.append(target(tmp_path, "--methods", "none,own_edited", "--plugin", plugin).folder)
    assert len(set(folders)) == 3
    assert folders[0] == folders[-1]
    assert folders[0].name == "methods=none,own_edited_plugin=mine"


def test_names_of_requests() -> None:
    odd = [request_name({"set": [f"dataset.path={path}"]}) for path in ("/a/b", "/a-b", "a b")]
    assert len(set(odd)) == 3
    assert all("/" not in name and name.startswith("dataset.path=") for name in odd)
    assert len(request_name({"methods": "x" * 500})) == LONGEST + 9
    assert "/" not in request_name({"set": ["name=../../x"]})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_variant_leaves_the_profiles_report_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of none, KD and SSKD, finished. The same request again gives the same bytes."""
    results, profile = tmp_path / "results" / "tiny", tiny(tmp_path)
    finish(cells_of(read_profile(profile, []), "comparison"), results / "runs", lambda spec: 50.0 + spec.seed)

    def report(*options: str) -> str:
        assert main(["report", "--profile", profile, "--results", str(results.parent), *options]) == 0
        return capsys.readouterr().out

    assert f"8 of 8 runs finished in {results / 'runs'}\n" in report()
    before = files(results)
    assert json.loads(report("--methods", "none,kd", "--json"))["benchmark"] == "comparison"
    (variant,) = (results / "reports").iterdir()
    again = files(results)
    assert {name: data for name, data in again.items() if not name.startswith("reports")} == before
    page = (variant / "index.html").read_text()
    assert 'href="../../runs/student-' in page
    assert f"Request: {variant.name}." in page
    assert "<polyline" in page  # curves come from the runs, which are shared
    report("--methods", "none,kd", "--json")
    assert files(results) == again


def test_nothing_finished_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results folder is wrong, as if the command were started in another folder."""
    profile = tiny(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["report", "--profile", profile]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"finished in {tmp_path / 'elsewhere' / 'results' / 'tiny' / 'runs'}: nothing to report" in error
    assert not list((tmp_path / "elsewhere").iterdir())
