"""docs/tour.ipynb runs from the top, and comes to a verdict."""

import json
import re

import pytest

from tests.docs.reading import ROOT

TOUR = json.loads((ROOT / "docs" / "tour.ipynb").read_text())


def test_the_file_has_its_outputs_and_they_are_small() -> None:
    outputs = [output for cell in TOUR["cells"] for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert len(json.dumps(outputs)) < 20_000
    assert all(cell["outputs"] or "os.chdir" in "".join(cell["source"]) for cell in TOUR["cells"] if "outputs" in cell)


@pytest.mark.slow
def test_it_runs_and_comes_to_a_verdict() -> None:
    pytest.importorskip("ipykernel", reason="the extra 'docs' is not installed")
    pytest.importorskip("nbclient", reason="the extra 'docs' is not installed")
    from tests.docs.tour import execute

    notebook = execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    # 30 points apart, the interval is 15 to 45: no other arithmetic changes that
    assert "Logits - Student:" in printed
    assert re.search(r"Logits - Student: .* 4 seeds: decided, Logits is ahead", printed)
    assert re.search(r"Logits - KD: .* 4 seeds: (undecided|decided)", printed)
    written, seen = (re.search(rf"{name}: +(\[.*\])", printed) for name in ("written", "seen"))
    assert written
    assert seen
    pairs = zip(json.loads(written[1].replace("'", '"')), json.loads(seen[1].replace("'", '"')), strict=True)
    assert sum(digit == guess for digit, guess in pairs) >= 5  # of eight; chance is one
