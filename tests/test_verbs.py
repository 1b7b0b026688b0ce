"""The verbs of run_all.py: what each takes, and requests that are known by their names."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.main import VERBS, main, make_parser
from benchmarks.commands.request import job_of, read_request
from benchmarks.dispatch.job import Job
from benchmarks.tables.spec_builder import run_label
from tests.cluster.suite import Suite


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Nothing of it is trained."""
    monkeypatch.setattr("benchmarks.dispatch.launch.launch", lambda *_: {})
    return Suite(tmp_path, methods=["none", "kd"], fractions=[0.5, 1.0], pairs={"vgg13/vgg8": "resnet8/resnet8"})


def job_asked(suite: Suite, *options: str) -> Job:
    return job_of(read_request(make_parser().parse_args(suite.command("plan", *options))))


def asked(suite: Suite, *options: str) -> set[tuple[str, int]]:
    """The method and the seed of each student that is asked for."""
    students = [spec for spec in job_asked(suite, *options).plan.runs if spec.role == "student"]
    return {(run_label(spec), spec.seed) for spec in students}


@pytest.mark.parametrize("verb", VERBS)
def test_each_has_help_with_its_options_and_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert f" {verb} " in shown.partition("example: ")[2]
    assert ("--detach" in shown) == (verb == "run")
    assert ("--only" in shown) == (verb not in ("tune", "submit", "verify", "list", "explain"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "tiny"),
        (("--methods", "kd"), "tiny_methods=kd"),
        (("--methods", "kd", "--name", "mine"), "mine"),
    ],
)
def test_a_request_is_known_by_its_name(
    options: tuple[str, ...], name: str, suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.run("run", *options)
    assert job_asked(suite, *options).name == name  # Slurm's jobs carry it
    assert [path.stem for path in (suite.results / "requests").iterdir()] == [name]
    capsys.readouterr()
    results = ("--results", str(suite.results))
    assert main(["status", name, "--json", *results]) == 0
    by_name = json.loads(capsys.readouterr().out)
    assert suite.run("status", "--json", *options) == 0
    assert by_name == json.loads(capsys.readouterr().out)
    assert by_name["runs"]
    assert main(["cancel", name, *results]) == 0
    assert main(["watch", name, *results]) == 1  # nobody works on it, and it is not finished
    for wrong in ([name[:-1]], [name, "--seeds", "1"], [name, "--all"]):
        assert main(["status", *wrong, *results]) == 2


def test_a_name_is_of_one_profile(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite.run("run", "--name", "mine")
    other = Suite(tmp_path / "other", methods=["none"])
    other.results = suite.results
    assert other.run("run", "--name", "mine") == 2
    path = suite.results / "requests" / "mine.yaml"
    assert yaml.safe_load(path.read_text())["profile"] == str(suite.profile)
    path.write_text("[]")
    assert main(["status", "mine", "--results", str(suite.results)]) == 2
    assert str(path) in capsys.readouterr().err


def test_all_that_works_in_a_results_folder(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--all", "--results", str(suite.results)]) == 2  # there is none
    suite.run("run")
    suite.runs.mkdir(parents=True, exist_ok=True)
    capsys.readouterr()
    assert main(["status", "--all", "--json", "--results", str(suite.results)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == []


def test_methods_and_seeds_choose_from_every_benchmark(suite: Suite) -> None:
    every = ("--only", "comparison,fig4a,table6")
    assert {("KD", 0), ("AT", 0), ("SSKD", 0)} <= asked(suite, *every)
    assert asked(suite, *every, "--methods", "kd,sskd", "--seeds", "7") == {("KD", 7), ("SSKD", 7)}
    assert asked(suite, "--only", "fig4a", "--methods", "kd,crd+kd") == {("KD", 0), ("CRD+KD", 0)}
    assert asked(suite, "--only", "modern", "--methods", "dkd,kd") == {("KD", 0), ("DKD", 0)}
    assert {seed for _, seed in asked(suite, "--only", "table2", "--seeds", "7")} == {7}
