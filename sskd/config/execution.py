"""Where and how a run executes."""

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from sskd.config.fields import StrictModel


class Execution(StrictModel):
    """Where and how a run executes. Nothing here changes what is computed, so nothing here enters a run's id."""

    # they made steps faster, or smaller in memory, with the same numbers
    removed = dict.fromkeys(("keep_memory", "native", "together", "offload_activations"))

    dataset_root: str = "data"
    """The folder that data sets are in."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads, shared by a run's processes. null: as many as may be used (sskd/cores.py)."""
    channels_last: bool = True
    """The memory layout of images and networks: channels last, in which convolutions are faster on GPUs and CPUs."""
    fold_teacher: bool = True
    """The frozen teacher with its batch norms folded into its convolutions."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """Whether the network that learns goes through torch.compile; reduce-overhead: with CUDA graphs. On the CPU it
    made steps slower."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that read image files. null: as many as there are cores, 16 at most."""
    keep_epochs: bool = False
    """Whether the state after every epoch is kept in the run's folder (epochs/), as run_all.py --submit needs it to
    let others replay the run. A state is about as large as the weights and the optimiser's averages together."""
