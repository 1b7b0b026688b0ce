"""Reports that several tests read."""

import json
from pathlib import Path

import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
from sskd.runs.spec import RunSpec
from tests.benchmarks.made import cells_of, finish, top1

REPORTED = ("table3", "table6", "fig4a")


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report over two seeds with a failed run, CRD's others not run, and a failure's text that would
    break a page that did not escape it. Tests only read it."""
    folder = tmp_path_factory.mktemp("reported")
    profile = read_profile("paper", ["seeds=[0,1]", "about=digits <b>& so on</b>"])
    cells = cells_of(profile, *REPORTED)
    finish(cells, folder / "runs", top1, skip=("-crd-",))
    crd = next(cell.spec for cell in cells["table3"] if cell.row == "CRD")
    (folder / "runs" / crd.id).mkdir()
    (folder / "runs" / crd.id / "failed.json").write_text(json.dumps({"message": "<script>alert(1)</script> | full"}))
    write_report(profile, cells, folder)
    return folder


LEVELS = {"kd": 60.0, "kd_again": 75.0, "kd_shuffled": 51.0, "at": 79.0, "crd": 60.0, "sskd": 80.0}
NOISE = {"sskd": (0.1, 0.0, -0.1), "at": (3.0, -3.0, 0.0), "kd_again": (0.1, 0.0, 0.0), "kd_shuffled": (0.3, 0.1, 0.2)}


@pytest.fixture(scope="session")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report over three seeds with both controls: SSKD far above KD and CRD, and one point above AT,
    whose seeds vary by three. One run has a damaged metrics.jsonl. Tests only read it."""
    folder = tmp_path_factory.mktemp("decided")
    profile = read_profile(
        "paper", ["seeds=[0,1,2]", "methods=[none,kd,kd_again,kd_shuffled,sskd]", "fractions=[0.25]"]
    )
    cells = cells_of(profile, "comparison", "fig4a")

    def reached(spec: RunSpec) -> float:
        return LEVELS.get(spec.learns, 50.0) + NOISE.get(spec.learns, (0.0, 0.1, 0.05))[spec.seed]

    finish(cells, folder / "runs", reached)
    (damaged,) = (folder / "runs").glob("student-resnet20-kd_again-*-s2-*")
    (damaged / "metrics.jsonl").write_bytes(b"\xff\n{}\n")
    write_report(profile, cells, folder)
    return folder
