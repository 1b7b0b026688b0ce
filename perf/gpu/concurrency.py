"""Measures several processes that train on one GPU in parallel, with MPS if available: total images/s.

python -m perf.gpu.concurrency SETTINGS.json        one of the processes, started by the measurement
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from perf.cases import Case
from perf.gpu.items import Measurement
from perf.gpu.sizes import Sizes
from perf.steps import begin, stepper
from sskd.mps import sharing

READY = "ready"


def run_concurrently(runs: int, graph: bool, measurement: Measurement) -> dict[str, Any]:
    """Runs steps of SSKD's student in bf16 in ``runs`` processes, for some seconds after all are ready."""
    sizes, device = measurement.sizes, measurement.device
    settings = {
        "root": str(measurement.root.resolve()),
        "device": device.type,  # each process sees one GPU
        "graph": graph,
        "sizes": sizes._asdict(),
    }
    said: list[str] = []
    number, visible = device.index or 0, os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = [(visible.split(",")[number] if visible else str(number),)] * runs
    with (
        tempfile.TemporaryDirectory() as folder,
        sharing(gpus if device.type == "cuda" else [], measurement.out / "mps", said.append) as shared,
    ):
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        environment = {**os.environ, **shared.environment}
        if device.type == "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = shared.visible(gpus[0])[0]
        command = [sys.executable, "-m", "perf.gpu.concurrency", str(path)]
        piped: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "errors": "replace"}
        processes = [subprocess.Popen(command, env=environment, **piped) for _ in range(runs)]
        try:
            for process in processes:
                assert process.stdout
                if process.stdout.readline().strip() != READY:
                    raise RuntimeError(f"one of {runs} processes ended before it was ready; its output is above")
            for process in processes:
                assert process.stdin
                process.stdin.write("go\n")
                process.stdin.flush()
            results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    rates = [result["images_per_second"] for result in results]
    return {
        "runs": runs,
        "images_per_second": sum(rates),
        "each": rates,
        "peak_mb": max(result["peak_mb"] for result in results),
        "mps": bool(shared.environment),
        "said": said,
        "text": f"{sum(rates):.0f} images/s in total{', with MPS' if shared.environment else ''}",
    }


def main() -> None:
    """Trains until the given time is over, and prints the images/s."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sizes, device = Sizes(**settings["sizes"]), torch.device(settings["device"])
    measurement = Measurement(Path(settings["root"]), Path(), device, sizes, "", lambda: False)
    with tempfile.TemporaryDirectory() as folder:
        cases, execution = measurement.cases(Path(folder)), measurement.execution("on" if settings["graph"] else "off")
        step = stepper(begin(cases.spec(Case("student", "sskd"), "bf16"), cases.runs, execution))
        for _ in range(sizes.warmup):
            step()
        _wait(device)
        print(READY, flush=True)
        sys.stdin.readline()
        started, steps = time.perf_counter(), 0
        while time.perf_counter() < started + sizes.parallel_seconds:
            for _ in range(sizes.steps):  # queues several steps, so that the host does not synchronise after each
                step()
            _wait(device)
            steps += sizes.steps
        seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_reserved(device) >> 20 if device.type == "cuda" else 0
    print(json.dumps({"images_per_second": steps * sizes.batch / seconds, "peak_mb": peak}))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
