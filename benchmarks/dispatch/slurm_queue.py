"""Slurm's queue: which runs of a results folder have a job in it, and which other jobs Slurm would never start."""

import math
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.dispatch.cluster import ClusterSpec, minutes
from benchmarks.dispatch.retries import SlurmSubmission, read_slurm_submission
from sskd.errors import UserError
from sskd.runtime.machine import user

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


class SlurmJob(NamedTuple):
    """A job that was submitted for runs of the folder, and is not over."""

    number: str  # 17, or 17_3; "" while Slurm does not answer
    state: str  # PENDING, RUNNING, ...; UNKNOWN while Slurm does not answer
    reason: str
    ids: list[str]  # its runs
    submission: SlurmSubmission

    @property
    def why(self) -> str:
        """Why it waits."""
        return f"{self.state.lower()}: {self.reason}"

    @property
    def hopeless(self) -> bool:
        """Whether it waits for what no time brings: a limit that it exceeds, a job that has failed."""
        return self.state == "PENDING" and HOPELESS.fullmatch(self.reason) is not None


class Queue:
    """The jobs of a results folder, as of the moment when this is made. What is submitted is noted in a file before,
    and carries its name in Slurm's queue; Slurm is asked once for each user who has submitted something.

    Where Slurm does not answer, ``slurm_error`` holds its words, and all that was submitted counts as waiting.
    """

    def __init__(self, jobs: Path) -> None:
        self.slurm_error = ""
        self.all: list[SlurmJob] = []
        self.noted = read_slurm_submissions(jobs)
        for name in sorted({submission.user for submission in self.noted.values()}):
            theirs = {key: submission for key, submission in self.noted.items() if submission.user == name}
            try:
                self.all += [_job(queued, theirs[queued.name]) for queued in read_queue(name) if queued.name in theirs]
            except UserError as error:
                self.slurm_error = str(error)
                for submission in theirs.values():
                    self.all.append(SlurmJob("", "UNKNOWN", self.slurm_error, submission.ids, submission))
        self.tasks = {
            run_id: slurm_job for slurm_job in self.all if not slurm_job.submission.pool for run_id in slurm_job.ids
        }
        self.pools = [slurm_job for slurm_job in self.all if slurm_job.submission.pool]

    def runs(self) -> set[str]:
        """Those that have a job, alone or with others."""
        return {run_id for slurm_job in self.all for run_id in slurm_job.ids}

    def forget_old(self, jobs: Path) -> None:
        """Removes the notes of submissions that are over. Only for who holds the folder's submit.lock."""
        here = {id(slurm_job.submission) for slurm_job in self.all}
        over = tuple(f"{name}." for name, submission in self.noted.items() if id(submission) not in here)
        for file in (jobs / "batches").iterdir() if over else ():
            if file.name.startswith(over):
                file.unlink(missing_ok=True)


def _job(queued: Queued, submission: SlurmSubmission) -> SlurmJob:
    task = int(queued.job.partition("_")[2] or 0)
    ids = submission.ids if submission.pool else submission.ids[task : task + 1]
    return SlurmJob(queued.job, queued.state, queued.reason, ids, submission)


def read_slurm_submissions(jobs: Path) -> dict[str, SlurmSubmission]:
    """What was submitted for the folder, by the name of the jobs. Files that are none are passed over."""
    found = {}
    for file in (jobs / "batches").glob("sskd-*.json"):
        try:
            found[file.stem] = read_slurm_submission(file, user())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found


def submission_file(jobs: Path, name: str) -> Path:
    """Where a submission is noted."""
    return jobs / "batches" / f"{name}.json"


def read_queue(name: str) -> list[Queued]:
    """A user's jobs that are not over, arrays task by task. UserError with Slurm's words if it does not answer."""
    lines = slurm("squeue", "--noheader", "--array", "--user", name, "--format", "%i|%T|%r|%j").splitlines()
    return [Queued(*line.split("|", 3)) for line in lines if line.count("|") >= 3]


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
        raise UserError(f"{command[0]} refuses: {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout


def cancel_jobs(jobs: Sequence[str], *options: str) -> None:
    """UserError with Slurm's words where it refuses, as for another user's; the others of them are cancelled."""
    for start in range(0, len(jobs), 500):
        slurm("scancel", *options, *jobs[start : start + 500])


def check_time(cluster: ClusterSpec) -> None:
    """UserError if a job's time limit is above the partition's, under which sbatch takes it and it waits for ever.
    Says nothing where sinfo is not there or does not answer, and where a QOS may have limits of its own."""
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
            f"cluster '{cluster.name}': time {cluster.parameters['time']} is above the limit of partition '{name}', "
            f"{known[name]:.0f} minutes, so its jobs would wait for ever: --set cluster.time={known[name]:.0f} or less "
            "(a run goes on in the next job), or another cluster.partition"
        )


def job_limits(cluster: ClusterSpec) -> dict[str, Any]:
    """What a job of the cluster asks Slurm for: jobs that differ in it are not the same to Slurm."""
    limits = cluster.parameters | {"gpus_per_run": cluster.gpus_per_run, "cpus_per_run": cluster.cpus_per_run}
    return limits | ({"time": minutes(limits["time"])} if "time" in limits else {})
