"""Seeds are extra until claims are decided; training is stood in for by made results."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.commands.main import main
from benchmarks.commands.seeds import (
    BenchmarkCells,
    assess,
    cells_of,
    claims_named,
    decide_claims,
    need_lines,
    read_extra_seeds,
)
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from sskd.errors import UserError
from sskd.runs.spec import RunSpec
from tests.benchmarks.made import finish

LEAD = (4.0, 5.0, 7.0, 5.2, 4.8, 5.5, 4.5, 5.1, 4.9, 5.0)  # three seeds leave it open


class Trainer:
    """Finishes what it is given at once, and notes it."""

    def __init__(self, folder: Path, lead: float = 1.0) -> None:
        self.runs, self.lead, self.calls = folder / "runs", lead, list[BenchmarkCells]()

    def top1(self, spec: RunSpec) -> float:
        return 60 + (self.lead * LEAD[spec.seed] if "sskd" in spec.id else 0)

    def __call__(self, cells: BenchmarkCells) -> dict[str, str]:
        self.calls.append(cells)
        finish(cells, self.runs, self.top1)
        return {}

    @property
    def seeds(self) -> list[int]:
        return [cell.spec.seed for cells in self.calls for group in cells.values() for cell in group[:1]]


@pytest.fixture
def profile() -> Profile:
    return read_profile("smoke", ["seeds=[0,1]", "benchmarks=[fig4a]", "fractions=[0.5,1.0]"])


def test_it_buys_seed_after_seed_until_the_claim_is_decided(profile: Profile, tmp_path: Path) -> None:
    trainer, said = Trainer(tmp_path), list[str]()
    assert decide_claims(claims_named(["C8"], profile), 1e9, profile, tmp_path, trainer, said.append) == {}
    assert trainer.seeds == [0, 1, 2, 3]  # in the order in which they count
    assert re.match(r"C8: SSKD - .*: \+\d.* \[.*\]: already supported", said[-1])
    extra = read_extra_seeds(tmp_path)
    assert [(entry.benchmark, entry.seed) for entry in extra] == [("fig4a", 2), ("fig4a", 3)]
    cells = cells_of(profile, ["fig4a"], tmp_path)["fig4a"]
    assert {cell.spec.seed for cell in cells} == {0, 1, 2, 3}  # every later plan and report has them
    assert len({(cell.row, cell.column, cell.spec.seed) for cell in cells}) == len(cells) == 4 * 4 * 2
    again = Trainer(tmp_path)
    decide_claims(claims_named(["C8"], profile), 1e9, profile, tmp_path, again, said.append)
    assert again.calls == []
    more = read_profile("smoke", ["seeds=[0,1,2,3]", "benchmarks=[fig4a]", "fractions=[0.5,1.0]"])
    assert len(cells_of(more, ["fig4a"], tmp_path)["fig4a"]) == len(cells)  # a planned seed does not come twice


@pytest.mark.parametrize("column", ["vgg13/vgg8", "resnet14/resnet8 for vgg13/vgg8"])
def test_extra_seeds_are_found_by_the_published_pair_too(column: str, tmp_path: Path) -> None:
    """Files of earlier versions name it alone."""
    extra = [{"benchmark": "table6", "seed": 5, "cells": [["KD", column], ["SSKD", column]]}]
    (tmp_path / "bought.json").write_text(json.dumps(extra))
    cells = cells_of(read_profile("smoke", ["seeds=[0]"]), ["table6"], tmp_path)["table6"]
    assert [(cell.row, cell.spec.seed) for cell in cells if cell.spec.seed] == [("KD", 5), ("SSKD", 5)]


def test_it_ends_when_the_time_does_not_suffice(profile: Profile, tmp_path: Path) -> None:
    said: list[str] = []
    passed = iter(range(0, 10**9, 10**6))  # a million seconds between two looks at the clock
    trainer = Trainer(tmp_path)
    decide_claims(claims_named(["C8"], profile), 2.5e6, profile, tmp_path, trainer, said.append, lambda: next(passed))
    assert trainer.seeds == [0, 1]
    assert "the time does not suffice" in said[-1]


def test_it_ends_when_seeds_would_not_help(profile: Profile, tmp_path: Path) -> None:
    trainer, said = Trainer(tmp_path, lead=0.0), list[str]()
    trainer.top1 = lambda spec: 60 + (-1) ** spec.seed * ("sskd" in spec.id) * 5.0  # type: ignore[method-assign]
    decide_claims(claims_named(["C8"], profile), 1e9, profile, tmp_path, trainer, said.append)
    assert re.search(r"10 seeds decide it with a predictive probability of \d %$", said[-1])
    assert 3 <= len(trainer.calls) < 10


def test_any_two_methods_are_decided(tmp_path: Path) -> None:
    """Named as the command line does or as tables do; it says with what probability ten seeds decide."""
    profile = read_profile("smoke", ["seeds=[0]", "benchmarks=[comparison]", "methods=[none,kd,sskd]"])
    (claim,) = claims_named(["sskd-Student"], profile)
    assert (claim.id, claim.benchmark) == ("SSKD-Student", "comparison")
    trainer, said = Trainer(tmp_path), list[str]()
    decide_claims([claim], 1e9, profile, tmp_path, trainer, said.append)
    assert trainer.seeds == [0, 1, 2, 3]
    assert {cell.row for cells in trainer.calls for cell in cells["comparison"]} == {"SSKD", "Student"}
    assert re.search(r"10 seeds decide it with a predictive probability of \d+ %", said[-2])
    assert "already supported" in said[-1]
    for wrong, named in (("sskd-at", "at"), ("sskd", "claim"), ("sskd-sskd", "compares")):
        with pytest.raises(UserError, match=named):
            claims_named([wrong], profile)


@pytest.mark.parametrize("failures", [{"run": "why"}, {}])
def test_failures_and_runs_that_do_not_end_are_not_tried_for_ever(
    failures: dict[str, str], profile: Profile, tmp_path: Path
) -> None:
    calls: list[BenchmarkCells] = []

    def train(cells: BenchmarkCells) -> dict[str, str]:
        calls.append(cells)
        return failures

    assert decide_claims(claims_named(["C8"], profile), 1e9, profile, tmp_path, train, print) == failures
    assert len(calls) == 1


def test_what_the_profile_lacks_is_said(tmp_path: Path) -> None:
    """C5 has one head a task; C9 needs two rates of noise."""
    profile = read_profile("smoke", ["seeds=[0,1,2]", "noise_rates=[0.5]"])
    finish(cells_of(profile, ["table2"], tmp_path), tmp_path / "runs", lambda spec: 60.0)
    lines = need_lines(assess(claims_named(["C5", "C9"], profile), profile, tmp_path))
    assert "C5 cannot be decided by more seeds" in lines[0]
    assert "teacher_seeds" in lines[0]
    assert "C9 cannot be decided by more seeds" in lines[1]
    with pytest.raises(UserError, match="C11"):
        claims_named(["C8", "C11"], profile)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--profile", "smoke", "--only", "fig4a", "--results", str(tmp_path)]
    assert main(["plan", *common, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["claims"]
    assert (row["claim"], row["verdict"], row["seeds"]) == ("C8", "undecided", 3)
    assert row["seconds"] > 0
    assert main(["decide", "C8", "--offers", "--hours", "100", *common]) == 0
    assert "C8: seeds 0, 1, 2 of 16 cells of fig4a, about " in capsys.readouterr().out
    assert main(["decide", "C99", "--hours", "1", *common]) == 2
    for hours in ("0", "-1", "nan"):
        assert main(["decide", "C8", "--hours", hours, *common]) == 2
    for wrong in (["decide", "C8"], ["--hours", "1"], ["decide", "C8", "--hours", "1", "--detach"]):
        with pytest.raises(SystemExit) as end:
            main([*wrong, *common])
        assert end.value.code == 2
