"""How many operations a training step asks the device for, now and at an earlier commit.

    python -m perf.launches --before 6328124 --write docs/gpu_launches.md

SSKD, KD and CRD, resnet56 to resnet20, batch 64, bf16. On a null GPU (perf/null.py) kernels and calls of cuDNN and
cuBLAS are counted; without one, the operations that PyTorch dispatches on the CPU in fp32, where casts and joined
convolutions, which are a GPU's, do not show.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

METHODS = ("sskd", "kd", "crd")
COUNTED = ("launches", "library")
ROOT = Path(__file__).resolve().parents[1]


class Operations(TorchDispatchMode):
    """Counts what is dispatched and is more than another view of the same memory."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(kind.alias_info and not kind.alias_info.is_write for kind in func._schema.returns)
        return func(*args, **(kwargs or {}))


def first_of(*modules: str) -> Any:
    """The first of these modules that there is: earlier commits have others."""
    for name in modules:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ImportError(f"none of {', '.join(modules)}")


def step_of(method: str, device: str) -> Callable[[], None]:
    """One eager step with everything that the training loop does on the device, in the code that is imported."""
    from perf.stages import endless, make_stage

    execution = first_of("sskd.config.execution", "sskd.config").Execution(dataset_root="data", device=device)
    precision = "bf16" if device == "cuda" else "fp32"
    setup, stage = make_stage("resnet56/resnet20", method, precision, Path("data"), execution=execution)
    kind = first_of("sskd.training.meter", "sskd.meter").Meter
    meter = kind(device) if "device" in inspect.signature(kind).parameters else kind()
    optimizer = torch.optim.SGD(stage.parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    batches = endless(setup, stage)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        batch = next(batches)
        total, terms = stage.loss(batch)
        total.backward()
        optimizer.step()
        stage.after_step()
        meter.add(total, terms, len(batch.labels))

    return step


def labels_on_the_host() -> None:
    """As in perf.null, for whatever code is imported: the null GPU computes nothing from labels."""
    jobs = first_of("sskd.training.student", "sskd.training.jobs", "sskd.jobs")
    context = jobs.MethodContext
    jobs.MethodContext = lambda **fields: context(**fields | {"labels": fields["labels"].cpu()})


def counted(method: str) -> int:
    """Of the third step."""
    if os.environ.get("LD_PRELOAD", "").find("null_gpu") >= 0:
        import null_gpu

        labels_on_the_host()
        step = step_of(method, "cuda")
        step()
        step()
        null_gpu.reset()
        step()
        return sum(null_gpu.counts()[name] for name in COUNTED)
    step = step_of(method, "cpu")
    step()
    with Operations() as operations:
        step()
    return operations.count


def count_in(tree: Path, method: str) -> int:
    """The count of a tree's own code, in a process of its own."""
    from perf import null

    run = ["bash", str(null.FOLDER / "run.sh")] if null.found() else []
    command = [*run, sys.executable, str(ROOT / "perf" / "launches.py"), "--count", method]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    found = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"{method} in {tree}: {found.stderr}")
    return int(json.loads(found.stdout.splitlines()[-1]))


def table(before: dict[str, int], now: dict[str, int], commit: str, what: str) -> str:
    lines = [
        "# Launches of a step",
        "",
        f"`python -m perf.launches --before {commit} --write docs/gpu_launches.md`, torch {torch.__version__}: what",
        f"one training step of resnet56 to resnet20, batch 64, asks the device for: {what}.",
        "",
        f"| method | {commit} | now | less by |",
        "| --- | ---: | ---: | ---: |",
    ]
    for method, count in now.items():
        earlier = before[method]
        lines.append(f"| {method} | {earlier} | {count} | {100 * (1 - count / earlier):.0f} % |")
    lines += [
        "",
        "Gone are, of SSKD's: the frozen teacher's biases, sums and ReLUs, which are in the convolution's own call;",
        "a cast of every weight and of every gradient; the batch norms' counters; the meter's sums, one by one; the",
        "ranking of predictions all of which are kept; tables that every step made anew. That the numbers are the same",
        "is tested.",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", metavar="COMMIT", help="also count at this commit")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    parser.add_argument("--count", metavar="METHOD", help=argparse.SUPPRESS)  # in the code that is imported
    options = parser.parse_args()
    if options.count:
        print(json.dumps(counted(options.count)))
        return
    from perf import null

    what = "kernels, and calls of cuDNN and cuBLAS (bf16, null GPU)"
    if not null.found():
        what = "operations that PyTorch dispatches (fp32, CPU)"
    now = {method: count_in(ROOT, method) for method in METHODS}
    print(f"now: {now}: {what}")
    if not options.before:
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", options.before], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        before = {method: count_in(Path(folder), method) for method in METHODS}
    print(f"{options.before}: {before}")
    if options.write:
        options.write.write_text(table(before, now, options.before, what))


if __name__ == "__main__":
    main()
