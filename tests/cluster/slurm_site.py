"""A real Slurm of one node on this machine: munged, slurmctld and slurmd, started for the tests and stopped after."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PATIENCE = 150.0  # seconds: a start takes two on a quiet machine, and twenty on one that is not

# Two devices that are no GPUs: Slurm gives them out, and sets CUDA_VISIBLE_DEVICES, all the same.
GRES = """
NodeName={host} Name=gpu File=/dev/null
NodeName={host} Name=gpu File=/dev/zero
"""
# Queueing, requeueing and retries within a second or two, where a real site takes minutes.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=60
InactiveLimit=0
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,sched_max_job_start=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=1000 Gres=gpu:2
PartitionName=test Nodes={host} Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:2
"""


def missing() -> str:
    """Returns why Slurm cannot run here; "" if it can."""
    if os.geteuid() != 0:
        return "a Slurm of its own needs root"
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=search) is None]
    return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)" if absent else ""


class SlurmSite:
    """The three daemons, their folder, and the environment in which Slurm's commands find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        conf = CONF.format(host=self.host, ports=_free_ports(2), user="root", folder=folder)
        (folder / "slurm.conf").write_text(conf)
        (folder / "gres.conf").write_text(GRES.format(host=self.host))
        os.environ["PATH"] = os.environ["PATH"] + ":/usr/sbin:/sbin"
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")

    def start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.folder.chmod(0o755)
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
        )
        wait_for((self.folder / "munge.socket").exists, 20, "munged's socket")
        self.start_controller()
        self._start("slurmd", "-D", "-N", self.host)
        self.wait_for_node()

    def start_controller(self) -> None:
        self._start("slurmctld", "-D", "-i")
        wait_for(lambda: "UP" in output("scontrol", "ping"), 30, "slurmctld")

    def wait_for_node(self) -> None:
        """Waits until the node has registered with the controller."""
        wait_for(lambda: output("sinfo", "-h", "-o", "%t").strip() in ("idle", "mix", "alloc"), 60, "the node")

    def stop_controller(self) -> None:
        self._stop("slurmctld")

    def stop(self) -> None:
        output("scancel", "--signal=KILL", "--state=RUNNING", "-u", "root")
        output("scancel", "-u", "root")
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self.daemons:
                self._stop(name)

    def _start(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.out").open("ab")
        self.daemons[name] = subprocess.Popen([name, *arguments], stdout=log, stderr=log, start_new_session=True)

    def _stop(self, name: str) -> None:
        process = self.daemons.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmSite]:
    environment = dict(os.environ)
    site = SlurmSite(tmp_path_factory.mktemp("slurm"))
    try:
        site.start()
        yield site
    finally:
        site.stop()
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture
def quiet(site: SlurmSite) -> Iterator[None]:
    """Ends all jobs after each test, so that the next one starts with an empty queue and an idle node."""
    yield
    output("scancel", "-u", "root")
    wait_for(lambda: not queue() and output("sinfo", "-h", "-o", "%t").strip() == "idle", PATIENCE, "an idle node")


def queue() -> set[str]:
    return set(output("squeue", "-h", "-o", "%i").split())


def second_tasks() -> list[int]:
    """The processes of submitit that are the second of their job. Others, of no job, may end meanwhile."""

    def second(pid: str) -> bool:
        with suppress(OSError):
            return b"SLURM_PROCID=1" in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    return [int(pid) for pid in output("pgrep", "-f", "submitit.core._submit").split() if second(pid)]


def output(*command: str) -> str:
    """Returns the output of a command, including stderr."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Polls until the condition holds; fails after ``seconds``, saying what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
