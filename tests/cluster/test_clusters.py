"""Cluster files, what is refused of them, and the policy of retries."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.dispatch.cluster import minutes, read_cluster
from benchmarks.dispatch.local import GB, Machine, RunResources, concurrency_of, divide_machine
from benchmarks.dispatch.retries import REQUEUED, TERMINATED, SlurmSubmission, retry
from benchmarks.dispatch.retries import main as retries_main
from benchmarks.dispatch.same_code import shell_lines
from benchmarks.dispatch.slurm_jobs import make_executor
from sskd.errors import UserError
from sskd.paths import config_names


def test_the_shipped_clusters_are_valid() -> None:
    kinds = [(name, read_cluster(name, []).kind) for name in config_names("clusters")]
    local = [("local", "local"), ("side_by_side", "local")]
    assert kinds == [("inline", "inline"), *local, ("slurm", "slurm"), ("slurm_node", "slurm")]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Returns the script of a job with the given settings, as many processes, and a dependency."""
    for program in ("sbatch", "srun"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(settings: list[str], processes: int = 1, after: str = "") -> str:
        executor = make_executor(read_cluster("slurm", settings), tmp_path, tmp_path / "b.json", processes, after)
        return str(executor._make_submission_file_text("run", "u"))

    return make


@pytest.mark.parametrize(
    ("settings", "processes", "options"),
    [
        (
            ["partition=gpu", "time=1-12", "reservation=paper", "parameters.qos=high"],
            1,
            "partition=gpu time=2160 reservation=paper qos=high dependency=afterok:1_2 signal=USR2@120 gpus-per-node=1 "
            "cpus-per-task=4 mem=16384M requeue kill-on-invalid-dep=yes",
        ),
        (["cpus_per_run=8"], 4, "ntasks-per-node=4 gpus-per-node=4 cpus-per-task=2"),
        (["cpus_per_run=8", "nodes=2"], 4, "nodes=2 ntasks-per-node=2 gpus-per-node=2 cpus-per-task=2"),
    ],
)
def test_the_options_of_a_job(settings: list[str], processes: int, options: str, script: Callable[..., str]) -> None:
    """Parameters of submitit have their own names; any other is an option of sbatch. A task per process."""
    lines = script(settings, processes, "afterok:1_2").splitlines()
    assert {f"#SBATCH --{option}" for option in options.split()} <= set(lines)
    assert any("benchmarks.dispatch.retries" in line for line in lines)


def test_a_job_imports_the_code_of_the_suite_after_its_setup(script: Callable[..., str]) -> None:
    lines = script(["setup=[module load python]"]).splitlines()
    assert lines.index("module load python") < lines.index(shell_lines()[0]) < lines.index(shell_lines()[1])


def test_jobs_that_cannot_be_made(script: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="3 processes cannot be spread evenly over 2 nodes"):
        script(["nodes=2"], 3)
    monkeypatch.delattr("submitit.slurm.slurm._get_default_parameters")
    with pytest.raises(UserError, match=r"this submitit \(\d.*pip install 'submitit==.*', or use --cluster local"):
        script([])


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), (90, 90), ("90:30", 91), ("1:30:00", 90), ("1-12", 2160), ("1-12:30", 2190), ("0-0:0:20", 1)],
)
def test_time_limits(text: object, value: int) -> None:
    assert minutes(text) == value
    assert (
        minutes(read_cluster("slurm", [f"time={text}"]).parameters["time"]) == value
    )  # YAML 1.1 reads 1:30:00 as 5400


WRONG = "mem_gb=.nan qos=.nan time=tomorrow time=[1] partition=[gpu] name=/tmp/evil setup=[null] account=[null] a.b.c=1"


@pytest.mark.parametrize("setting", [*WRONG.split(), "setup=module load cuda", "additional_parameters={a b: 1}"])
def test_wrong_slurm_settings_are_refused_when_they_are_read(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        read_cluster("slurm", [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("character", ["\n", "\x1b", "\u2028"])
def test_nothing_that_a_job_script_would_execute(character: str, tmp_path: Path) -> None:
    """Text after a line break in a value or key would be a command of the generated script."""
    evil = f"gpu{character}touch evil"
    lists = [{key: [evil]} for key in ("setup", "teardown", "srun_args")]
    options = [{"additional_parameters": {"a": evil}}, {"additional_parameters": {evil: "a"}}]
    for data in ({"partition": evil}, {evil: "x"}, {"parameters": {"qos": evil}}, *lists, *options):
        (tmp_path / "c.yaml").write_text(json.dumps({"about": "x", "kind": "slurm"} | data))  # JSON is YAML
        with pytest.raises(UserError, match="control character|letters, digits|must start|not valid YAML"):
            read_cluster(str(tmp_path / "c.yaml"), [])


EIGHT, QUOTA = Machine(list(range(8)), 8), Machine(list(range(64)), 2)
TWO_GPUS = EIGHT._replace(gpus=("0", "1"))
PAIRS = [(0, 1), (2, 3), (4, 5), (6, 7)]
SHARED = [RunResources(2, (str(i % 2),), PAIRS[i]) for i in range(4)]


@pytest.mark.parametrize(
    ("name", "settings", "machine", "expected"),
    [
        ("local", "cpus_per_run=2", EIGHT, [RunResources(2, (), pair) for pair in PAIRS]),
        ("local", "cpus_per_run=2", TWO_GPUS, [RunResources(2, (str(i),), PAIRS[i]) for i in (0, 1)]),
        ("local", "runs_per_gpu=2 cpus_per_run=null", TWO_GPUS, SHARED),
        ("local", "runs_at_once=3 cpus_per_run=1", TWO_GPUS, [RunResources(1, (gpu,)) for gpu in "01"]),
        ("local", "runs_at_once=3 cpus_per_run=1 gpus_per_run=0", TWO_GPUS, [RunResources(1)] * 3),
        ("local", "gpus_per_run=1", EIGHT, []),
        ("local", "", QUOTA, [RunResources(2)]),  # four threads were wished for
        ("side_by_side", "", QUOTA, [RunResources(1)] * 2),
        ("side_by_side", "", Machine([5], 1), [RunResources(1)]),
        ("side_by_side", "", QUOTA._replace(usable=64, memory=4 * GB), [RunResources(1)] * 5),
        ("side_by_side", "", QUOTA._replace(usable=64, memory=GB // 10), [RunResources(1)]),
    ],
)
def test_what_each_run_has(name: str, settings: str, machine: Machine, expected: list[RunResources]) -> None:
    """Every run has threads, or GPUs, of its own; several share a GPU only where that is asked for. Cores are pinned
    unless a quota allows fewer than there are."""
    assert divide_machine(read_cluster(name, settings.split()), machine) == expected


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(name: str, *settings: str, gpus: tuple[str, ...] = ()) -> tuple[float | None, ...]:
        monkeypatch.setattr("benchmarks.dispatch.local.this_machine", lambda: Machine([0, 1, 2, 3], 4, None, gpus))
        return concurrency_of(read_cluster(name, list(settings)))[:3]

    assert told("inline") == (1, 1, None)
    assert told("slurm", "array_width=7") == (7, 1, True)
    assert told("slurm", "gpus_per_run=0") == (32, 1, False)
    assert told("slurm_node", "pools=2", "gpus_per_node=a100:8", "gpus_per_run=2") == (32, 4, True)
    assert told("side_by_side") == (4, 4, None)
    assert told("local", "runs_per_gpu=3", gpus=("0", "1")) == (6, 3, None)
    assert told("local", "gpus_per_run=8") == (1, 1, None)  # planned where the GPUs are not


@pytest.mark.parametrize("kind", ["exception", "out_of_memory", "input", "timeout", ""])
def test_what_ended_is_started_again_so_often(kind: str, tmp_path: Path) -> None:
    """Whatever ended it, but bad input and too many time limits. A lost run is marked failed, with its last lines."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.txt").write_text("main epoch 1/2\nmain epoch 2/2\n")
    again = 0 if kind in ("input", "timeout") else 2
    for done in range(again + 1):
        if kind:
            (run / "failed.json").write_text(json.dumps({"message": "it broke", "kind": kind}))
        line = retry(run, done, 2, "exit status 137")
        assert bool(line) == (done < again)
        assert line in (run / "log.txt").read_text()
        assert (run / "failed.json").exists() == (done == again)
    failed = json.loads((run / "failed.json").read_text())
    assert failed["message"] == ("it broke" if kind else "its process was lost (exit status 137), 3 times")
    assert kind or "main epoch 2/2" in failed["last_lines"]


@pytest.mark.parametrize(
    ("status", "ids", "task", "requeued"),
    [
        (1, ["a", "run"], "1", True),
        (137, ["run"], "", True),
        (0, ["run"], "", False),
        (TERMINATED, ["run"], "", False),
        (REQUEUED, ["run"], "", False),
    ],
)
def test_the_last_thing_that_a_job_does(
    status: int, ids: list[str], task: str, requeued: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It requeues itself as often as was submitted; then the run has failed, and others that wait are dropped."""
    commands: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    for name, value in (("SLURM_ARRAY_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", task)):
        monkeypatch.setenv(name, value) if task else monkeypatch.delenv(name, raising=False)
    file, run = tmp_path / "jobs" / "batches" / "sskd-b.json", tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    SlurmSubmission(tmp_path / "runs", ids, 1, "me", {}).save(file)
    for _ in range(3):
        assert retries_main([str(file), str(status)]) == status
    assert commands == [["scontrol", "requeue", "17_1" if task else "17"]] * requeued
    assert (run / "failed.json").exists() == requeued
    (run / "failed.json").unlink(missing_ok=True)
    (run / "result.json").touch()
    assert retries_main([str(file), str(status)]) == status
    assert not (run / "failed.json").exists()
