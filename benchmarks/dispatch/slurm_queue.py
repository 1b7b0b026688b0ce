"""Slurm: what is asked of its queue, and how runs are submitted to it, through submitit."""

import importlib.metadata
import math
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from benchmarks.dispatch.cluster import ClusterSpec, minutes
from benchmarks.dispatch.retries import Submission, read_submission
from benchmarks.dispatch.run_lock import SILENT_AFTER, LockHolder, file_time, process_is_alive, written_at
from benchmarks.dispatch.same_code import shell_lines
from sskd.errors import UserError, nearest
from sskd.runs.files import plain_os_errors

SUBMITIT = "1.5.4"  # which has what we use beyond its documented interface; as in constraints.txt
LOOK_SECONDS = 10.0  # who waits for others' jobs asks Slurm at most so often
SUBMISSION_SECONDS = 60.0  # how long another run_all may take between claiming a run and knowing its job's number


# Slurm's reasons (squeue's %r) that waiting does not end
HOPELESS = re.compile(
    "Partition(Time|Node)Limit|BadConstraints|DependencyNeverSatisfied|Invalid(Account|QOS)|(Account|QOS)NotAllowed|"
    "((Assoc|QOS)Max|Max).*(PerJob|WallDuration).*"
)


class Queued(NamedTuple):
    """A line of squeue."""

    job: str  # 17, or 17_3
    state: str  # PENDING, RUNNING, ...
    reason: str
    name: str

    @property
    def hopeless(self) -> bool:
        """Whether it waits for what no time brings: a limit that it exceeds, a job that has failed."""
        return self.state == "PENDING" and HOPELESS.fullmatch(self.reason) is not None


class HolderMonitor:
    """Who of the holders of claims is alive, as of one moment. Slurm is asked at most once for each user.

    Where Slurm does not answer, its jobs count as alive, and ``silent`` holds its words. A claim that is newer than
    the look at the queue counts as alive too, so an older look is never wrong about a job that has been submitted
    since; it only tells later that one is gone.
    """

    def __init__(self, runs: Path) -> None:
        self._runs, self._made = runs, time.monotonic()
        self._asked: float | None = None  # before the first look at a queue, by the file system's clock
        self._queues: dict[str, dict[str, Queued]] = {}
        self.silent = ""

    def __call__(self, run_id: str, holder: LockHolder) -> bool:
        if not (holder.job or holder.batch):
            return process_is_alive(holder, self.now, [written_at(self._runs / run_id / "progress.json")])
        if self.queued(holder) is not None or self.silent or self._is_newer_than_the_look(holder):
            return True
        return not holder.job and process_is_alive(holder, self.now)  # being submitted

    def renewed(self, seconds: float = LOOK_SECONDS) -> "HolderMonitor":
        """This one, or a new one if this is older than so many seconds: who polls does not ask Slurm every time."""
        return self if time.monotonic() - self._made < seconds else HolderMonitor(self._runs)

    def now(self) -> float | None:
        """The present time by the file system's clock; None where nothing can be written."""
        return file_time(self._runs.parent / "jobs" / "claims")

    def _is_newer_than_the_look(self, holder: LockHolder) -> bool:
        """Whether the claim was written after the queue was read, which then does not tell of it."""
        return self._asked is None or 0 <= holder.time - self._asked < SILENT_AFTER

    def queued(self, holder: LockHolder) -> Queued | None:
        """The holder's place in Slurm's queue; None if it is not there (any more)."""
        if holder.user not in self._queues:
            self._asked = self.now() if self._asked is None else self._asked
            try:
                self._queues[holder.user] = read_queue(holder.user)
            except UserError as error:
                self.silent, self._queues[holder.user] = str(error), {}
        queue = self._queues[holder.user]
        if holder.job:
            return queue.get(holder.job)
        known = [job for job in queue.values() if job.name == job_name(holder.batch)]
        return next((job for job in known if job.job.partition("_")[2] in ("", str(holder.index))), None)


def job_name(batch: str) -> str:
    return f"sskd-{batch}"


def read_queue(user: str) -> dict[str, Queued]:
    """A user's jobs that are not over, arrays task by task. UserError with Slurm's words if it does not answer."""
    lines = slurm("squeue", "--noheader", "--array", "--user", user, "--format", "%i|%T|%r|%j").splitlines()
    jobs = [Queued(*line.split("|", 3)) for line in lines if line.count("|") >= 3]
    return {job.job: job for job in jobs}


def slurm(*command: str) -> str:
    """The output of one of Slurm's commands; UserError with its own words where it refuses or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"there is no {command[0]} on the PATH: start this on a machine of the cluster, or use --cluster local"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} has not answered for two minutes") from None
    if done.returncode:
        raise UserError(f"{command[0]} refuses: {_one_line(done.stderr or done.stdout)}")
    return done.stdout


def cancel_jobs(jobs: Sequence[str], *options: str) -> None:
    """UserError with Slurm's words where it refuses, as for another user's; the others of them are cancelled."""
    for start in range(0, len(jobs), 500):
        slurm("scancel", *options, *jobs[start : start + 500])


@contextmanager
def _private_to_submitit() -> Iterator[None]:
    """For what submitit does not promise to keep: UserError, with what to do, where this version has it no more."""
    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"this submitit ({importlib.metadata.version('submitit')}) is not like the one that the suite was tested "
            f"with ({error}): pip install 'submitit=={SUBMITIT}', or use --cluster local"
        ) from None


def submitit_parameters() -> dict[str, Any]:
    """Names and defaults of what submitit itself takes for Slurm; anything else is an option of sbatch."""
    with _private_to_submitit():
        from submitit.slurm.slurm import _get_default_parameters

        return dict(_get_default_parameters())


def make_executor(
    cluster: ClusterSpec, jobs: Path, batch: Path, processes: int = 1, dependency: str = ""
) -> SlurmExecutor:
    """submitit's executor as the cluster's file has it, for runs of so many processes: a task each, spread evenly over
    the nodes (cluster.nodes, else one), with its part of the run's cores and a GPU of its own (if the run has any).
    UserError for a parameter that submitit refuses, or processes that cannot be spread."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError(
            f"cluster '{cluster.name}': there is no sbatch on the PATH: "
            f"start this on a machine of the cluster, or use --cluster local"
        )
    given = dict(cluster.parameters)
    nodes = given.get("nodes", 1) if processes > 1 else 1
    if processes % nodes:
        raise UserError(f"cluster '{cluster.name}': {processes} processes cannot be spread evenly over {nodes} nodes")
    given |= {"nodes": nodes, "ntasks_per_node": processes // nodes}
    if cluster.cpus_per_run:
        given.setdefault("cpus_per_task", max(1, cluster.cpus_per_run // processes))
    if cluster.gpus_per_run:
        given.setdefault("gpus_per_node", -(-max(cluster.gpus_per_run, processes) // nodes))
    if "mem_gb" in given:
        given["mem"] = f"{round(1024 * given.pop('mem_gb'))}M"
    known = submitit_parameters()
    sbatch = {name.replace("_", "-"): given.pop(name) for name in list(given) if name not in known}
    after = f"{shlex.quote(sys.executable)} -m benchmarks.dispatch.retries {shlex.quote(str(batch))}"
    given["setup"] = [*given.get("setup", []), *shell_lines()]
    given["teardown"] = ["status=$?", *given.get("teardown", []), f"[ $status -eq 0 ] || {after} $status"]
    if "cpus_per_task" in given:  # srun does not take it over from sbatch any more
        given["srun_args"] = [*given.get("srun_args", []), f"--cpus-per-task={given['cpus_per_task']}"]
    extra = {"requeue": True, "kill-on-invalid-dep": "yes"} | given.pop("additional_parameters", {}) | sbatch
    executor = SlurmExecutor(jobs, max_num_timeout=cluster.retries.timeout)
    executor.update_parameters(
        **{"array_parallelism": cluster.array_width, "signal_delay_s": cluster.signal_seconds, "job_name": batch.stem}
        | given
        | ({"dependency": dependency} if dependency else {}),
        additional_parameters=extra,
    )
    return executor


def check_parameters(cluster: ClusterSpec, processes: int = 1) -> None:
    """Has Slurm look at a job as it would be submitted. UserError, with Slurm's own words where it would be refused."""
    with tempfile.TemporaryDirectory() as folder:
        lines = script_of(make_executor(cluster, Path(folder), Path(folder) / "batch.json", processes))
    check_script(cluster, "\n".join(lines))


def script_of(executor: SlurmExecutor) -> list[str]:
    """The lines of a job's script that does nothing."""
    with _private_to_submitit():
        return list(executor._make_submission_file_text("true", "test").splitlines())


def check_script(cluster: ClusterSpec, text: str) -> None:
    """Has Slurm look at a job's script, as ``check_parameters``."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "test.sh"
        script.write_text(text, encoding="utf-8")
        try:
            slurm("sbatch", "--test-only", str(script))
        except UserError as error:
            raise UserError(f"cluster '{cluster.name}': {error}{_hint(str(error), cluster)}") from None
    check_time(cluster)


def check_time(cluster: ClusterSpec) -> None:
    """UserError if a job's time limit is above the partition's, under which sbatch takes it and it waits for ever.
    Says nothing where sinfo is not there or does not answer, and where a QOS may have limits of its own."""
    if "time" not in cluster.parameters or "qos" in cluster.parameters:
        return
    try:
        lines = slurm("sinfo", "--noheader", "--format", "%P|%l").splitlines()
    except UserError:
        return
    limits, defaults = {}, []
    for line in lines:
        name, _, limit = line.strip().partition("|")
        limits[name.removesuffix("*")] = minutes(limit) if limit[:1].isdigit() else math.inf  # infinite
        defaults += [name.removesuffix("*")] if name.endswith("*") else []
    asked = str(cluster.parameters.get("partition", ",".join(defaults))).split(",")
    known = {name: limits[name] for name in asked if name in limits}
    if known and minutes(cluster.parameters["time"]) > max(known.values()):
        name = max(known, key=lambda each: known[each])
        raise UserError(
            f"cluster '{cluster.name}': time {cluster.parameters['time']} is above the limit of partition '{name}', "
            f"{known[name]:.0f} minutes, so its jobs would wait for ever: --set cluster.time={known[name]:.0f} or less "
            "(a run goes on in the next job), or another cluster.partition"
        )


def _hint(words: str, cluster: ClusterSpec) -> str:
    for name in cluster.parameters:
        near = nearest(name, [*ClusterSpec.model_fields, *submitit_parameters()])
        if f"--{name.replace('_', '-')}" in words and near:
            return f" (did you mean '{near}'?)"
    return ""


def submit_runs(
    cluster: ClusterSpec,
    jobs: Path,
    name: str,
    batch: Submission,
    work: Iterable[Callable[[], Any]],
    processes: int,
    dependency: str,
) -> list[str]:
    """Submits the batch as one array (one run: as a plain job) and returns the jobs' numbers, in order."""
    path = batch_file(jobs, name)
    time_limit = {"time": minutes(cluster.parameters["time"])} if "time" in cluster.parameters else {}
    cluster = cluster.model_copy(update={"parameters": cluster.parameters | time_limit})
    try:
        with plain_os_errors("write", jobs):
            batch.save(path)
            executor = make_executor(cluster, jobs, path, processes, dependency)
            return [job.job_id for job in executor.submit_array(list(work))]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"cluster '{cluster.name}': sbatch refuses: {_one_line(str(error))}") from None


def batch_file(jobs: Path, batch: str) -> Path:
    """Where a submission is noted."""
    return jobs / "batches" / f"{job_name(batch)}.json"


def asked_for(jobs: Path, batch: str) -> dict[str, Any] | None:
    """What a submission asked Slurm for; None where that is not known."""
    try:
        return read_submission(batch_file(jobs, batch)).asked
    except (OSError, ValueError, KeyError, TypeError):
        return None


def new_submission(request: str) -> str:
    """A name that no other submission has; its jobs carry it in squeue."""
    return f"{request}-{secrets.token_hex(5)}" if request else secrets.token_hex(5)


def _one_line(text: str) -> str:
    return " ".join(text.split())
