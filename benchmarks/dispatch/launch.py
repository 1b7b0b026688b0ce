"""Executes a plan: in this process, in local processes, or on Slurm. One run's failure does not stop the others."""

import subprocess
from collections.abc import Sequence

from benchmarks.dispatch.launchers import note_background
from benchmarks.dispatch.same_code import python_that
from benchmarks.dispatch.work import Failure, Work
from sskd.console.progress import Progress
from sskd.runs.files import plain_os_errors


def launch(work: Work, progress: Progress) -> dict[str, Failure]:
    """Executes what is not finished, or waits for whoever does; returns the failures by run id."""
    if work.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm import follow, submit

        return follow(work, progress, submit(work, progress.log))
    from benchmarks.dispatch.local import execute_here

    return execute_here(work, progress)


def start_detached(work: Work, arguments: Sequence[str]) -> str:
    """Submits to Slurm; for other clusters starts the command ``arguments`` in the background. Returns what to say."""
    if work.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm import submit

        left_out = submit(work, print)
        return "\n".join([*(f"{run_id}: {failure.message}" for run_id, failure in left_out.items()), "submitted"])
    log = work.jobs / "launcher.log"
    main = "from benchmarks.commands.main import main; raise SystemExit(main())"
    with plain_os_errors("write", log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*python_that(main), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # it outlives this terminal
            )
    note_background(work, process.pid)
    return f"goes on in the background as process {process.pid}, which prints to {log}"
