"""Executes a job: in this process, in local processes, or on Slurm. If one run fails, the others continue."""

import subprocess
from collections.abc import Sequence

from benchmarks.dispatch.job import Failure, Job
from benchmarks.dispatch.launchers import note_background
from benchmarks.dispatch.same_code import python_that
from sskd.console.progress import Progress
from sskd.runs.files import plain_os_errors


def launch(job: Job, progress: Progress) -> dict[str, Failure]:
    """Executes the unfinished runs, or waits for other processes that execute them. Returns the failures by run id."""
    if job.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm import follow, submit

        return follow(job, progress, submit(job, progress.log))
    from benchmarks.dispatch.local import execute_here

    return execute_here(job, progress)


def start_detached(job: Job, arguments: Sequence[str]) -> str:
    """Submits to Slurm; on other clusters starts the command ``arguments`` in the background. Returns a message for the
    user."""
    if job.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm import submit

        left_out = submit(job, print)
        return "\n".join([*(f"{run_id}: {failure.message}" for run_id, failure in left_out.items()), "submitted"])
    log = job.jobs_folder / "launcher.log"
    main = "from benchmarks.commands.main import main; raise SystemExit(main())"
    with plain_os_errors("write", log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*python_that(main), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # continues after this terminal is closed
            )
    note_background(job, process.pid)
    return f"continues in the background as process {process.pid}; output: {log}"
