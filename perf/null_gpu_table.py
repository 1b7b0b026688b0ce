"""Executes one step of every method and stage on the null GPU (perf/null.py), and counts syncs and kernel launches.

    python -m perf.null_gpu_table --write docs/gpu_steps.md

Covers every method with its initial stages, every pretext task's head and transfer, and the teacher; resnet56 to
resnet20, batch 64, untrained networks. The step and its CUDA graph are those of the training loop. Exit status 1 if a
step synchronises or cannot be captured.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from perf import null
from perf.stages import make_spec, make_task
from sskd.config.execution import Execution
from sskd.methods import METHODS
from sskd.pretext import PRETEXTS
from sskd.runs.spec import RunSpec
from sskd.training import step as training_steps
from sskd.training.checkpoint import RunState
from sskd.training.graphs import WARM_UP, GraphedStep, capture_cuda

PAIR = "resnet56/resnet20"
COUNTED = ("launches", "library")  # kernels, and calls of cuDNN and cuBLAS (at least one kernel each)
PAPER = {"contrastive", "exemplar"}  # tasks that also work with the paper's transformations


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


def everything() -> Iterator[tuple[str, RunSpec]]:
    """Yields names and specs: all in bf16; the paper's three losses in all precisions."""
    spec = partial(make_spec, PAIR, root=Path("data"))
    yield "teacher", spec("bf16", role="teacher")
    variants: list[tuple[str, Any]] = [(name, name) for name in PRETEXTS]
    variants += [(f"{name}, paper", {"name": name, "transformation": "paper"}) for name in PRETEXTS if name in PAPER]
    for name, pretext in variants:
        yield f"head {name}", spec("bf16", role="head", pretext=pretext)
    for method in METHODS:
        yield method, spec("bf16", method=method)
    for name, pretext in variants:
        task = name.partition(",")[0]
        if PRETEXTS[task].method is None and name != "contrastive":
            yield f"sskd, {name}", spec("bf16", method="sskd", pretext=pretext)
    for method in ("sskd", "kd", "crd"):
        for precision in ("fp32", "fp16"):
            yield method, spec(precision, method=method)


def rows_of(name: str, spec: RunSpec) -> Iterator[Row]:
    setup, task = make_task(spec, Execution(device="cuda", graphs="on"))
    for number, stage in enumerate(task.stages):
        run = RunState(setup, task, {"plugins": []})
        run.stage_number = number
        run.enter_stage()
        task.modules.eval()
        for module in stage.trained:
            module.train()
        label = name if stage.name == "main" else f"{name} ({stage.name})"
        yield measured(label, spec.recipe.precision, run)


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


def table(rows: Sequence[Row]) -> str:
    lines = [
        "# Launches of a training step",
        "",
        f"Written by `python -m perf.null_gpu_table --write docs/gpu_steps.md` with torch {torch.__version__}, for",
        f"steps of {PAIR} with batch 64, on a library that replaces CUDA and computes nothing. If a step is captured",
        "here, none of its lines waits for the GPU and CUDA's rules for graphs are kept. Neither time nor results are",
        "measured.",
        "",
        "Waits: number of host-device synchronisations in a step. Launches: kernels and calls of cuDNN and",
        "cuBLAS in the graph, which one replay starts. Outside the graph: other requests of the host in the same step.",
        "",
        "| step | precision | waits | in one graph | launches | outside the graph |",
        "| --- | --- | ---: | --- | ---: | --- |",
    ]
    for row in rows:
        graph = f"no: {row.fallback_reason}" if row.fallback_reason else "yes"
        cells = (row.name, row.precision, row.syncs.total(), graph, row.launches, row.host_calls)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, ""])


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
    for name, spec in everything():
        if options.names and not any(name.startswith(wanted) for wanted in options.names):
            continue
        for row in rows_of(name, spec):
            rows.append(row)
            said = row.fallback_reason or row.host_calls
            print(f"{row.name:32s} {row.precision}  syncs {row.syncs.total()}  launches {row.launches:5d}  {said}")
            for place, count in row.syncs.items():
                print(f"      {count} x {place}")
    if options.write:
        options.write.write_text(table(rows), encoding="utf-8")
    return not all(row.good for row in rows)


if __name__ == "__main__":
    sys.exit(main())
