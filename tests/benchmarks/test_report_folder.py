"""A report belongs to what was asked for: a profile's own is never replaced by another request's."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.main import main, make_parser
from benchmarks.commands.request import read_request
from benchmarks.profiles.read import read_profile
from benchmarks.report.report_folder import LONGEST, ReportTarget, request_name
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from tests.benchmarks.made import finish
from tests.benchmarks.test_staleness import OWN_METHOD, forget_plugins
from tests.test_run_all import TINY


def target(folder: Path, *options: str) -> ReportTarget:
    """Returns the target of a request's report, after saving the request."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    given = ["report", "--profile", str(path), "--results", str(folder / "results"), *options]
    found = read_request(make_parser().parse_args(given)).target
    found.save_request()
    return found


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], None),
        (["--only", "comparison"], None),
        (["--dataset-root", "elsewhere"], None),
        (["--set", "execution.device=cpu"], None),
        (["--set", "cluster.runs_at_once=3", "cluster.time=1:00:00"], None),
        (["--set", "execution={device: cpu}", "cluster=side_by_side"], None),
        (["--methods", "none,kd", "--seeds", "0"], "methods=none,kd_seeds=0"),
        (["--methods", "none,kd", "--seeds", "0", "--set", "execution.workers=1"], "methods=none,kd_seeds=0"),
        (["--seeds", "0", "--set", "recipe.epochs=1", "execution.device=cpu"], "seeds=0_recipe.epochs=1"),
        (["--only", "comparison,fig3a"], "comparison,fig3a"),
        (["--reference", "kd"], "reference=kd"),
        (["--name", "mine"], "mine"),
        (["--set", "strict=[packages]"], "strict=-packages-ccdae465"),
    ],
)
def test_a_request_has_the_profiles_report_or_one_of_its_own(
    tmp_path: Path, options: list[str], name: str | None
) -> None:
    found, own = target(tmp_path, *options), tmp_path / "results" / "tiny"
    if name is None:
        assert found.folder == own
        assert list(found.cells) == ["comparison"]
        assert found.request is None
    else:
        assert found.folder == own / "reports" / name
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
    files = [tmp_path / folder / name for folder, name in (("a", "mine.py"), ("b", "mine.py"), ("b", "yours.py"))]
    folders = list[Path]()
    for file in [*files, files[0]]:
        file.parent.mkdir(exist_ok=True)
        file.write_text(OWN_METHOD.format(name="own_edited", title="Own"))
        forget_plugins()
        folders.append(target(tmp_path, "--methods", "none,own_edited", "--plugin", str(file)).folder)
    assert len(set(folders)) == 3
    assert folders[0] == folders[-1]
    assert folders[0].name.startswith("methods=none,own_edited_plugin=")


def test_names_of_requests() -> None:
    assert request_name({"only": "fig4a", "set": ["recipe.epochs=3"]}) == "fig4a_recipe.epochs=3"
    odd = [request_name({"set": [f"dataset.path={path}"]}) for path in ("/a/b", "/a-b", "a b")]
    assert len(set(odd)) == 3
    assert all("/" not in name and name.startswith("dataset.path=") for name in odd)
    assert len(request_name({"methods": "x" * 500})) == LONGEST + 9
    assert "/" not in request_name({"set": ["name=../../x"]})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_variant_leaves_the_profiles_report_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of none, KD and SSKD, finished. The same request again gives the same bytes."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    profile = read_profile(str(path), [])
    cells = {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile))}
    results = tmp_path / "results" / "tiny"
    finish(cells, results / "runs", lambda spec: 50.0 + spec.seed)

    def report(*options: str) -> str:
        assert main(["report", "--profile", str(path), "--results", str(results.parent), *options]) == 0
        return capsys.readouterr().out

    shown = report()
    assert f"8 of 8 runs finished in {results / 'runs'}\n" in shown
    assert f"written to {results / 'index.html'}" in shown
    before = files(results)
    assert json.loads(report("--methods", "none,kd", "--json"))["benchmark"] == "comparison"
    (variant,) = (results / "reports").iterdir()
    assert {name: data for name, data in files(results).items() if not name.startswith("reports")} == before
    page = (variant / "index.html").read_text()
    assert 'href="../../runs/student-' in page
    assert f"Request: {variant.name}." in page
    assert "Request:" not in (results / "index.html").read_text()
    assert "<polyline" in page  # curves come from the runs, which are shared
    again = files(results)
    report("--methods", "none,kd", "--json")
    assert files(results) == again


def test_nothing_finished_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results folder is wrong, as if the command were started in another folder."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["report", "--profile", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"finished in {tmp_path / 'elsewhere' / 'results' / 'tiny' / 'runs'}: nothing to report" in error
    assert not list((tmp_path / "elsewhere").iterdir())
