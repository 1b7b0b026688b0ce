"""Verifies a submission by replay: trains randomly drawn segments again and compares them.

docs/verify.md explains the checks and the value of a verdict.
"""

import math
import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.records.agreeing import contradictions
from benchmarks.records.computing import by_computing
from benchmarks.records.plain import kind_of_entry
from benchmarks.records.record import VERDICT, Submission, read_manifest, read_submission, state_name
from benchmarks.records.submission import DRAWN, Segments, segments_of, wrong_files
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.files import write_json
from sskd.runs.provenance import provenance
from sskd.runs.records import SCHEMA
from sskd.runtime.device import device_of

HOLDS, FALSE, UNDECIDED = "holds", "does not hold", "undecided"  # outcomes
CHANCES = (50, 90, 99)  # percentages for segments_for


def verify(
    folder: Path, execution: Execution, seed: int | None = None, count: int = DRAWN, log: Callable[[str], None] = print
) -> dict[str, Any]:
    """Verifies a submission and returns the verdict, which is also written into it (verdict.json).

    seed: random seed that draws ``count`` segments in addition to those that are always replayed; None for a new one.
    Raises UserError if nothing can be decided: no or unreadable submission, missing data, or a missing state that must
    be requested from the owner.
    """
    manifest = read_manifest(folder)
    seed = secrets.randbelow(2**32) if seed is None else seed
    checks: list[dict[str, Any]] = []

    def note(name: str, problems: list[str], **more: Any) -> bool:
        checks.append({"check": name, "passed": not problems, "problems": problems, **more})
        log(f"{name}: {'; '.join(problems) or 'passed'}")
        return not problems

    compared: dict[str, Any] = {"segments": []}
    opened, problems = wrong_files(folder, manifest)
    if note("files are what was committed to", problems):
        found = read_submission(folder, manifest, Path(execution.dataset_root))
        if note("the record agrees with itself", contradictions(found, opened)):
            segments = segments_of(manifest.commitment, seed, found.rows, found.result, count)
            _refuse_closed(found, segments, seed, count)
            compared = {"segments": segments.all, "chance": chance(segments)}
            compared["compared"] = by_computing(found, execution, segments, note)
    verdict = {
        "schema": SCHEMA,
        "submission": manifest.run,
        "commitment": manifest.commitment,
        "seed": seed,
        "of": manifest.epochs,
        "outcome": _outcome(checks),
        **compared,
        "checks": checks,
        "machine": provenance(device_of(execution)),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    try:
        write_json(folder / VERDICT, verdict)
    except UserError as error:  # the verdict is still returned
        log(str(error))
    return verdict


def _outcome(checks: list[dict[str, Any]]) -> str:
    """Returns the outcome. A replay on another kind of machine that is not bit-identical decides nothing."""
    if not all(check["passed"] for check in checks):
        return FALSE
    return HOLDS if all(check.get("equal", True) for check in checks) else UNDECIDED


def chance(segments: Segments) -> dict[str, Any]:
    """Returns the probability that one replaced state is found, if it is not among the segments that are always
    replayed: ``drawn`` of ``others`` segments are replayed. segments_for: segments needed for the probabilities in
    CHANCES (percent)."""
    drawn, others = len(segments.drawn), segments.others
    return {
        "drawn": drawn,
        "others": others,
        "found": drawn / others if others else 1.0,
        "segments_for": {str(percent): math.ceil(percent * others / 100) for percent in CHANCES},
    }


def _refuse_closed(found: Submission, segments: Segments, seed: int, count: int) -> None:
    """Raises UserError if needed states are not in the submission; its owner must add them."""
    paths = {number: found.folder / "epochs" / state_name(number) for number in sorted(segments.states)}
    closed = [number for number, path in paths.items() if not kind_of_entry(path)]
    if closed:
        drawn = f"--seed {seed}" + ("" if count == DRAWN else f" --segments {count}")
        raise UserError(
            f"{found.folder} has no states after epochs {', '.join(map(str, closed))}, which seed {seed} draws: ask "
            f"its owner to add them with `submit RUN {drawn}`, then `verify` with {drawn}"
        )
