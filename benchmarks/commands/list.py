"""``run_all.py list``: prints the available methods, networks, data sets and so on."""

import argparse
import importlib
import json
import shutil
from collections.abc import Callable
from textwrap import TextWrapper
from typing import Any

from benchmarks.commands.request import Outcome, add_json, add_plugins, load_plugins
from sskd.paths import CONFIGS, config_names

EXAMPLE = "list methods"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=tuple(LISTS), metavar="KIND", help=", ".join(LISTS))
    add_plugins(parser)
    add_json(parser)


def act(options: argparse.Namespace) -> Outcome:
    load_plugins(options)
    print(listing(options.kind, options.json))
    return Outcome()


def methods() -> list[dict[str, Any]]:
    """Returns a row for each method: its paper, what it transfers, its published settings, needs and stages."""
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
                "needs": sorted(kind.required_features) + (["head"] if kind.needs_head else []),
                "stages": list(kind.stage_names),
            }
        )
    return rows


def _networks() -> list[dict[str, Any]]:
    from sskd.networks import NETWORKS, feature_shapes

    return [{"name": name, "features": feature_shapes(name).embed_dim} for name in NETWORKS]


def _benchmarks() -> list[dict[str, Any]]:
    from benchmarks.tables.benchmark import BENCHMARKS

    return [{"name": name, "title": BENCHMARKS[name].title} for name in BENCHMARKS]


def _profiles() -> list[dict[str, Any]]:
    from sskd.config.yaml import read_yaml

    names = config_names("profiles")
    return [{"name": name, "about": read_yaml(CONFIGS / "profiles" / f"{name}.yaml")["about"]} for name in names]


def _teachers() -> list[dict[str, Any]]:
    from benchmarks.profiles.teachers import rows

    return rows()


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
    "teachers": _teachers,
}


def listing(kind: str, as_json: bool) -> str:
    """Returns the list as JSON, or as text with one entry per paragraph, wrapped to the terminal's width."""
    rows = LISTS[kind]()
    if as_json:
        return json.dumps(rows, indent=1)
    width = shutil.get_terminal_size((120, 40)).columns  # without a terminal, the width of the documents
    wrap = TextWrapper(max(width, 20), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill("  ".join(short(value) for value in row.values() if value)) for row in rows)


def short(value: Any) -> str:
    """Formats a value: "key value, key value", or its items separated by commas."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
