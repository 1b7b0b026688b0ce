"""``run --detach``: everything is submitted, or goes on in the background, and the command line returns."""

import dataclasses
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from benchmarks.dispatch.run_lock import LockHolder, process_birth
from benchmarks.dispatch.same_code import python_that
from benchmarks.dispatch.slurm_array import submit
from benchmarks.dispatch.work import Work
from sskd.errors import UserError
from sskd.runs.files import plain_os_errors


def start_detached(work: Work, arguments: Sequence[str]) -> str:
    """Submits to Slurm; for other clusters starts the command ``arguments`` in the background. Returns what to say."""
    if work.cluster.kind == "slurm":
        left_out = submit(work, print)
        return "\n".join([*(f"{run_id}: {failure.message}" for run_id, failure in left_out.items()), "submitted"])
    log = work.jobs / "launcher.log"
    with plain_os_errors("write", log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [
                    *python_that("from benchmarks.commands.main import main; raise SystemExit(main())"),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # it outlives this terminal
            )
    with suppress(OSError, UserError):  # so that who watches from now on does not find that nobody works
        work.note_launcher(dataclasses.replace(LockHolder(), pid=process.pid, born=process_birth(process.pid)))
    return f"goes on in the background as process {process.pid}, which prints to {log}"
