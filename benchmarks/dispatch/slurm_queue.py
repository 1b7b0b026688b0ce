"""Slurm's queue: which runs of a results folder have a job, and which jobs Slurm will never start."""

import math
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.dispatch.cluster import ClusterSpec, minutes
from benchmarks.dispatch.retries import SlurmSubmission, read_slurm_submission
from sskd.errors import UserError

# Slurm's reasons (squeue's %r) with which a job never starts
HOPELESS = re.compile(
    "Partition(Time|Node)Limit|BadConstraints|DependencyNeverSatisfied|Invalid(Account|QOS)|(Account|QOS)NotAllowed|"
    "((Assoc|QOS)Max|Max).*(PerJob|WallDuration).*"
)


class SlurmJob(NamedTuple):
    """A pending or running job for runs of the folder."""

    number: str  # 17, or 17_3; "" while Slurm does not answer
    state: str  # PENDING, RUNNING, ...; UNKNOWN while Slurm does not answer
    reason: str
    ids: list[str]  # its runs
    submission: SlurmSubmission

    @property
    def why(self) -> str:
        """Returns why the job waits."""
        return f"{self.state.lower()}: {self.reason}"

    @property
    def hopeless(self) -> bool:
        """Returns True if the job can never start, because it exceeds a limit or depends on a failed job."""
        return self.state == "PENDING" and HOPELESS.fullmatch(self.reason) is not None


class Queue:
    """Snapshot of the jobs of a results folder. Each submission is recorded in a file whose name its jobs have in
    Slurm's queue; Slurm is asked once per user with submissions.

    If Slurm does not answer, ``slurm_error`` has its message, and all submitted runs count as waiting.
    """

    def __init__(self, jobs: Path) -> None:
        self.slurm_error = ""
        self.all: list[SlurmJob] = []
        self.noted = read_slurm_submissions(jobs)
        for name in sorted({submission.user for submission in self.noted.values()}):
            theirs = {key: submission for key, submission in self.noted.items() if submission.user == name}
            try:
                listed = slurm("squeue", "--noheader", "--array", "--user", name, "--format", "%i|%T|%r|%j")
                for number, state, reason, job in (line.split("|", 3) for line in listed.splitlines()):
                    if job in theirs:
                        ids = _runs_of(number, theirs[job])
                        self.all.append(SlurmJob(number, state, reason, ids, theirs[job]))
            except UserError as error:
                self.slurm_error = str(error)
                for submission in theirs.values():
                    self.all.append(SlurmJob("", "UNKNOWN", self.slurm_error, submission.ids, submission))
        self.tasks = {
            run_id: slurm_job for slurm_job in self.all if not slurm_job.submission.pool for run_id in slurm_job.ids
        }
        self.pools = [slurm_job for slurm_job in self.all if slurm_job.submission.pool]

    def runs(self) -> set[str]:
        """Returns the runs that have a job."""
        return {run_id for slurm_job in self.all for run_id in slurm_job.ids}

    def forget_old(self, jobs: Path) -> None:
        """Deletes the files of submissions without jobs. The caller must hold the folder's submit.lock."""
        here = {id(slurm_job.submission) for slurm_job in self.all}
        over = tuple(f"{name}." for name, submission in self.noted.items() if id(submission) not in here)
        for file in (jobs / "batches").iterdir() if over else ():
            if file.name.startswith(over):
                file.unlink(missing_ok=True)


def _runs_of(number: str, submission: SlurmSubmission) -> list[str]:
    """Returns the runs of a submission's job: all, or the one of the array's task (17_3)."""
    task = int(number.partition("_")[2] or 0)
    return submission.ids if submission.pool else submission.ids[task : task + 1]


def read_slurm_submissions(jobs: Path) -> dict[str, SlurmSubmission]:
    """Returns the folder's submissions by the name of their jobs. Ignores other files."""
    found = {}
    for file in (jobs / "batches").glob("sskd-*.json"):
        try:
            found[file.stem] = read_slurm_submission(file)
        except (OSError, ValueError, TypeError, RecursionError):
            continue
    return found


def submission_file(jobs: Path, name: str) -> Path:
    """Returns the path of a submission's file."""
    return jobs / "batches" / f"{name}.json"


def slurm(*command: str) -> str:
    """Returns the output of a Slurm command. Raises UserError with its message if it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} is not on the PATH: start the command on a machine of the cluster, or use --cluster local"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} did not answer within two minutes") from None
    if done.returncode:
        raise UserError(f"{command[0]} failed: {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout


def cancel_jobs(jobs: Sequence[str], *options: str) -> None:
    """Cancels the jobs. Raises UserError with Slurm's message if it rejects some, for example another user's."""
    for start in range(0, len(jobs), 500):
        slurm("scancel", *options, *jobs[start : start + 500])


def check_time(cluster: ClusterSpec) -> None:
    """Raises UserError if a job's time limit exceeds the partition's: sbatch accepts it, but it would wait forever.
    Checks nothing if sinfo does not answer, or if a QOS may have limits of its own."""
    if "time" not in cluster.parameters or "qos" in cluster.parameters:
        return
    try:
        lines = slurm("sinfo", "--noheader", "--format", "%P|%l").splitlines()
    except UserError:
        return
    limits, defaults = dict[str, float](), list[str]()
    for line in lines:
        name, _, limit = line.strip().partition("|")
        limits[name.removesuffix("*")] = minutes(limit) if limit[:1].isdigit() else math.inf  # infinite
        defaults += [name.removesuffix("*")] if name.endswith("*") else []
    asked = str(cluster.parameters.get("partition", ",".join(defaults))).split(",")
    known = {name: limits[name] for name in asked if name in limits}
    if known and minutes(cluster.parameters["time"]) > max(known.values()):
        name = max(known, key=lambda each: known[each])
        raise UserError(
            f"cluster '{cluster.name}': time {cluster.parameters['time']} exceeds the limit of partition '{name}', "
            f"{known[name]:.0f} minutes, so its jobs would wait forever: use --set cluster.time={known[name]:.0f} or "
            "less (a run resumes in the next job), or another cluster.partition"
        )


def job_limits(cluster: ClusterSpec) -> dict[str, Any]:
    """Returns the resources that a job requests from Slurm; jobs that differ in them are resubmitted."""
    limits = cluster.parameters | {"gpus_per_run": cluster.gpus_per_run, "cpus_per_run": cluster.cpus_per_run}
    return limits | ({"time": minutes(limits["time"])} if "time" in limits else {})
