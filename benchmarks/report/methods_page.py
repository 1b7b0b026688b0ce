"""docs/methods.md, from the methods and their settings (``benchmarks.generated`` writes it)."""

import json
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.listing import short
from benchmarks.tables.modern import PAIRS
from sskd.errors import UserError
from sskd.methods import METHODS, Method, check_pair
from sskd.networks import feature_shapes
from sskd.runs.settings import method_settings, pair_tables, published_settings, published_table

USUAL = {"ce_weight": 1.0, "kd_weight": 0.0, "kd_temperature": 4.0, "divergence": "kl", "warmup_epochs": 0.0}
HEAD = """# Methods

Made by `python -m benchmarks.generated` from the methods and their settings; a test holds it to them.

A student's objective is ce_weight CE + kd_weight KL(kd_temperature) + the method's own terms, which are here. B
images, C classes, z logits, p(T) = softmax(z / T), s student, t teacher; KL(T) is T^2 times the mean over images of
KL(p_t(T) || p_s(T)). Own terms' weights rise from 0 in `warmup_epochs` of the full schedule.

Defaults are as published (`configs/methods.yaml`). Settings that differ from pair to pair (`configs/pairs`) hold
where a spec's teacher and student are that pair and the spec says nothing else; every spec shows what it has. Some
values bring others with them ("With ..."): `standardise` is logit standardisation (LSKD; Sun et al., CVPR 2024), in
tables "+LSKD", on the command line `+lskd`. Losses and gradients of every method are tested against golden values
(`tests/golden`).
"""


COST = Path(__file__).parents[2] / "docs" / "method_cost.json"  # what perf/method_steps.py has measured


def page() -> str:
    """The whole document."""
    cost = json.loads(COST.read_text(encoding="utf-8"))
    names = sorted(METHODS, key=lambda name: (METHODS[name].info.year, name))
    sections = [section(name, METHODS[name], cost["methods"]) for name in names]
    return "\n".join([HEAD, how_measured(cost), *sections, refusals(names)])


def how_measured(cost: dict[str, Any]) -> str:
    """Where the costs of a step are from."""
    kd = cost["methods"]["kd"]["milliseconds"]
    text = (
        f"What a step costs was measured on {cost['device']}, {cost['threads']} threads, torch {cost['torch']}, "
        f"{cost['precision']}, {cost['pair']}, batch {cost['batch_size']}, {cost['dataset']}: the main stage's step, "
        f"median of {cost['rounds']} interleaved turns of {cost['steps']} steps, {kd:.0f} ms with KD "
        "(`python -m perf.method_steps --write docs/method_cost.json`)."
    )
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def step_cost(name: str, methods: dict[str, Any]) -> str:
    """A method's step against KD's."""
    if name not in methods:
        return "not measured"
    of = methods[name]
    return f"{of['ratio_to_kd']:.2f} of KD's ({of['milliseconds']:.0f} ms, {of['lowest']:.0f} to {of['highest']:.0f})"


def section(name: str, kind: type[Method], costs: dict[str, Any]) -> str:
    """One method: what it is, its settings, its pairs, what it costs, and where paper and code part ways."""
    info = kind.info
    lines = [f"## {info.title} (`{name}`)", "", f"{info.paper}.", "", f"- Transfers: {info.transfers}."]
    lines.append(f"- Formula: {info.formula or 'see its file'}.")
    settings = method_settings(name).model_dump(exclude={"name"})
    shown = {key: value for key, value in settings.items() if USUAL.get(key) != value}
    lines.append(f"- Defaults: {_listed(shown)}.")
    lines += [f"- With {_choice(given)}: {_listed(more)}." for given, more in _choices(name)]
    needs = sorted(kind.needs) + ([f"a head ({kind.head_task or 'of a pretext task'})"] if kind.needs_head else [])
    lines.append(f"- Needs: {', '.join(needs)}. Stages: {', '.join(kind.stage_names)}.")
    lines.append(f"- A step costs: {step_cost(name, costs)}.")
    if info.differs:
        lines.append(f"- Paper and code: {info.differs}")
    return "\n".join([*lines, *_pairs(name)]) + "\n"


def _choices(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each setting's value that brings others with it, and these others."""
    plain = published_settings({"name": name})
    given = [{key: value} for key, values in published_table(name).get("when", {}).items() for value in values]
    return [(one, _changed(published_settings({"name": name} | one), plain)) for one in given]


def _pairs(name: str) -> list[str]:
    """A table of the pairs that have settings of their own, without and with what a choice brings."""
    rows = []
    for pair, entry in pair_tables(name).items():
        plain = {key: value for key, value in entry.items() if key != "when"}
        choices = [
            ({setting: value}, more)
            for setting, values in entry.get("when", {}).items()
            for value, more in values.items()
        ]
        for given, more in [({}, plain), *choices]:
            if more:
                rows.append(f"| {pair} | {_choice(given) or '-'} | {short(more)} |")
    return ["", "| pair | with | settings |", "| --- | --- | --- |", *rows] if rows else []


def _changed(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if usual.get(key) != value}


def _choice(given: dict[str, Any]) -> str:
    return ", ".join(f"`{key}: {str(value).lower()}`" for key, value in given.items())


def _listed(settings: dict[str, Any]) -> str:
    return short(settings) or "as every method's"


def refusals(names: list[str]) -> str:
    """Which of the paper's pairs a method cannot be used with, and why: said when a plan is made."""
    lines = ["## Pairs that a method refuses", "", "Of the eleven pairs of tables 3 and 4, when a plan is made:", ""]
    for name in names:
        for pair in PAIRS:
            teacher, student = map(feature_shapes, pair.split("/"))
            try:
                check_pair(method_settings(name), student, teacher)
            except UserError as error:
                lines.append(f"- {pair}: {error}.")
    return "\n".join(lines) + "\n"
