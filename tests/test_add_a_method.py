"""docs/add_a_method.md is true: its code, as it stands there, becomes a row of the table."""

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.main import main
from tests.cluster.suite import TINY

PAGE = Path(__file__).parent.parent / "docs" / "add_a_method.md"


def test_the_page_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    (tmp_path / "cosine.py").write_text(code)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"seeds": [0]}))
    command = ["--profile", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]
    assert main([*command, "--plugin", str(tmp_path / "cosine.py"), "--methods", "none,cosine,cosine+kd"]) == 0
    (report,) = (tmp_path / "results" / "tiny" / "reports").iterdir()
    table = (report / "comparison.md").read_text()
    assert re.search(r"\| Cosine \|.*\d", table)
    assert re.search(r"\| Cosine\+KD \|.*\d", table)
    run, *_ = (tmp_path / "results" / "tiny" / "runs").glob("*-cosine-*")
    assert "loss_cosine" in (run / "metrics.jsonl").read_text()
