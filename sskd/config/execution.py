"""Where and how a run executes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sskd.config.fields import Distinct, FilePath, StrictModel, TupleFromList
from sskd.errors import nearest

# what installs them; sskd/console/trackers.py opens them, and each is an extra of its name
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}


def _known(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for name in names or ():
        if name not in TRACKERS:
            near = nearest(name, TRACKERS)
            hint = f"; did you mean '{near}'?" if near else "."
            raise ValueError(f"unknown tracker '{name}'{hint} Known: {', '.join(TRACKERS)}")
    return names


class Execution(StrictModel):
    """Where and how a run executes. Nothing here changes what is computed, so nothing here enters a run's id."""

    # they made steps faster, or smaller in memory, with the same numbers
    removed = dict.fromkeys(("keep_memory", "native", "together", "offload_activations"))

    dataset_root: FilePath = "data"
    """The folder that data sets are in."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads, shared by a run's processes. null: as many as may be used (sskd/runtime/cores.py)."""
    channels_last: bool = True
    """The memory layout of images and networks: channels last, in which convolutions are faster on GPUs and CPUs."""
    fold_teacher: bool = True
    """The frozen teacher with its batch norms folded into its convolutions."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """Whether the network that learns goes through torch.compile; reduce-overhead: with CUDA graphs. On the CPU it
    made steps slower."""
    deterministic: bool = False
    """On a GPU: the same numbers in every repetition, where torch and cuDNN have such algorithms; slower. It does not
    hold where they have none (the backward passes of adaptive pooling and of grid_sample): torch then warns, and those
    steps may differ in the last bits from one repetition to the next. Without it a resumed run continues the same
    random draws, but not bit for bit. The CPU repeats everything in any case."""
    graphs: Literal["auto", "on", "off"] = "auto"
    """The whole training step as one CUDA graph, which takes one launch instead of hundreds. auto: on a GPU, where a
    run has one process and its images lie in memory, and eagerly where a step cannot be captured; on: an error where it
    cannot; off: never. The numbers are the same."""
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Processes that read image files. null: as many as there are cores, 16 at most."""
    trackers: Annotated[tuple[str, ...] | None, TupleFromList, Distinct, AfterValidator(_known)] = None
    """Where an epoch's numbers also go: any of tensorboard, wandb (offline) and mlflow (files), each an extra of its
    name. null: to tensorboard where that is installed. []: nowhere else than to metrics.jsonl."""
    keep_epochs: bool = False
    """Whether the state after every epoch is kept in the run's folder (epochs/), as run_all.py submit needs it to
    let others replay the run. A state is about as large as the weights and the optimiser's averages together."""
