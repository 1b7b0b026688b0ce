"""Cluster files, what is refused of them, and the policy of retries."""

import json
from pathlib import Path

import pytest

from benchmarks.dispatch.cluster import cluster_names, minutes, read_cluster
from benchmarks.dispatch.local import GB, Machine, RunResources, concurrency_of, divide_machine
from benchmarks.dispatch.retries import REQUEUED, TERMINATED, SlurmSubmission, retry
from benchmarks.dispatch.retries import main as retries_main
from benchmarks.dispatch.slurm_jobs import make_executor
from sskd.errors import UserError
from tests.cluster.suite import Suite


def test_the_shipped_clusters_are_valid() -> None:
    assert cluster_names() == ["inline", "local", "side_by_side", "slurm", "slurm_node"]
    kinds = {name: read_cluster(name, []).kind for name in cluster_names()}
    assert kinds == {"inline": "inline", "local": "local", "side_by_side": "local"} | dict.fromkeys(
        ("slurm", "slurm_node"), "slurm"
    )


def test_every_parameter_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's by their own names, any other as an option of sbatch."""
    for program in ("sbatch", "srun"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster = read_cluster("slurm", ["partition=gpu", "time=1-12", "reservation=paper", "parameters.qos=high"])
    executor = make_executor(cluster, tmp_path, tmp_path / "b.json", 1, "afterok:1_2")
    script = executor._make_submission_file_text("run", "u")
    for option in (
        *("--partition=gpu", "--time=2160", "--reservation=paper", "--qos=high", "--dependency=afterok:1_2"),
        *("--signal=USR2@120", "--gpus-per-node=1", "--cpus-per-task=4", "--mem=16384M", "--requeue"),
        "--kill-on-invalid-dep=yes",
    ):
        assert f"#SBATCH {option}\n" in script
    assert "benchmarks.dispatch.retries" in script


def test_the_processes_of_a_run_are_tasks_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("sbatch", "srun"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for nodes, options in ((1, ("--ntasks-per-node=4", "--gpus-per-node=4")), (2, ("--nodes=2", "--gpus-per-node=2"))):
        cluster = read_cluster("slurm", [f"nodes={nodes}", "cpus_per_run=8"])
        script = make_executor(cluster, tmp_path, tmp_path / "b.json", 4)._make_submission_file_text("run", "u")
        for option in (*options, f"--ntasks-per-node={4 // nodes}", "--cpus-per-task=2"):
            assert f"#SBATCH {option}\n" in script
    with pytest.raises(UserError, match="3 processes cannot be spread evenly over 2 nodes"):
        make_executor(cluster, tmp_path, tmp_path / "b.json", 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), (90, 90), ("90:30", 91), ("1:30:00", 90), ("1-12", 2160), ("1-12:30", 2190), ("0-0:0:20", 1)],
)
def test_time_limits(text: object, value: int) -> None:
    assert minutes(text) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "slrum"], "unknown cluster 'slrum'; did you mean 'slurm'?"),
        (["--cluster", "mine.yaml"], "no such file: mine.yaml"),
        (["--cluster", "local", "--set", "cluster.run_at_once=2"], "unknown key .* did you mean 'runs_at_once'?"),
        (["--cluster", "local", "--set", "cluster.runs_at_once=0"], "runs_at_once.*greater than 0"),
        (["--cluster", "inline", "--set", "cluster.partition=gpu"], "unknown key 'partition'"),
        (["--cluster", "slurm", "--set", "cluster.runs_per_gpu=2"], "--cluster slurm_node"),
        (["--cluster", "slurm"], "there is no sbatch on the PATH"),
        (["--cluster", "local", "--set", "cluster.time=60"], "unknown key 'time'"),
        (["--cluster", "local", "--set", "cluster.gpus_per_run=64"], "exceeds the number of GPUs"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    suite = Suite(tmp_path, *options)
    assert suite.run() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(error)
    assert not suite.runs.exists()


@pytest.mark.parametrize(
    "setting",
    [
        *("mem_gb=lots", "mem_gb=-1", "mem_gb=.nan", "mem_gb=[16]", "mem_gb={a: 1}", "mem_gb=true", "mem_gb=0"),
        *("setup=module load cuda", "setup=5", "setup=[5]", "setup={a: b}", "setup=[[a]]", "setup=[null]"),
        *("teardown=echo", "teardown=[1, 2]", "teardown=true", "srun_args=--label", "srun_args=[1]", "srun_args={}"),
        *("additional_parameters=5", "additional_parameters=[a]", "additional_parameters={a: [1]}"),
        *("additional_parameters={a b: 1}", "nodes=two", "nodes=0", "nodes=1.5", "cpus_per_task=x", "time=[1]"),
        *("array_parallelism=x", "signal_delay_s=soon", "use_srun=maybe", "partition=[gpu]", "partition={a: b}"),
        *("qos=.nan", "parameters=5", "parameters=[1]", "parameters.x.y=1", "array_width=many", "retries=-1"),
        *("name=../../evil", "name=/tmp/evil", "name=5", "account=[null]", "time=tomorrow", "constraint=[a, b]"),
    ],
)
def test_wrong_slurm_settings_are_refused_when_they_are_read(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        read_cluster("slurm", [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("character", ["\n", "\r", "\x0b", "\x1b", "\u2028", "\x00"])
def test_nothing_that_a_job_script_would_execute(character: str, tmp_path: Path) -> None:
    """Text after a line break in a value or key would be a command of the generated script."""
    evil = f"gpu{character}touch evil"
    for data in (
        *({"partition": evil}, {evil: "x"}, {"setup": [evil]}, {"teardown": [evil]}, {"srun_args": [evil]}),
        *(
            {"additional_parameters": {"a": evil}},
            {"additional_parameters": {evil: "a"}},
            {"parameters": {"qos": evil}},
        ),
    ):
        (tmp_path / "c.yaml").write_text(json.dumps({"about": "x", "kind": "slurm"} | data))  # JSON is YAML
        with pytest.raises(UserError, match="control character|letters, digits|must start|not valid YAML"):
            read_cluster(str(tmp_path / "c.yaml"), [])


def test_what_a_job_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["setup=[module load cuda, 'export A=1']", "srun_args=[--label]", "additional_parameters={nice: 5}"]
    cluster = read_cluster("slurm", [*settings, "exclusive=true", "partition=null", "time=1:30:00"])
    assert cluster.parameters["setup"] == ["module load cuda", "export A=1"]
    assert cluster.parameters["exclusive"] is True
    assert "partition" not in cluster.parameters
    assert minutes(cluster.parameters["time"]) == 90  # and not 5,400, as YAML 1.1 reads it


def test_places() -> None:
    """Every run has threads, or GPUs, of its own; several share a GPU only where that is asked for."""
    machine = Machine(list(range(8)), 8)
    two_gpus = machine._replace(gpus=("0", "1"))
    local = read_cluster("local", ["cpus_per_run=2"])
    assert [one.cores for one in divide_machine(local, machine)] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert [one.gpus for one in divide_machine(local, two_gpus)] == [("0",), ("1",)]
    shared = read_cluster("local", ["runs_per_gpu=2", "cpus_per_run=null"])
    assert [one.gpus for one in divide_machine(shared, two_gpus)] == [("0",), ("1",), ("0",), ("1",)]
    assert [one.cores for one in divide_machine(shared, two_gpus)] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert len(divide_machine(read_cluster("local", ["runs_at_once=3"]), two_gpus)) == 2  # there are two GPUs
    assert len(divide_machine(read_cluster("local", ["runs_at_once=3", "gpus_per_run=0"]), two_gpus)) == 3
    assert divide_machine(read_cluster("local", ["gpus_per_run=1"]), machine) == []


def test_as_many_small_runs_as_may_be_used() -> None:
    """A quota of two cores on a host of 64 has two resources, of one thread each, on whichever cores are free."""
    small = read_cluster("side_by_side", [])
    cores = list(range(64))
    assert divide_machine(small, Machine(cores, 2)) == [RunResources(1)] * 2
    assert divide_machine(small, Machine(cores, 64)) == [RunResources(1)] * 64
    assert divide_machine(small, Machine([5], 1)) == [RunResources(1)]
    assert divide_machine(small, Machine(cores, 64, memory=4 * GB)) == [RunResources(1)] * 5
    assert divide_machine(small, Machine(cores, 64, memory=GB // 10)) == [RunResources(1)]
    assert divide_machine(read_cluster("local", []), Machine(cores, 2)) == [
        RunResources(2)
    ]  # four threads were wished for


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


@pytest.mark.parametrize(
    ("settings", "retries"),
    [([], 2), (["retries=5"], 5), (["retries.lost=0"], 0), (["retries={exception: 1, lost: 3, timeout: 9}"], 3)],
)
def test_retries_are_one_number(settings: list[str], retries: int) -> None:
    """Files of earlier versions have one for each cause."""
    assert read_cluster("slurm", settings).retries == retries
    assert read_cluster("inline", []).retries == 0


def fail(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failed.json").write_text(json.dumps({"message": "it broke", "kind": kind}))


@pytest.mark.parametrize("kind", ["exception", "out_of_memory", "input", "timeout", ""])
def test_what_ended_is_started_again_so_often(kind: str, tmp_path: Path) -> None:
    """Whatever ended it, but bad input and too many time limits. A lost run is marked failed, with its last lines."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.txt").write_text("main epoch 1/2\nmain epoch 2/2\n")
    again = 0 if kind in ("input", "timeout") else 2
    for done in range(again + 1):
        if kind:
            fail(run, kind)
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
    SlurmSubmission(tmp_path / "runs", ids, 1, "me").save(file)
    for _ in range(3):
        assert retries_main([str(file), str(status)]) == status
    assert commands == [["scontrol", "requeue", "17_1" if task else "17"]] * requeued
    assert (run / "failed.json").exists() == requeued
    (run / "failed.json").unlink(missing_ok=True)
    (run / "result.json").touch()
    assert retries_main([str(file), str(status)]) == status
    assert not (run / "failed.json").exists()


def test_a_submitit_without_its_private_parts_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("sbatch", "srun"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delattr("submitit.slurm.slurm._get_default_parameters")
    with pytest.raises(UserError, match=r"this submitit \(\d.*pip install 'submitit==1\.5\.4', or use --cluster local"):
        make_executor(read_cluster("slurm", []), tmp_path, tmp_path / "b.json")
