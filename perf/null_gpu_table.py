"""Executes one step of every method and stage on the null GPU (perf/null.py), and counts syncs and kernel launches.

    python -m perf.null_gpu_table --write FILE.md

Covers every method with its initial stages, every pretext task's head and transfer, and the teacher; resnet56 to
resnet20, batch 64, untrained networks. The step and its CUDA graph are those of the training loop. Exit status 1 if a
step synchronises or cannot be captured.
"""

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from perf import null
from perf.cases import Case, Cases, all_cases
from perf.steps import stages
from sskd.config.execution import Execution
from sskd.formatting import markdown_table
from sskd.training import step as training_steps
from sskd.training.checkpoint import RunState
from sskd.training.graphs import WARM_UP, GraphedStep, capture_cuda

PAIR = "resnet56/resnet20"
PAGE = f"""# Launches of a training step

Written by `python -m perf.null_gpu_table --write FILE.md` with torch {torch.__version__}, for
steps of {PAIR} with batch 64, on a library that replaces CUDA and computes nothing. If a step is captured
here, none of its lines waits for the GPU and CUDA's rules for graphs are kept. Neither time nor results are
measured.

Waits: number of host-device synchronisations in a step. Launches: kernels and calls of cuDNN and
cuBLAS in the graph, which one replay starts. Outside the graph: other requests of the host in the same step.

"""
COUNTED = ("launches", "library")  # kernels, and calls of cuDNN and cuBLAS (at least one kernel each)


class Row(NamedTuple):
    """Counts of one stage's step. syncs: host-device synchronisations, including copies from or to pageable memory, by
    line."""

    name: str
    precision: str
    syncs: Counter[str]
    launches: int  # in the graph, or of the eager step without a graph
    fallback_reason: str  # why there is no graph
    host_calls: str  # calls of the host in a replayed step

    @property
    def good(self) -> bool:
        return not self.syncs and not self.fallback_reason


def everything() -> list[tuple[Case, str]]:
    """Returns all cases in bf16, and the paper's three losses in the other precisions."""
    losses = [Case("student", method) for method in ("sskd", "kd", "crd")]
    return [(case, "bf16") for case in all_cases()] + [(case, other) for case in losses for other in ("fp32", "fp16")]


def measured(name: str, precision: str, run: RunState) -> Row:
    """Runs the first steps of a stage: eager steps, a step that is captured, and a replay. Counts the synchronisations
    of all but the first step and the captured one."""
    import null_gpu

    inside = 0

    def capture(work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        def counted() -> None:
            nonlocal inside
            null_gpu.reset()
            work()
            inside = sum(null_gpu.counts()[name] for name in COUNTED)

        return capture_cuda(counted, generators)

    training_steps.GraphedStep = partial(GraphedStep, capture=capture)  # type: ignore[misc, assignment]
    loader: Any = run.loader
    graph = training_steps.make_graph(run, loader)
    positions = torch.zeros(loader.batch_size, dtype=torch.int64, device=run.setup.device)
    syncs: Counter[str] = Counter()
    for step in range(WARM_UP + 2):
        run.set_learning_rate()
        null_gpu.reset()
        with null_gpu.watch() as events:
            graph(positions, [step], ())
        if step not in (0, WARM_UP):  # the first step builds tables, the capture reads the generators' seeds
            syncs.update(f"{event.what}: {event.where}" for event in events if event.waits)
    after = null_gpu.counts()
    if graph.fallback_reason:
        return Row(name, precision, syncs, sum(after[name] for name in COUNTED), graph.fallback_reason, "")
    host_calls = ", ".join(f"{count} {name}" for name, count in after.items() if count)
    return Row(name, precision, syncs, inside, "", host_calls)


def page(rows: Sequence[Row]) -> str:
    head = ("step", "precision", "waits", "in one graph", "launches", "outside the graph")
    lines = [
        (
            row.name,
            row.precision,
            row.syncs.total(),
            f"no: {row.fallback_reason}" if row.fallback_reason else "yes",
            row.launches,
            row.host_calls,
        )
        for row in rows
    ]
    return PAGE + markdown_table(head, lines, numbers=(2, 4))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of methods, or the first words of rows; none: all")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    if not null.running():
        null.start_again("perf.null_gpu_table", sys.argv[1:])
    warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
    # the stub inspects frames, which keeps the last step's autograd graph alive a little longer
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
    null.labels_on_the_host()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(Path(folder), Path("data"), PAIR)
        for case, precision in everything():
            if options.names and not any(case.name.startswith(wanted) for wanted in options.names):
                continue
            for run in stages(cases.spec(case, precision), cases.runs, Execution(device="cuda", graphs="on")):
                name = case.name if run.in_main_stage else f"{case.name} ({run.stage.name})"
                row = measured(name, precision, run)
                rows.append(row)
                said = row.fallback_reason or row.host_calls
                print(f"{row.name:32s} {row.precision}  syncs {row.syncs.total()}  launches {row.launches:5d}  {said}")
                for place, count in row.syncs.items():
                    print(f"      {count} x {place}")
    if options.write:
        options.write.write_text(page(rows), encoding="utf-8")
    return not all(row.good for row in rows)


if __name__ == "__main__":
    sys.exit(main())
