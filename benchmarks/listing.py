"""What there is to choose from: methods, networks, data sets, benchmarks, profiles, pretext tasks.

Importing what registers them takes seconds, as it needs torch. configs/catalogue.json keeps the lists, each with the
digest of the files that it follows from; where these have changed, or a plugin may add to them, they are made anew.
After such a change: python -m benchmarks.generated
"""

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

from sskd.places import CONFIGS, PACKAGE, config_names

CATALOGUE = CONFIGS / "catalogue.json"


def methods() -> list[dict[str, Any]]:
    """A row a method: where it is from, what it transfers, its published settings, needs and stages."""
    from sskd.methods import METHODS
    from sskd.runs.settings import method_settings

    rows = []
    for name in METHODS:
        kind = METHODS[name]
        settings = method_settings(name).model_dump(exclude={"name"})
        rows.append(
            {
                "name": name,
                "title": kind.info.title,
                "paper": kind.info.paper,
                "year": kind.info.year or None,
                "transfers": kind.info.transfers,
                "defaults": settings,
                "needs": sorted(kind.needs) + (["head"] if kind.needs_head else []),
                "stages": list(kind.stage_names),
            }
        )
    return rows


def methods_table() -> str:
    """The methods as README shows them, in Markdown. (A test holds README to it; docs/methods.md says more.)"""
    lines = ["| name | from | transfers | stages |", "| --- | --- | --- | --- |"]
    for row in methods():
        paper = row["paper"] if row["year"] is None else f"{row['paper'].split(',')[0]} {row['year']}"
        cells = [row["name"], paper, row["transfers"], short(row["stages"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _networks() -> list[dict[str, Any]]:
    from sskd.networks import NETWORKS, feature_shapes

    return [{"name": name, "features": feature_shapes(name).width} for name in NETWORKS]


def _benchmarks() -> list[dict[str, Any]]:
    from benchmarks.tables.benchmark import BENCHMARKS

    return [{"name": name, "title": BENCHMARKS[name].title} for name in BENCHMARKS]


def _profiles() -> list[dict[str, Any]]:
    from sskd.config.yaml import read_yaml

    names = config_names("profiles")
    return [{"name": name, "about": read_yaml(CONFIGS / "profiles" / f"{name}.yaml")["about"]} for name in names]


def _named(module: str, registry: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [{"name": name} for name in getattr(importlib.import_module(module), registry)]


LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "methods": methods,
    "networks": _networks,
    "datasets": _named("sskd.data.datasets.registry", "DATASETS"),
    "pretexts": _named("sskd.pretext", "PRETEXTS"),
    "transformations": _named("sskd.data.transformations", "TRANSFORMATIONS"),
    "optimizers": _named("sskd.optim", "OPTIMIZERS"),
    "schedules": _named("sskd.optim", "SCHEDULES"),
    "augmentations": _named("sskd.data.augmentations", "AUGMENTATIONS"),
    "benchmarks": _benchmarks,
    "profiles": _profiles,
}
KINDS = tuple(LISTS)
# the files that a list follows from, beside the package sskd; a folder stands for its Python files
SOURCES: dict[str, tuple[Path, ...]] = {
    "methods": (
        PACKAGE / "methods",
        PACKAGE / "config" / "settings.py",
        PACKAGE / "runs" / "settings.py",
        CONFIGS / "methods.yaml",
    ),
    "networks": (PACKAGE / "networks",),
    "datasets": (PACKAGE / "data" / "datasets",),
    "pretexts": (PACKAGE / "pretext",),
    "transformations": (PACKAGE / "data" / "transformations.py",),
    "optimizers": (PACKAGE / "optim.py",),
    "schedules": (PACKAGE / "optim.py",),
    "augmentations": (PACKAGE / "data" / "augmentations.py",),
    "benchmarks": (Path(__file__).parent / "tables",),
}


def digest(kind: str) -> str:
    """Of the files that the list follows from."""
    content = hashlib.sha256()
    for source in SOURCES[kind]:
        for file in sorted(source.glob("*.py")) if source.is_dir() else [source]:
            content.update(file.name.encode() + b"\0" + file.read_bytes())
    return content.hexdigest()


def catalogue() -> str:
    """What configs/catalogue.json is to hold: for each list the digest of its sources, and its rows."""
    return json.dumps({kind: {"digest": digest(kind), "rows": LISTS[kind]()} for kind in SOURCES}, indent=1) + "\n"


def rows_of(kind: str, *, with_plugins: bool = False) -> list[dict[str, Any]]:
    """The list, from the catalogue where that is of today's files and no plugin was loaded."""
    if kind in SOURCES and not with_plugins and CATALOGUE.exists():
        kept = json.loads(CATALOGUE.read_text(encoding="utf-8")).get(kind)
        if kept and kept["digest"] == digest(kind):
            rows: list[dict[str, Any]] = kept["rows"]
            return rows
    return LISTS[kind]()


def listing(kind: str, as_json: bool, *, with_plugins: bool = False) -> str:
    """The list as JSON, or an entry after the other, each wrapped to the terminal's width."""
    rows = rows_of(kind, with_plugins=with_plugins)
    if as_json:
        return json.dumps(rows, indent=1)
    width = shutil.get_terminal_size((120, 40)).columns  # where there is no terminal, as wide as the documents
    wrap = TextWrapper(max(width, 20), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill("  ".join(filter(None, map(short, row.values())))) for row in rows)


def short(value: Any) -> str:
    """A value in words: "key value, key value", or its parts by comma."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
