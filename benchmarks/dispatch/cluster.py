"""Clusters: the validated files of configs/clusters, which define where runs execute."""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from sskd.config.fields import PlainName, StrictModel, TupleFromList
from sskd.config.validation import from_dict
from sskd.config.yaml import override, read_yaml
from sskd.errors import UserError, unknown
from sskd.paths import CONFIGS, config_names

CLUSTERS = CONFIGS / "clusters"


def _one_line(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError(
            "line breaks and control characters are not allowed: a job's script would execute what follows"
        )
    return text


def _option(name: str) -> str:
    if re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name) is None:
        raise ValueError("the name of an option can only have letters, digits, '_' and '-'")
    return name


Line = Annotated[str, AfterValidator(_one_line)]
Lines = Annotated[tuple[Line, ...], TupleFromList]
Plain = Line | bool | int | float
OptionName = Annotated[str, AfterValidator(_option)]


class Parameters(StrictModel):
    """submitit's parameters that are not a single word or number."""

    mem_gb: PositiveFloat | None = None
    """Memory per run, in GB."""
    nodes: PositiveInt | None = None
    """Nodes per run."""
    cpus_per_task: PositiveInt | None = None
    """Cores per process."""
    gpus_per_node: Plain | None = None
    """A number, or Slurm's name:number."""
    array_parallelism: PositiveInt | None = None
    """Tasks of an array that run in parallel; set by array_width."""
    signal_delay_s: PositiveInt | None = None
    """Seconds before the time limit at which Slurm signals; set by signal_seconds."""
    use_srun: bool | None = None
    """Start the command with srun."""
    stderr_to_stdout: bool | None = None
    """Write both outputs to one file."""
    time: str | int | None = None
    """Time limit: minutes, or Slurm's hours:minutes:seconds and days-hours. The run resumes in the next job."""
    setup: Lines | None = None
    """Shell commands before the run, one per line."""
    teardown: Lines | None = None
    """Shell commands after the run, one per line."""
    srun_args: Lines | None = None
    """Options of srun."""
    additional_parameters: dict[OptionName, Plain] | None = None
    """Options of sbatch: NAME: VALUE becomes --NAME=VALUE."""


class _Words(StrictModel):
    parameters: dict[OptionName, Plain | None]


class ClusterSpec(StrictModel):
    """A file of configs/clusters. Unknown keys are parameters of submitit or sbatch."""

    name: PlainName
    """Name of the cluster (default: the file's name)."""
    about: str
    """Purpose of the cluster file."""
    kind: Literal["inline", "local", "slurm"]
    """inline: runs are executed sequentially in this process. local: in parallel processes on this machine. slurm: as
    jobs of a queue."""
    runs_at_once: PositiveInt | None = None
    """Local clusters: number of parallel runs. null: as many as there are GPUs, or cores and memory."""
    gpus_per_run: Annotated[int, Field(ge=0)] | None = None
    """GPUs per run. null: on a local cluster 1 if the machine has a GPU, else 0; on Slurm whatever `parameters`
    requests (for example gpus_per_node)."""
    runs_per_gpu: PositiveInt = 1
    """Local clusters and Slurm with pools: small runs that share a GPU, with NVIDIA's MPS if available
    (docs/gpu.md)."""
    pools: PositiveInt | None = None
    """Slurm: number of jobs that each execute runs on all GPUs of a node. null: one job per run."""
    cpus_per_run: PositiveInt | None = None
    """Cores per run, on Slurm and on local clusters. On Slurm they are divided among the run's processes."""
    memory_gb_per_run: PositiveFloat = 0.7
    """Local clusters without GPUs: assumed memory per run in GB; limits the number of parallel runs."""
    array_width: PositiveInt = 64
    """Slurm: maximum number of tasks of an array that run in parallel."""
    array_size: PositiveInt = 1000
    """Slurm: maximum number of tasks per array (the site's MaxArraySize - 1)."""
    signal_seconds: PositiveInt = 120
    """Seconds before the time limit at which a run saves and requeues itself."""
    poll_seconds: PositiveFloat = 10.0
    """Seconds between two queries of the queue."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Number of times that a run is started again after it failed or its process or node was lost. Preemptions,
    requeues and time limits are not counted."""
    parameters: dict[str, Any] = {}
    """Parameters of submitit (partition, time, mem_gb, ...); others become --name=value of sbatch."""


def read_cluster(name: str, settings: list[str]) -> ClusterSpec:
    """Returns the cluster by name or YAML file, with ``settings`` (time=60, parameters.qos=high, ...) applied. Raises
    UserError for invalid content."""
    path = Path(os.path.expanduser(name)) if name.endswith((".yaml", ".yml")) else CLUSTERS / f"{name}.yaml"
    if path.parent == CLUSTERS and not os.path.isfile(path):
        raise unknown("cluster", name, config_names("clusters"))
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    data = override({"name": path.stem} | data, settings)
    own = {key: value for key, value in data.items() if key in ClusterSpec.model_fields}
    if data.get("kind") == "slurm":
        given = own.get("parameters") or {}
        if isinstance(given, dict):
            own["parameters"] = given | {key: value for key, value in data.items() if key not in own}
    else:
        own = data
    where = f"{path} with {' '.join('cluster.' + setting for setting in settings)}" if settings else str(path)
    cluster: ClusterSpec = from_dict(ClusterSpec, own, where)
    cluster = cluster.model_copy(update={"parameters": _checked(cluster.parameters, where)})
    if cluster.kind == "slurm" and cluster.runs_per_gpu > 1 and cluster.pools is None:
        raise UserError(
            f"{path}: runs_per_gpu needs several runs per job: use --cluster slurm_node (whole nodes), set "
            "cluster.pools=1, or request gres=shard:1 if the site supports it"
        )
    return cluster


def _checked(parameters: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns the parameters with their types checked; null values are omitted. Raises UserError for impossible
    values."""
    known = {key: value for key, value in parameters.items() if key in Parameters.model_fields}
    other = {key: value for key, value in parameters.items() if key not in known}
    typed: dict[str, Any] = from_dict(Parameters, known, where).model_dump(mode="json", exclude_none=True)
    words = from_dict(_Words, {"parameters": other}, where).parameters
    if "time" in typed:
        minutes(typed["time"])
    return typed | {key: value for key, value in words.items() if value is not None}


def minutes(time: Any) -> int:
    """Converts Slurm's formats of a time limit to whole minutes: 90, 90:30, 1:30:00, 1-12, 1-12:30, 1-12:30:00."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(time))
    if match is None:
        raise UserError(f"'{time}' is not a time limit: write minutes (90), 1:30:00, or 1-12:30:00 (days-hours:...)")
    begins_with_hours = match[1] is not None or match[4] is not None  # after days, and of three numbers
    days, *numbers = (int(part or 0) for part in match.groups())
    hours, mins, seconds = numbers if begins_with_hours else (0, *numbers[:2])
    return max(1, math.ceil(days * 1440 + hours * 60 + mins + seconds / 60))
