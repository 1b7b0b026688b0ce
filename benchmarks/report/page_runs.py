"""A run as the page shows it: a line, and what it opens to."""

from typing import Any

import pandas as pd

from sskd.config.pretrained import Pretrained
from sskd.runs.spec import RunSpec
from sskd.training.words import duration


def run_entry(record: dict[str, Any], spec: RunSpec) -> dict[str, Any]:
    """A line of the list of runs, and what it opens to."""
    known = {key: value for key, value in record.items() if not pd.isna(value)}
    facts = [("state", known["why"] or known["state"])]
    if known["state"] == "finished":
        facts += [
            ("time", duration(known["seconds"])),
            ("speed", f"{known['images_per_second']:.0f} images/s in the last epoch"),
            ("training images", f"{known['train_images']:.0f}"),
            ("parameters", f"{known['parameters']:,.0f}"),
            ("machine", f"{known.get('device', '?')} ({known.get('host', '?')}), {known.get('precision', '?')}"),
            ("driver", known.get("driver", "")),
            ("versions", _versions(known)),
            ("version", known.get("version", "")),
            ("commit", f"{known.get('commit', 'none')}{', with uncommitted changes' if known.get('dirty') else ''}"),
            ("finished", known.get("finished", "")),
            ("code", known["changed"]),
        ]
    return {
        "id": known["id"],
        "state": known["state"],
        "best": _score(known, "best"),
        "last": _score(known, "last"),
        "time": duration(known["seconds"]) if "seconds" in known else "",
        "facts": [(name, value) for name, value in facts if value],
        "spec": spec_lines(spec),
        "needs": [needed.id for needed in spec.needs],
    }


def _score(known: dict[str, Any], which: str) -> str:
    value = known.get(f"{which}_top1", known.get(f"{which}_head_top1"))
    return "" if value is None else f"{value:.2f}"


def _versions(known: dict[str, Any]) -> str:
    names = (("Python", "python"), ("torch", "torch"), ("torchvision", "torchvision"))
    return ", ".join(f"{title} {known[key]}" for title, key in names if key in known)


def spec_lines(spec: RunSpec) -> list[tuple[str, str]]:
    """What the spec says beside defaults, by the key that ``--set`` would change; the whole of it is in spec.yaml."""

    def flat(prefix: str, value: Any) -> list[tuple[str, str]]:
        if isinstance(value, dict):
            return [line for key, item in value.items() for line in flat(f"{prefix}.{key}" if prefix else key, item)]
        return [(prefix, str(value))]

    lines = flat("", spec.model_dump(mode="json", exclude_defaults=True, exclude={"teacher", "head"}))
    if isinstance(spec.teacher, Pretrained):
        lines += flat("teacher", spec.teacher.model_dump(mode="json", exclude_defaults=True))
    return lines
