"""Execution settings of a run: device, threads, memory layout, compilation, trackers."""

from typing import Annotated, Literal

from pydantic import Field

from sskd.config.fields import Distinct, FilePath, StrictModel, TupleFromList

Tracker = Literal["tensorboard", "wandb", "mlflow"]


class Execution(StrictModel):
    """Execution settings of a run. They change results by rounding at most, so they are not part of a run's id."""

    # they only changed speed or memory use, so any value is accepted and ignored
    removed = dict.fromkeys(("keep_memory", "native", "together", "offload_activations"))

    dataset_root: FilePath = "data"
    """Folder of the data sets."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads, shared by the processes of a run. null: all cores that the process may use
    (sskd/runtime/cores.py)."""
    channels_last: bool = True
    """Use the channels-last memory layout for images and networks: convolutions are faster, on GPUs and CPUs."""
    fold_teacher: bool = True
    """Fold the frozen teacher's batch norms into its convolutions."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """Mode of torch.compile for the trained network; off: do not compile; reduce-overhead: with CUDA graphs. On the
    CPU it was slower."""
    deterministic: bool = False
    """Use deterministic algorithms on a GPU, so that repeated runs are bit-identical; slower. Some operations have
    no deterministic algorithm (backward of adaptive pooling and of grid_sample): PyTorch then warns, and results may
    differ in the last bits. If false, a resumed run uses the same random numbers but is not bit-identical. CPU runs
    are always deterministic."""
    graphs: Literal["auto", "on", "off"] = "auto"
    """Run the whole training step as one CUDA graph: one launch instead of hundreds, with identical results. auto:
    on a GPU, for runs with one process and images in memory; steps that cannot be captured run eagerly. on: raise an
    error if a step cannot be captured. off: never."""
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Number of processes that read image files, per training process. null: one per core, at most 16."""
    trackers: Annotated[tuple[Tracker, ...] | None, TupleFromList, Distinct] = None
    """Trackers that get the numbers of every epoch, in addition to metrics.jsonl: any of tensorboard, wandb
    (offline) and mlflow (files). Each is an extra of its name. null: tensorboard if it is installed. []: none."""
    keep_epochs: bool = False
    """Keep the state after every epoch in the run's folder (epochs/). `run_all.py submit` needs it, so that others
    can replay the run. A state is about as large as the weights and the optimiser state together."""
