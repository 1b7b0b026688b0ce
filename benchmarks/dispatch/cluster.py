"""Where runs execute: the files of configs/clusters, validated."""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt

from sskd.config.fields import PlainName, StrictModel, TupleFromList
from sskd.config.validation import from_dict
from sskd.config.yaml import override, read_yaml
from sskd.errors import UserError, unknown
from sskd.paths import CONFIGS, config_names

CLUSTERS = CONFIGS / "clusters"
RETRIES = 2
CAUSES = {"exception", "out_of_memory", "lost"}


def _one_line(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError("line ends and control characters are refused: a job's script would execute what follows")
    return text


def _option(name: str) -> str:
    if re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name) is None:
        raise ValueError("the name of an option has letters, digits, '_' and '-' only")
    return name


Line = Annotated[str, AfterValidator(_one_line)]
Lines = Annotated[tuple[Line, ...], TupleFromList]
Plain = Line | bool | int | float
OptionName = Annotated[str, AfterValidator(_option)]


class Parameters(StrictModel):
    """Those of submitit's parameters that are more than a word or a number."""

    mem_gb: PositiveFloat | None = None
    """Memory of a run, in GB."""
    nodes: PositiveInt | None = None
    """Nodes of a run."""
    cpus_per_task: PositiveInt | None = None
    """Cores of each process."""
    gpus_per_node: Plain | None = None
    """A number, or Slurm's name:number."""
    array_parallelism: PositiveInt | None = None
    """Tasks of an array at the same time; array_width sets it."""
    signal_delay_s: PositiveInt | None = None
    """Seconds before the time limit; signal_seconds sets it."""
    use_srun: bool | None = None
    """Whether the job's script starts its command by srun."""
    stderr_to_stdout: bool | None = None
    """Whether both outputs go to one file."""
    time: str | int | None = None
    """The time limit: minutes, or Slurm's hours:minutes:seconds and days-hours. A run goes on in the next job."""
    setup: Lines | None = None
    """Shell commands before the run, a line each."""
    teardown: Lines | None = None
    """Shell commands after the run, a line each."""
    srun_args: Lines | None = None
    """Of srun."""
    additional_parameters: dict[OptionName, Plain] | None = None
    """Of sbatch: NAME: VALUE becomes --NAME=VALUE."""


class _Words(StrictModel):
    parameters: dict[OptionName, Plain | None]


def _one_number(given: object) -> object:
    """Files of earlier versions have a number for each cause: the largest, but for time limits, which do not count."""
    if isinstance(given, dict) and given.keys() <= CAUSES | {"timeout"}:
        numbers = [value for name, value in given.items() if name in CAUSES]
        return max(numbers) if all(type(number) is int for number in numbers) and numbers else RETRIES
    return given


class ClusterSpec(StrictModel):
    """A file of configs/clusters. Keys that are not here are parameters of submitit, or of sbatch."""

    name: PlainName
    """The file's name unless it says another."""
    about: str
    """What it is for."""
    kind: Literal["inline", "local", "slurm"]
    """inline: one after the other in this process. local: several processes of this machine. slurm: jobs of a
    queue."""
    runs_at_once: PositiveInt | None = None
    """Of local. null: as many as there are GPUs, or cores and memory, for."""
    gpus_per_run: Annotated[int, Field(ge=0)] | None = None
    """null: of local one if there are any, of slurm what the parameters say."""
    runs_per_gpu: PositiveInt = 1
    """Of local, and of slurm with pools: small runs that share one, by NVIDIA's MPS where it is there (docs/gpu.md)."""
    pools: PositiveInt | None = None
    """Of slurm: so many jobs, each of which runs a local pool over the GPUs of its node. null: a job for each run."""
    cpus_per_run: PositiveInt | None = None
    """Of slurm: divided among the run's processes, each of which has a GPU."""
    memory_gb_per_run: PositiveFloat = 0.7
    """Of local, on CPUs: no more runs at once than the free memory has room for."""
    array_width: PositiveInt = 64
    """Of slurm: tasks of one array that may run at the same time."""
    array_size: PositiveInt = 1000
    """Of slurm: tasks of one array at most (the site's MaxArraySize - 1)."""
    signal_seconds: PositiveInt = 120
    """How long before the time limit a run is told to save and requeue itself."""
    poll_seconds: PositiveFloat = 10.0
    """Between looks at the queue."""
    retries: Annotated[int, BeforeValidator(_one_number), Field(ge=0)] = RETRIES
    """How often a run is started again that failed, or whose process or node was lost. Preemptions, requeues and time
    limits are not counted."""
    parameters: dict[str, Any] = {}
    """Of submitit (partition, time, mem_gb, ...); any other becomes --name=value of sbatch."""


def read_cluster(name: str, settings: list[str]) -> ClusterSpec:
    """The cluster by name or YAML file, with ``settings`` (time=60, parameters.qos=high, ...) applied."""
    path = Path(os.path.expanduser(name)) if name.endswith((".yaml", ".yml")) else CLUSTERS / f"{name}.yaml"
    if path.parent == CLUSTERS and not os.path.isfile(path):
        raise unknown("cluster", name, cluster_names())
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
            f"{path}: with runs_per_gpu several runs are in one job: --cluster slurm_node, which has whole nodes, or "
            "cluster.pools=1; or ask for gres=shard:1, if the site has it"
        )
    return cluster


def _checked(parameters: dict[str, Any], where: str) -> dict[str, Any]:
    """The parameters, each of its type; what is null is left to submitit. UserError for what no job can have."""
    known = {key: value for key, value in parameters.items() if key in Parameters.model_fields}
    other = {key: value for key, value in parameters.items() if key not in known}
    typed = from_dict(Parameters, known, where).model_dump(exclude_none=True)
    words = from_dict(_Words, {"parameters": other}, where).parameters
    if "time" in typed:
        minutes(typed["time"])
    lists = {key: list(value) for key, value in typed.items() if isinstance(value, tuple)}
    return typed | lists | {key: value for key, value in words.items() if value is not None}


def cluster_names() -> list[str]:
    return config_names("clusters")


def minutes(time: Any) -> int:
    """Slurm's ways to write a time limit, in whole minutes: 90, 90:30, 1:30:00, 1-12, 1-12:30, 1-12:30:00."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(time))
    if match is None:
        raise UserError(f"'{time}' is no time limit: write minutes (90), 1:30:00, or 1-12:30:00 (days-hours:...)")
    days, *rest = match.groups()
    numbers = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, mins, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, mins, seconds = numbers
    else:
        hours, (mins, seconds) = 0, [*numbers, 0][:2]
    return max(1, math.ceil(int(days or 0) * 1440 + hours * 60 + mins + seconds / 60))
