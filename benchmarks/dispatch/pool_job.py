"""The job of a whole node, ``python -m benchmarks.dispatch.pool_job FILE``: executes a plan on the GPUs of its node, as
``--cluster local`` does. benchmarks.dispatch.slurm_pool has written the file and submits the job."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.dispatch.cluster import ClusterSpec
from benchmarks.dispatch.launch import launch
from benchmarks.dispatch.same_code import Code, refuse_other_code
from benchmarks.dispatch.work import Work
from benchmarks.planning.plan import make_plan
from sskd.config.execution import Execution
from sskd.config.validation import from_dict
from sskd.console.progress import Progress
from sskd.console.signals import Stopped
from sskd.errors import UserError
from sskd.runs.files import read_json
from sskd.runs.plugins import load_plugins
from sskd.runs.spec import parse_spec


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, 1 if a run failed, 2 for what cannot be executed, 143 when it was told to end."""
    try:
        return _execute(Path(arguments[0]))
    except UserError as error:
        print(f"pool: {error}", file=sys.stderr)
        return 2
    except Stopped as end:
        return end.status


def _execute(file: Path) -> int:
    note = read_json(file)
    refuse_other_code(Code(*note["code"]))
    load_plugins(note["plugins"])
    plan = make_plan(parse_spec(yaml.safe_load(text), "a submitted run") for text in note["specs"])
    execution: Execution = from_dict(Execution, note["execution"], str(file))
    cluster: ClusterSpec = from_dict(ClusterSpec, note["cluster"], str(file))
    again = note["retry_failed"] and "SLURM_RESTART_COUNT" not in os.environ  # what fails after that has failed
    work = Work(plan, Path(note["runs"]), execution, cluster, tuple(note["plugins"]), again)
    with Progress(sum(not work.finished(spec) for spec in plan.runs)) as progress:
        failures = launch(work, progress)
    work.launchers.delete(note["launcher"])
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
