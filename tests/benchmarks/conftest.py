"""A report that several tests read."""

import json
from pathlib import Path

import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
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
