"""Items of a part: measured one after another, each stored immediately and not measured again."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from perf import null
from perf.cases import Cases
from perf.gpu.sizes import Sizes
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.files import write_json

PART_SECONDS = 570.0  # time limit of a part per start

Items = Mapping[str, Callable[[], dict[str, Any]]]


class Measurement(NamedTuple):
    """Conditions of a measurement, and its time limit."""

    root: Path  # folder of the data sets
    out: Path
    device: torch.device
    sizes: Sizes
    teacher: str  # weights file; "": the cell trains its own teacher
    time_is_up: Callable[[], bool]

    @property
    def computes(self) -> bool:
        """Returns False on the null GPU, where checks of computed values are meaningless."""
        return self.device.type != "cuda" or not null.running()

    def execution(self, graphs: str = "auto", deterministic: bool = False) -> Execution:
        """Returns the execution settings; ``graphs``: auto, on or off, as in execution.graphs."""
        given = {"graphs": graphs, "deterministic": deterministic}
        return Execution.model_validate({"dataset_root": str(self.root), "device": str(self.device), **given})

    def cases(self, runs: Path) -> Cases:
        """Returns the makers of specs of these sizes, with their untrained networks in the folder ``runs``."""
        sizes = self.sizes
        return Cases(runs, self.root, sizes.pair, sizes.batch, sizes.negatives)

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings that results depend on; results with different settings are never mixed."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return json.loads(json.dumps({"device": name, "teacher": self.teacher, **self.sizes._asdict()}))


def read_part(out: Path, part: str) -> dict[str, Any]:
    """Reads a part's file: settings, sessions (machine and code of each start), items."""
    path = out / f"{part}.json"
    if not path.exists():
        return {"sessions": [], "items": {}}
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it to measure the part again") from None
    return data


def run_part(part: str, items: Items, measurement: Measurement, session: dict[str, Any]) -> bool:
    """Measures the missing and previously failed items while there is time. Returns True if the part is finished."""
    known = read_part(measurement.out, part)
    if known.setdefault("settings", measurement.settings) != measurement.settings:
        raise UserError(
            f"{measurement.out / part}.json was measured with other settings or on another device: choose another --out"
        )
    until = time.monotonic() + PART_SECONDS
    measurement.out.mkdir(parents=True, exist_ok=True)
    todo = sorted((name for name in items if _undone(known, name)), key=lambda name: name in known["items"])
    for name in todo:  # previously failed items come last
        if measurement.time_is_up() or (part != "cell" and time.monotonic() > until):
            return False
        started = time.perf_counter()
        found = _attempt(items[name], measurement.device)
        known["items"][name] = found | {"seconds": round(time.perf_counter() - started, 1)}
        if session not in known["sessions"]:
            known["sessions"].append(session)
        write_json(measurement.out / f"{part}.json", known)
        print(f"  {part}, {name}: {found.get('error') or found.get('text', 'done')}", flush=True)
        _refuse_broken(measurement.device)
    return not any(found.get("unfinished") for found in known["items"].values())


def _undone(known: dict[str, Any], name: str) -> bool:
    found = known["items"].get(name, {"unfinished": True})
    return "error" in found or found.get("unfinished", False)


def _attempt(item: Callable[[], dict[str, Any]], device: torch.device) -> dict[str, Any]:
    try:
        return item()
    except Exception as error:  # an item may fail in any way; the others are still measured
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/sskd/" in f.filename]
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {lines[0] if lines else ''}{place}"}
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _refuse_broken(device: torch.device) -> None:
    """Checks the CUDA context. Some CUDA errors (for example an illegal memory access) make it unusable: raises
    UserError, so that the user restarts the process."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError as error:
            raise UserError(
                f"the GPU does not respond ({str(error).splitlines()[0]}); the same command resumes with the next item"
            ) from None
