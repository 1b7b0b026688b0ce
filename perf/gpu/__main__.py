"""Command line of perf.gpu. Exit status: 0 all measured and good, 1 an item or a check failed, 2 invalid input, 3 out
of time (the same command resumes)."""

import argparse
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sskd.arguments import Parser

PARTS = ("machine", "steps", "parity", "exact", "rates", "cell")  # modules of this package, in order
# packages that the measurements need, by module; those that only benchmarks needs (pandas, submitit) are not among them
NEEDED = {name: name for name in ("torch", "torchvision", "numpy", "pydantic", "safetensors", "tensorboard", "rich")}
NEEDED |= {"PIL": "pillow", "yaml": "pyyaml"}


def main() -> int:
    parser = Parser(prog="python -m perf.gpu", description="Measures the trainer on a GPU.")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"), help="where cifar100.npz is")
    parser.add_argument("--out", type=Path, required=True, help="output folder; finished items in it are not repeated")
    parser.add_argument("--minutes", type=float, default=60.0, help="time after which no new item starts (default: 60)")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to measure, separated by commas")
    parser.add_argument(
        "--teacher", default="", metavar="FILE", help="weights of the cell's teacher; without it one is trained"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, cpu")
    parser.add_argument("--small", action="store_true", help="minimal sizes, only to test that everything runs")
    options = parser.parse_args()
    lacking = missing()
    if lacking:
        return _refuse(lacking)

    from sskd.errors import UserError

    try:
        return measure(options)
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("\nperf.gpu: interrupted; the same command resumes", file=sys.stderr)
        return 130


def missing() -> str:
    """Returns which packages are missing and how to install them, in one line; "" if none is missing."""
    packages = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if not packages:
        return ""
    names = " ".join(packages)
    return (
        f"this Python has no {', '.join(packages)}: pip install {names}; where there is no network, elsewhere "
        f"pip install --target gpu_packages {names}, then here PYTHONPATH=gpu_packages (docs/gpu.md)"
    )


def _refuse(message: str) -> int:
    print(f"perf.gpu: {message}", file=sys.stderr)
    return 2


def measure(options: argparse.Namespace) -> int:
    """Measures the missing items of the requested parts, and writes the report."""
    from perf import null
    from perf.gpu.items import Measurement, run_part
    from perf.gpu.report import write_report
    from perf.gpu.sizes import FULL, SMALL
    from sskd.config.execution import Execution
    from sskd.config.validation import from_dict
    from sskd.console.signals import ENDING, stop_signal
    from sskd.errors import UserError, unknown
    from sskd.runs.provenance import provenance
    from sskd.runtime.device import device_of

    parts = options.parts.split(",")
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    if options.teacher and not Path(options.teacher).is_file():
        raise UserError(f"there is no file {options.teacher} (--teacher)")
    execution: Execution = from_dict(Execution, {"device": options.device}, "options")
    device = device_of(execution)
    if device.type == "cpu" and not options.small:
        raise UserError("no GPU found; --device cpu --small tests everything on the CPU")
    if null.running():
        null.labels_on_the_host()
    until = time.monotonic() + 60 * options.minutes
    unfinished = []
    with stop_signal(*ENDING) as stop:
        measurement = Measurement(
            options.dataset_root.resolve(),
            options.out,
            device,
            SMALL if options.small else FULL,
            options.teacher,
            lambda: stop() or time.monotonic() > until,
        )
        session: dict[str, Any] = provenance(device)
        for part in parts:
            print(f"{part}:", flush=True)
            items = import_module(f"perf.gpu.{part}").items(measurement)
            if not run_part(part, items, measurement, session):
                unfinished.append(part)
    bad = write_report(options.out, PARTS)
    print(f"written to {(options.out / 'report.md').resolve()}")
    for line in bad:
        print(f"perf.gpu: {line}", file=sys.stderr)
    if unfinished:
        print(f"unfinished: {', '.join(unfinished)}; the same command resumes")
        return 3
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
