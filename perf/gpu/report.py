"""Writes OUT/report.md from the parts' files only."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.gpu.items import read_part
from sskd.formatting import markdown_table

Found = dict[str, Any]
NULL = "null GPU"  # device name of the null GPU
GRAPH = ("contestants", "graph bf16")
# goals for resnet56/resnet20 on an H100: goal, part, item, keys of the number and its unit, lowest and highest value
AIMS: tuple[tuple[str, str, str, tuple[str, ...], float, float, float], ...] = (
    ("SSKD step as one graph, bf16: at most 3.5 ms", "rates", "student, sskd", (*GRAPH, "milliseconds"), 1, 0, 3.5),
    ("at least 10 times the plain loop's images/s", "rates", "student, sskd", (*GRAPH, "times_plain"), 1, 10, math.inf),
    ("SSKD student, 240 epochs: at most 12 minutes", "cell", "student sskd", ("training_seconds",), 60, 0, 12),
    ("its top-1 within 0.5 of 70.9 to 71.5", "cell", "student sskd", ("last", "test_top1"), 1, 70.4, 72.0),
)


def write_report(out: Path, parts: Sequence[str]) -> list[str]:
    """Writes the report. Returns a line for each failed item and each failed check."""
    known = {part: read_part(out, part) for part in parts}
    bad = [
        f"{part}, {name}: {found.get('error') or found['text']}"
        for part, data in known.items()
        for name, found in data["items"].items()
        if "error" in found or found.get("good") is False
    ]
    texts = ["# Measurements of perf.gpu", _about(known)]
    for part, data in known.items():
        good = {name: found for name, found in data["items"].items() if "error" not in found}
        if good:
            texts.append(f"## {TITLES[part]}\n\n{SECTIONS.get(part, _texts)(good)}")
    aims = _aims(known)
    if aims:
        texts.insert(2, f"## Goals\n\n{aims}")
    if bad:
        texts.append("## Failures\n\n" + "\n".join(f"- {line}" for line in bad))
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text("\n\n".join(text.rstrip("\n") for text in texts) + "\n", encoding="utf-8")
    return bad


def _about(known: dict[str, Found]) -> str:
    """Describes the machines and the code of the measurements."""
    lines = []
    sessions: dict[str, list[str]] = {}
    for part, data in known.items():
        for session in data["sessions"]:
            code = f"{session.get('commit') or 'no commit'}{' with changes' if session.get('dirty') else ''}"
            what = f"{session['device']}, driver {session['driver']}, torch {session['torch']}, {code}"
            sessions.setdefault(what, []).append(part)
    lines += [f"- {', '.join(dict.fromkeys(parts))}: {what}" for what, parts in sessions.items()]
    settings: Found = next((data["settings"] for data in known.values() if "settings" in data), {})
    lines.append(f"- {settings.get('pair')}, batch {settings.get('batch')}; medians of {settings.get('rounds')} rounds")
    if any(NULL in what for what in sessions):
        lines.append(
            "- **Measured on a stub CUDA library without a GPU. It computes nothing: all numbers are meaningless.**"
        )
    elif settings.get("device") == "CPU":
        lines.append(
            "- **Measured on the CPU with minimal sizes, as a test of the command: the numbers are meaningless.**"
        )
    absent = [part for part, data in known.items() if not data["items"]]
    if absent:
        lines.append(f"- not measured: {', '.join(absent)}")
    return "\n".join(lines)


def _aims(known: dict[str, Found]) -> str:
    """Returns a table of the goals that can be judged."""
    rows = []
    if known["machine"].get("settings", {}).get("pair") != "resnet56/resnet20":
        return ""
    for goal, part, item, keys, unit, lowest, highest in AIMS:
        for name, found in known[part]["items"].items():
            if item in (name, f"{found.get('role')} {found.get('method')}"):
                value: Any = found
                for key in keys:
                    value = value.get(key, {})  # absent if the item failed or is not finished
                if value:
                    measured = value / unit
                    rows.append([goal, f"{measured:.2f}", "yes" if lowest <= measured <= highest else "no"])
    return markdown_table(["goal on an H100", "measured", "met"], rows) if rows else ""


def _texts(items: dict[str, Found]) -> str:
    return markdown_table(["what", "measured"], [[name, found["text"]] for name, found in items.items()])


def _rates(items: dict[str, Found]) -> str:
    rows = [
        [
            name,
            variant,
            f"{result['milliseconds']:.2f}",
            f"{min(result['turns']):.2f} to {max(result['turns']):.2f}",
            f"{result['images_per_second']:.0f}",
            f"{result['times_plain']:.2f}" if "times_plain" in result else "-",
        ]
        for name, found in items.items()
        for variant, result in found.get("contestants", {}).items()
    ]
    text = (
        markdown_table(["step", "variant", "ms", "lowest to highest", "images/s", "times plain"], rows) if rows else ""
    )
    several = {name: found for name, found in items.items() if "runs" in found}
    if several:
        more = [
            [name, f"{found['images_per_second']:.0f}", found["peak_mb"], "yes" if found["mps"] else "no"]
            for name, found in several.items()
        ]
        text += "\nSSKD's student in bf16, several runs on one device in parallel:\n\n"
        text += markdown_table(["runs", "total images/s", "memory per run, MB", "MPS"], more)
    return text


def _cell(items: dict[str, Found]) -> str:
    rows = []
    for name, found in items.items():
        if found.get("unfinished"):
            rows.append([name, "-", "-", "-", found["text"]])
            continue
        top1 = [row.get("test_top1", row.get("test_head_top1", float("nan"))) for row in (found["best"], found["last"])]
        minutes = f"{found['training_seconds'] / 60:.1f}"
        rows.append([name, f"{top1[0]:.2f}", f"{top1[1]:.2f}", minutes, f"{found['epochs']} epochs"])
    return markdown_table(["run", "best top-1", "last top-1", "minutes", "state"], rows)


TITLES = {
    "machine": "The device",
    "steps": "Syncs and captures",
    "parity": "Parity of device and CPU: relative differences in float32, from the same weights on the same batches",
    "exact": "Graphs and resumed runs, bit for bit",
    "rates": "Speed",
    "cell": "A cell of table 3",
}
SECTIONS = {"rates": _rates, "cell": _cell}
