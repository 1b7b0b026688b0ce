"""How much of a GPU's memory a student's run takes for each pair, by the blocks that PyTorch asks a null GPU for
(perf/null.py). cuDNN's workspaces and the CUDA context are not in it.

    python -m perf.null_gpu_memory --write docs/gpu_memory.md

Each number is of a process of its own: cuBLAS keeps the workspaces of what was before.
"""

import argparse
import subprocess
import sys
import warnings
from pathlib import Path

import torch

from perf import null
from perf.stages import make_spec, make_task
from sskd.config.execution import Execution
from sskd.training.graphs import WARM_UP
from sskd.training.loop import train_step
from sskd.training.run_state import RunState
from sskd.training.steps import make_graph

PAIRS = (  # tables 3 and 4 of the paper
    "wrn_40_2/wrn_16_2",
    "wrn_40_2/wrn_40_1",
    "resnet56/resnet20",
    "resnet32x4/resnet8x4",
    "vgg13/vgg8",
    "vgg13/MobileNetV2",
    "ResNet50/MobileNetV2",
    "ResNet50/vgg8",
    "resnet32x4/ShuffleV1",
    "resnet32x4/ShuffleV2",
    "wrn_40_2/ShuffleV1",
)
METHODS = ("sskd", "kd")


def mebibytes(pair: str, method: str) -> int:
    """Held by the allocator after steps, one of them a graph's: data, networks, and what a step needs at its peak."""
    setup, task = make_task(make_spec(pair, "bf16", Path("data"), method=method), Execution(device="cuda"))
    run = RunState(setup, task, {"plugins": []})
    for module in run.stage.trained:
        module.train()
    loader = run.loader
    graph = make_graph(run, loader, train_step)  # type: ignore[arg-type]
    for step in range(WARM_UP + 2):
        run.set_learning_rate()
        graph(torch.zeros(loader.batch_size, dtype=torch.int64, device=setup.device), [step], ())
    assert not graph.refused, graph.refused
    return round(torch.cuda.memory_reserved() / 2**20)


def alone(pair: str, method: str) -> int:
    """As ``mebibytes``, in a new process. Ends this one where there is no null GPU."""
    command = [sys.executable, "-m", "perf.null_gpu_memory", "--only", pair, method]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", default=PAIRS)
    parser.add_argument("--only", nargs=2, metavar=("PAIR", "METHOD"), help="print this one number")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    if options.only:
        if not null.running():
            null.start_again("perf.null_gpu_memory", sys.argv[1:])
        warnings.filterwarnings("ignore")
        null.labels_on_the_host()
        print(mebibytes(*options.only))
        return
    lines = [
        "# Memory of a step",
        "",
        f"`python -m perf.null_gpu_memory --write docs/gpu_memory.md`, torch {torch.__version__}: MiB that PyTorch's",
        "allocator holds for a student's run whose step was captured as one graph; batch 64, bf16, digits.",
        "From a null GPU, so without cuDNN's workspaces and the CUDA context, which no machine without a GPU can know",
        "(some hundred MiB, an estimate); CIFAR-100 adds 180 MiB of images. Each number is of a process of its own.",
        "",
        "| teacher/student | sskd | kd |",
        "| --- | ---: | ---: |",
    ]
    for pair in options.pairs:
        found = [alone(pair, method) for method in METHODS]
        print(pair, *found, flush=True)
        lines.append(f"| {pair} | {found[0]} | {found[1]} |")
    if options.write:
        options.write.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
