"""``--export DIR``: every finished student of a suite as a folder to take home."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.plan import Plan
from sskd.errors import UserError
from sskd.export.folder import export_run
from sskd.runs.run_folder import RunFolder


def export_students(plan: Plan, runs: Path, to: Path, licence: str, onnx: bool, say: Callable[[str], None]) -> int:
    """Writes ``to``/<run id> for each finished student whose weights are here, and says a line of each; returns how
    many they are. UserError where there is none."""
    students = [spec for spec in plan.runs if spec.role == "student"]
    finished = [spec for spec in students if RunFolder(runs, spec).is_finished()]
    count = 0
    for spec in finished:
        folder = RunFolder(runs, spec)
        if folder.lost_weights():
            say(f"{spec.id}: finished, but its weights are not here")
            continue
        say(export_run(folder.path, to / spec.id, licence=licence, onnx=onnx))
        count += 1
    if not count:
        raise UserError(
            f"--export found no student to take: of {len(students)} that are asked for {len(finished)} are finished in "
            f"{runs}, and none has its weights there"
        )
    return count
