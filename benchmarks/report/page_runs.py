"""A run on the page: a line, and its details."""

from typing import Any

import pandas as pd

from sskd.config.pretrained import FromFile
from sskd.formatting import duration
from sskd.runs.spec import RunSpec

MOST_TOLD = 1000  # maximum number of runs that the page shows with details
VERSIONS = ("python", "torch", "torchvision")
MOST_NAMED = 200  # maximum number of runs that a claim lists


def run_line(record: dict[str, Any], shared_machine: set[str]) -> dict[str, Any]:
    """Returns a line of the list of runs. Times are shown only for runs that did not share their machine."""
    alone = record["id"] not in shared_machine
    return {
        "id": record["id"],
        "state": record["state"],
        "best": _score(record, "best"),
        "last": _score(record, "last"),
        "time": duration(record["seconds"]) if alone and pd.notna(record.get("seconds")) else "",
    }


def run_entry(record: dict[str, Any], spec: RunSpec, shared_machine: set[str]) -> dict[str, Any]:
    """Returns a line of the list of runs and its details. shared_machine: ids of the runs that shared their machine."""
    known = {key: value for key, value in record.items() if not pd.isna(value)}
    facts = [("state", known["why"] or known["state"])]
    if known["state"] == "finished":
        alone = "" if known["id"] not in shared_machine else ", shared machine"
        facts += [
            ("time", duration(known["seconds"]) + alone),
            ("speed", f"{known['images_per_second']:.0f} images/s in the last epoch{alone}"),
            ("training images", f"{known['train_images']:.0f}"),
            ("parameters", f"{known['parameters']:,.0f}"),
            ("machine", f"{known.get('device', '?')} ({known.get('host', '?')}), {known.get('precision', '?')}"),
            ("driver", known.get("driver", "")),
            ("versions", ", ".join(f"{name} {known[name]}" for name in VERSIONS if name in known)),
            ("version", known.get("version", "")),
            ("commit", f"{known.get('commit', 'none')}{', with uncommitted changes' if known.get('dirty') else ''}"),
            ("finished", known.get("finished", "")),
            ("code", known["changed"]),
        ]
    return run_line(record, shared_machine) | {
        "facts": [(name, value) for name, value in facts if value],
        "spec": spec_lines(spec),
        "dependencies": [needed.id for needed in spec.dependencies],
    }


def _score(known: dict[str, Any], which: str) -> str:
    values = [value for kind in ("top1", "head_top1") if pd.notna(value := known.get(f"{which}_{kind}"))]
    return f"{values[0]:.2f}" if values else ""


def spec_lines(spec: RunSpec) -> list[tuple[str, str]]:
    """Returns (key, value) of the spec's settings that differ from the defaults; spec.yaml has the whole spec."""
    settings = spec.model_dump(mode="json", exclude_defaults=True, exclude={"teacher", "head"})
    if isinstance(spec.teacher, FromFile):
        settings["teacher"] = spec.teacher.model_dump(mode="json", exclude_defaults=True)
    (line,) = pd.json_normalize(settings).to_dict("records")
    return [(str(key), str(value)) for key, value in line.items()]
