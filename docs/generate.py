"""Writes what follows from the code in the documentation: docs/methods.md, docs/results_format.md and README's table of
methods. A test says when one of them is stale.

    python docs/generate.py
"""

import json
import re
import textwrap
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.analysis.comparability import Entry, Refusal
from benchmarks.commands.list import methods, short
from benchmarks.records.merge import Source
from benchmarks.report.schema import FILES
from benchmarks.tables.modern import PAIRS
from sskd.errors import UserError
from sskd.methods import METHODS, Method, check_pair
from sskd.networks import feature_shapes
from sskd.runs.records import SCHEMA, Epoch, ExecutedAs, Machine, MeasuredWith
from sskd.runs.settings import method_settings, pair_tables, published_settings, published_table

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
LOOP = DOCS / "your_own_loop.md"
COST = DOCS / "method_cost.json"  # what perf/method_steps.py has measured
# what a method's section does not repeat
USUAL = {"ce_weight": 1.0, "kd_weight": 0.0, "kd_temperature": 4.0, "divergence": "kl", "warmup_epochs": 0.0}
OF_THE_SUITE = ("fcfd", "hsakd", "ofd")  # methods that ask more of a network than hooks can tell
PARTS = (Epoch, Machine, MeasuredWith, ExecutedAs, Source, Entry, Refusal)  # what these hold
METHODS_HEAD = """# Methods

Made by `python docs/generate.py` from the methods and their settings; a test holds it to them.

A student's objective is ce_weight CE + kd_weight KL(kd_temperature) + the method's own terms, which are here. B
images, C classes, z logits, p(T) = softmax(z / T), s student, t teacher; KL(T) is T^2 times the mean over images of
KL(p_t(T) || p_s(T)). Own terms' weights rise from 0 in `warmup_epochs` of the full schedule.

Defaults are as published (`configs/methods.yaml`). Settings that differ from pair to pair (`configs/pairs`) hold
where a spec's teacher and student are that pair and the spec says nothing else; every spec shows what it has. Some
values bring others with them ("With ..."): `standardise` is logit standardisation (LSKD; Sun et al., CVPR 2024), in
tables "+LSKD", on the command line `+lskd`. Losses and gradients of every method are tested against golden values
(`tests/golden`).
"""
FORMAT_HEAD = f"""# What a results folder holds

Made by `python docs/generate.py` from the types that reports read these files by; a test holds it to them, and
reads the committed results by them. This is version {SCHEMA}: files name it
under `schema`. A file without it is of before, and is read all the same: keys that were added since may be absent, and
what is not recorded is not held against a run. A file of a newer version is refused with a line that says so. The same
as JSON schema is in every report's folder, in `schema.json`.

`results/<profile>/` has a report (a table as `.md`, `.csv`, `.tex`, figures, `claims.md`, `claims.csv`, `runs.csv`,
`parts.csv`, `curves.csv`, `spent.csv`, `spent.md`, `card.md`, `card.json`, `schema.json`, `index.html`)
and `runs/<id>/`, a folder for each run: `spec.yaml`
(all that the run is; `run_all.py explain KEY` tells what a key means), `result.json`, `metrics.jsonl` (a line an
epoch), `network.json`, `best.safetensors`, `last.safetensors`, and of merged results `who.json`. A run's id is the hash
of its spec. What submissions hold besides: [verify.md](verify.md).
"""


def generated() -> dict[Path, str]:
    """Returns each file and its content. Of README only the table of methods changes."""
    readme = README.read_text(encoding="utf-8")
    table = re.compile(r"^\| name \| from \|.*\n(\|.*\n)*", re.MULTILINE)
    return {
        README: table.sub(lambda _: methods_table(), readme),
        LOOP: loop_page(LOOP.read_text(encoding="utf-8")),
        DOCS / "methods.md": methods_page(),
        DOCS / "results_format.md": results_format(),
    }


def methods_table() -> str:
    """Returns the methods as README shows them, in Markdown."""
    lines = ["| name | from | transfers | stages |", "| --- | --- | --- | --- |"]
    for row in methods():
        paper = row["paper"] if row["year"] is None else f"{row['paper'].split(',')[0]} {row['year']}"
        cells = [row["name"], paper, row["transfers"], short(row["stages"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def loop_page(page: str) -> str:
    """docs/your_own_loop.md with its example as the file has it, and its table as the methods declare it."""
    example = (DOCS / "examples" / "plain_pytorch.py").read_text(encoding="utf-8")
    page = re.sub(r"(?<=# plain_pytorch.py\n).*?(?=```)", lambda _: example, page, count=1, flags=re.DOTALL)
    return re.sub(r"^\| method \| positions.*\n(\|.*\n)*", lambda _: needs_table(), page, flags=re.MULTILINE)


def needs_table() -> str:
    """What each method needs of a loop of one's own, in Markdown."""
    lines = ["| method | positions | maps | views | head | before |", "| --- | --- | --- | --- | --- | --- |"]
    for name in METHODS:
        kind = METHODS[name]
        maps = "before ReLU" if "preactivations" in kind.needs else "yes" if "taps" in kind.needs else ""
        maps = "suite" if name in OF_THE_SUITE else "pooled" if "final" in kind.needs else maps
        before = ["stages"] * (kind.initial_stages is not Method.initial_stages) + ["study"] * bool(kind.studies)
        before += ["optimiser"] * (kind.optimizer is not Method.optimizer)
        cells = [
            f"`{name}`",
            "yes" if "indices" in kind.needs else "",
            maps,
            str(kind.views_per_image) if kind.views_per_image > 1 else "",
            (kind.head_task or "yes") if kind.needs_head else "",
            ", ".join(before),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """docs/methods.md, from the methods and their settings."""
    cost = json.loads(COST.read_text(encoding="utf-8"))
    names = sorted(METHODS, key=lambda name: (METHODS[name].info.year, name))
    sections = [section(name, METHODS[name], cost["methods"]) for name in names]
    return "\n".join([METHODS_HEAD, how_measured(cost), *sections, refusals(names)])


def how_measured(cost: dict[str, Any]) -> str:
    """Returns how the costs of a step were measured."""
    kd = cost["methods"]["kd"]["milliseconds"]
    text = (
        f"What a step costs was measured on {cost['device']}, {cost['threads']} threads, torch {cost['torch']}, "
        f"{cost['precision']}, {cost['pair']}, batch {cost['batch_size']}, {cost['dataset']}: the main stage's step, "
        f"median of {cost['rounds']} interleaved turns of {cost['steps']} steps, {kd:.0f} ms with KD "
        "(`python -m perf.method_steps --write docs/method_cost.json`)."
    )
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def step_cost(name: str, methods: dict[str, Any]) -> str:
    """Returns the cost of a method's step against KD's."""
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
    """Returns each setting's value that brings others with it, and these others."""
    plain = published_settings({"name": name})
    given = [{key: value} for key, values in published_table(name).get("when", {}).items() for value in values]
    return [(one, _changed(published_settings({"name": name} | one), plain)) for one in given]


def _pairs(name: str) -> list[str]:
    """Returns a table of the pairs that have settings of their own, without and with what a choice brings."""
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
    """Returns the paper's pairs that a method cannot be used with, and why: said when a plan is made."""
    lines = ["## Pairs that a method refuses", "", "Of the eleven pairs of tables 3 and 4, when a plan is made:", ""]
    for name in names:
        for pair in PAIRS:
            teacher, student = map(feature_shapes, pair.split("/"))
            try:
                check_pair(method_settings(name), student, teacher)
            except UserError as error:
                lines.append(f"- {pair}: {error}.")
    return "\n".join(lines) + "\n"


def results_format() -> str:
    """docs/results_format.md, from the types that reports read the files by."""
    parts = [_table(f"`{path}`", model) for path, model in FILES.items()]
    parts += [_table(f"{model.__name__}, a part of these", model) for model in PARTS]
    return "\n".join([FORMAT_HEAD, *parts])


def _table(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", "| key | type | meaning |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        shown = _type(field.annotation).replace("|", "or")
        lines.append(f"| {field.alias or name} | {shown}{'' if field.is_required() else ', or absent'} | {meaning} |")
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    """Returns a type as people write it: "float", "dict of str to int", "Epoch"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " | ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"dict of {_type(arguments[0])} to {_type(arguments[1])}"
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    kinds = [_type(each) for each in arguments if each is not type(None)]
    return " | ".join(kinds) if kinds else getattr(annotation, "__name__", str(annotation))


if __name__ == "__main__":
    for file, content in generated().items():
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            file.write_text(content, encoding="utf-8")
            print(f"written: {file.name}")
