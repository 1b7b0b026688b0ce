"""Writes what follows from the code in the documentation: docs/methods.md, docs/results_format.md and two tables of
README. A test says when one of them is stale.

    python docs/generate.py
"""

import json
import re
import textwrap
import typing
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from benchmarks.analysis.comparability import ComparedItem, Exclusion
from benchmarks.commands.list import short
from benchmarks.records.merge import Source
from benchmarks.report.schema import FILES
from benchmarks.tables.modern import PAIRS
from sskd.errors import UserError
from sskd.formatting import markdown_table
from sskd.methods import METHODS, Method, check_pair
from sskd.networks import feature_shapes
from sskd.runs.records import SCHEMA, Epoch, ExecutedAs, Machine, MeasuredWith
from sskd.runs.settings import method_settings, pair_tables, published_settings, published_table

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
LOOP = DOCS / "your_own_loop.md"
MEASURED = DOCS.parent / "results" / "miniature" / "table3.csv"  # README shows the pair that was trained
COST = DOCS / "method_cost.json"  # what perf/method_steps.py has measured
# what a method's section does not repeat
USUAL = {"ce_weight": 1.0, "kd_weight": 0.0, "kd_temperature": 4.0, "divergence": "kl", "warmup_epochs": 0.0}
OF_THE_SUITE = ("fcfd", "hsakd", "ofd")  # methods that ask more of a network than hooks can tell
PARTS = (Epoch, Machine, MeasuredWith, ExecutedAs, Source, ComparedItem, Exclusion)  # what these hold
FAMILIES = {  # the heading of each family of methods, and what its methods have in common
    "logits": ("Logits", "The student learns the teacher's predictions."),
    "feature maps": ("Feature maps", "The student learns the teacher's maps, or its pooled features."),
    "relations": ("Relations", "The student learns how images of a batch, or layers, relate to each other."),
    "contrast": ("Contrast", "The student's embedding of an image is distinguished from embeddings of other images."),
    "self-supervision": (
        "Self-supervision",
        "The student also learns the teacher's answers to a self-supervised task.",
    ),
    "control": ("Controls", "Methods whose result is known: they show what the measurement itself does."),
}
METHODS_HEAD = r"""# Methods

This page is written by `python docs/generate.py` from the code; a test checks that it is up to date.

The loss of a student, with the settings `ce_weight`, `kd_weight` and `kd_temperature`, is

$$w_{ce} \mathrm{CE}(y, p^s) + w_{kd} T^2 \left\langle \mathrm{KL}(p^t_T \Vert p^s_T) \right\rangle + L$$

The formulas below are the method's own terms $L$ with their weights ($w$ is the setting `weight` unless the text
names another). These weights rise from 0 over `warmup_epochs`.

| symbol | meaning |
| --- | --- |
| $s$, $t$ | student and teacher (upper indices) |
| $B$, $C$ | images in a batch, classes |
| $y$, $z$ | label, logits |
| $p_T$, $p$ | $\operatorname{softmax}(z / T)$, and the same at $T = 1$ |
| $f_l$ | feature maps at level $l$; sums over $l$ run over all maps but the first, up to $L$ |
| $g_l$ | maps before their ReLU |
| $F$, $v$ | the map that is pooled, the pooled features |
| $\langle \cdot \rangle$ | mean over the images of a batch |
| $\mathrm{MSE}(a, b)$ | mean squared difference of all entries |

Where maps of student and teacher differ in size, the larger is average-pooled to the smaller. Default settings are the
published ones (`configs/methods.yaml`; `configs/pairs` for single pairs); settings of a spec override both. On the
command line, `NAME+kd` adds KD to a method and `NAME+lskd` standardises logits. Losses and gradients of all methods are
tested against golden values (`tests/golden`).
"""
FORMAT_HEAD = f"""# Files of a results folder

This page is written by `python docs/generate.py` from the types that reports use to read the files. It describes
version {SCHEMA}, which files name under `schema`. Files without `schema` are older; they can still be read. Keys added
later may be missing, and missing values never disqualify a run. Files of a newer version are rejected with a message.
Every report folder has the same description as JSON schema (`schema.json`).

`results/<profile>/` holds a report (tables as `.md`, `.csv` and `.tex`, figures, `claims.*`, `runs.csv`, `parts.csv`,
`curves.csv`, `spent.*`, `card.md`, `card.json`, `index.html`) and `runs/<id>/`, a folder for each run: `spec.yaml` (the
definition of the run, whose hash is the id; `run_all.py explain KEY` explains a key), `result.json`, `metrics.jsonl` (a
line per epoch), `network.json`, `best.safetensors`, `last.safetensors`, `ema.safetensors` (with `recipe.ema`),
and `who.json` in merged results. Submissions:
[verify.md](verify.md).
"""


def generated() -> dict[Path, str]:
    """Returns each file and its content. Of README only the two tables change."""
    readme = README.read_text(encoding="utf-8")
    for table in (results_table(), methods_table()):
        readme = re.sub(rf"^{re.escape(table.splitlines()[0])}\n(\|.*\n)*", lambda _: table, readme, flags=re.MULTILINE)  # noqa: B023
    return {
        README: readme,
        LOOP: loop_page(LOOP.read_text(encoding="utf-8")),
        DOCS / "methods.md": methods_page(),
        DOCS / "results_format.md": results_format(),
    }


def results_table() -> str:
    """Returns the accuracies of one pair of table 3 as README shows them, in Markdown."""
    rows = []
    table = pd.read_csv(MEASURED)
    for row in table[table["column"] == "resnet20/resnet8 for vgg13/vgg8"].to_dict("records"):
        last, paper, other = row["last mean"], row["best paper"], row["best other protocol"]
        spread = "" if pd.isna(row["last sd"]) else f"±{row['last sd']:.2f}"
        published = f"{other:.2f}*" if pd.isna(paper) else f"{paper:.2f}"
        rows.append((row["row"], row["seeds"], f"{row['best mean']:.2f}", f"{last:.2f}{spread}", published))
    return markdown_table(("method", "seeds", "best", "last", "paper"), rows)


def methods_table() -> str:
    """Returns the methods by family as README shows them, in Markdown."""
    rows = []
    for family, names in by_family().items():
        for number, name in enumerate(names):
            info = METHODS[name].info
            paper = f"[{info.paper.split(',')[0]} {info.year}]({info.url})" if info.url else info.paper
            rows.append(("" if number else FAMILIES[family][0], f"`{name}`", paper, info.transfers))
    return markdown_table(("family", "name", "paper", "what is transferred"), rows)


def by_family() -> dict[str, list[str]]:
    """Returns the names of each family's methods, the oldest first."""
    names = sorted(METHODS, key=lambda name: (METHODS[name].info.year, name))
    return {family: [name for name in names if METHODS[name].info.family == family] for family in FAMILIES}


def loop_page(page: str) -> str:
    """docs/your_own_loop.md with its examples as the files have them, and its table as the methods declare it."""
    for file in (DOCS / "examples").glob("*.py"):
        example = file.read_text(encoding="utf-8")
        page = re.sub(rf"(?<=# {file.name}\n).*?(?=```)", lambda _: example, page, count=1, flags=re.DOTALL)  # noqa: B023
    return re.sub(r"^\| need \| methods.*\n(\|.*\n)*", lambda _: needs_table(), page, flags=re.MULTILINE)


def needs_table() -> str:
    """Returns what methods require from the user's own training loop, and which methods do, as Markdown."""
    rows: dict[str, list[str]] = {}
    for name, kind in ((name, METHODS[name]) for name in METHODS):
        features = {"suite"} if name in OF_THE_SUITE else kind.required_features
        needs = {
            "positions": "indices" in kind.required_features,
            "maps": "feature_maps" in features and "preactivations" not in features,
            "maps before their ReLU": "preactivations" in features,
            "map that is pooled": "pre_pool" in features,
            "networks of the suite": "suite" in features,
            "views": kind.views_per_image > 1,
            "head": kind.needs_head,
            "stages": kind.initial_stages is not Method.initial_stages,
            "study": bool(kind.studies),
            "optimiser": kind.optimizer is not Method.optimizer,
        }
        for need, needed in needs.items():
            rows.setdefault(need, []).extend([f"`{name}`"] * needed)
    return markdown_table(("need", "methods"), [(need, ", ".join(names)) for need, names in rows.items()])


def methods_page() -> str:
    """docs/methods.md, from the methods and their settings."""
    parts = [METHODS_HEAD]
    for family, names in by_family().items():
        title, about = FAMILIES[family]
        drawing = f"families/{family.replace(' ', '-')}.svg"
        picture = f"\n![{title}: what goes from teacher to student]({drawing})\n" if (DOCS / drawing).is_file() else ""
        parts += [f"## {title}\n\n{about}\n{picture}", *(section(name, METHODS[name]) for name in names)]
    cost = json.loads(COST.read_text(encoding="utf-8"))
    return "\n".join([*parts, step_times(cost), refusals(list(METHODS))])


def step_times(cost: dict[str, Any]) -> str:
    """Returns the time of a step of each measured method, relative to KD's, in Markdown."""
    measured = (
        f"Main stage, {cost['pair']}, batch {cost['batch_size']}, {cost['dataset']}, {cost['precision']}, on "
        f"{cost['device']}, {cost['threads']} threads, torch {cost['torch']}: median of {cost['rounds']} interleaved "
        f"rounds of {cost['steps']} steps (`python -m perf.method_steps --write docs/method_cost.json`)."
    )
    rows = []
    for name, of in cost["methods"].items():
        spread = f"{of['lowest']:.0f} to {of['highest']:.0f}"
        rows.append((f"`{name}`", f"{of['ratio_to_kd']:.2f}", f"{of['milliseconds']:.0f}", spread))
    table = markdown_table(("method", "relative to KD", "ms", "range"), rows, numbers=(1, 2))
    return f"## Time of a training step\n\n{textwrap.fill(measured, 118, break_on_hyphens=False)}\n\n{table}"


def section(name: str, kind: type[Method]) -> str:
    """One method: its formula, settings and pairs, and how paper and code differ."""
    info = kind.info
    links = ", ".join(f"[{word}]({url})" for word, url in (("paper", info.url), ("code", info.code)) if url)
    lines = [f"### {info.title} (`{name}`)", "", f"{info.paper}{f' ({links})' if links else ''}.", ""]
    lines += [f"$${info.formula}$$", "", *([info.where, ""] if info.where else [])]
    lines.append(f"- Transfers: {info.transfers}.")
    settings = method_settings(name).model_dump(exclude={"name"})
    shown = {key: value for key, value in settings.items() if USUAL.get(key) != value}
    lines.append(f"- Defaults: {_listed(shown)}.")
    lines += [f"- With {_choice(given)}: {_listed(more)}." for given, more in _choices(name)]
    head = [f"a head ({kind.head_task or 'of a pretext task'})"] if kind.needs_head else []
    stages = "" if kind.stage_names == ("main",) else f" Stages: {', '.join(kind.stage_names)}."
    lines.append(f"- Needs: {', '.join(sorted(kind.required_features) + head)}.{stages}")
    lines += [f"- Paper and code: {info.differs}"] if info.differs else []
    return "\n".join(lines) + "\n" + _pairs(name)


def _choices(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns each setting's value that brings others with it, and these others."""
    plain = published_settings({"name": name})
    given = [{key: value} for key, values in published_table(name).get("when", {}).items() for value in values]
    return [(one, _changed(published_settings({"name": name} | one), plain)) for one in given]


def _pairs(name: str) -> str:
    """Returns a table of the pairs that have settings of their own, without and with what a choice brings; "" if there
    are none."""
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
                rows.append((pair, _choice(given) or "-", short(more)))
    return "\n" + markdown_table(("pair", "with", "settings"), rows) if rows else ""


def _changed(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if usual.get(key) != value}


def _choice(given: dict[str, Any]) -> str:
    return ", ".join(f"`{key}: {str(value).lower()}`" for key, value in given.items())


def _listed(settings: dict[str, Any]) -> str:
    return short(settings) or "as every method's"


def refusals(names: list[str]) -> str:
    """Returns the pairs of tables 3 and 4 that each method cannot be used with."""
    refused = {name: [pair for pair in PAIRS if not _usable(name, pair)] for name in names}
    rows = [(f"`{name}`", ", ".join(pairs)) for name, pairs in refused.items() if pairs]
    about = "`plan` rejects these pairs of tables 3 and 4 and prints the reason."
    return f"## Pairs that a method cannot be used with\n\n{about}\n\n{markdown_table(('method', 'pairs'), rows)}"


def _usable(name: str, pair: str) -> bool:
    teacher, student = map(feature_shapes, pair.split("/"))
    try:
        check_pair(method_settings(name), student, teacher)
    except UserError:
        return False
    return True


def results_format() -> str:
    """docs/results_format.md, from the types that reports read the files by."""
    parts = [_table(f"`{path}`", model) for path, model in FILES.items()]
    parts += [_table(f"{model.__name__}, a part of these", model) for model in PARTS]
    return "\n".join([FORMAT_HEAD, *parts])


def _table(title: str, model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        shown = _type(field.annotation).replace("|", "or")
        rows.append((field.alias or name, f"{shown}{'' if field.is_required() else ', or absent'}", meaning))
    return f"## {title}\n\n{markdown_table(('key', 'type', 'meaning'), rows)}"


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
