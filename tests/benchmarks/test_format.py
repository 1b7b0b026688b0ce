"""docs/results_format.md says all that the types hold, and results of every version are read by them."""

import json
from pathlib import Path

import pytest

from benchmarks.analysis.frame import read_result
from benchmarks.report.schema import FILES, schema
from sskd.errors import UserError
from sskd.runs.records import SCHEMA, EpochRow, Result
from sskd.runs.spec import read_spec

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(ROOT.glob("results/miniature/runs/*/"))


def test_every_key_says_what_it_means() -> None:
    assert set(schema()["files"]) == set(FILES)
    for each in schema()["files"].values():
        assert all("description" in entry for entry in each["properties"].values())


def test_results_of_earlier_versions_are_read() -> None:
    assert len(COMMITTED) > 70
    for run in COMMITTED:
        Result.model_validate(read_result(run / "result.json", read_spec(run / "spec.yaml").role))
        for line in (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else ():
            EpochRow.model_validate(json.loads(line))


def test_a_run_of_today_is_as_described(runs: Path) -> None:
    (run,) = runs.glob("student-*")
    result = json.loads((run / "result.json").read_text())
    read = Result.model_validate(result)
    assert read.schema_version == SCHEMA
    assert result.keys() <= {field.alias or key for key, field in Result.model_fields.items()}
    assert read.machine.cpu_capability
    known = read.measured_with
    assert None not in (known.network, known.teacher, known.split, known.pixels, known.execution)
    for line in (run / "metrics.jsonl").read_text().splitlines():
        EpochRow.model_validate(json.loads(line))


def test_a_result_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    newest = max(COMMITTED[0].glob("result.json"))
    file.write_text(json.dumps(json.loads(newest.read_text()) | {"schema": SCHEMA + 1}))
    with pytest.raises(UserError, match="version 2"):
        read_result(file, "head")


def test_a_report_has_the_schema(reported: Path) -> None:
    assert json.loads((reported / "schema.json").read_text()) == json.loads(json.dumps(schema()))
