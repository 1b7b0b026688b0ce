"""``--profile NAME --explain``: what a profile would train, why, at what cost, and what that would decide."""

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.analysis.claims import CLAIMS, Claim
from benchmarks.analysis.deciding import FIRST, UNDECIDED
from benchmarks.analysis.judging import Verdict, judge_by_its_epoch
from benchmarks.analysis.results_frame import results_frame
from benchmarks.cost import ONE_BY_ONE, AtOnce, PlanCost, plan_cost
from benchmarks.plan import Plan
from benchmarks.profiles.profile import Profile
from benchmarks.tables.benchmark import BENCHMARKS, Cell
from sskd.config.recipe import Recipe, SplitSpec
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, Trained
from sskd.training.words import duration, plural

WIDTH = 100
ROLES = ("teacher", "head", "student")
NAMED = 8  # rows or columns of a benchmark that are named


def explain_profile(
    profile: Profile, plan: Plan, cells: Mapping[str, list[Cell]], folder: Path, at_once: AtOnce = ONE_BY_ONE
) -> str:
    """Paragraphs for a person, from the profile, its plan, and what is finished of it in ``folder``; ``at_once``: how
    its runs will go on."""
    runs = folder / "runs"
    cost = plan_cost(plan, runs, profile, at_once)
    parts = [
        _wrapped(f"Profile {profile.name}. {profile.about}"),
        _heading("What is trained", _trained(profile, plan, runs)),
        _heading("Why", [line for name, group in cells.items() for line in _purpose(name, group)]),
        _heading("How", _recipes(plan)),
        _heading("What it costs", _costs(plan, cost, runs)),
        _heading("What it decides", _decisions(profile, cells, runs)),
        "--dry-run lists the runs; --explain KEY says what a key of the profile means.",
    ]
    return "\n\n".join(parts)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _heading(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"{title}:", *(_wrapped(line, "  ") for line in lines)])


def _trained(profile: Profile, plan: Plan, runs: Path) -> list[str]:
    """How many runs of which role, on which images, and how many are there already."""
    counts = [plural(sum(s.role == role and s.trains for s in plan.runs), role) for role in ROLES]
    given = sum(not spec.trains for spec in plan.runs)
    finished = sum(RunFolder(runs, spec).is_finished() for spec in plan.runs)
    lines = [
        f"{plural(len(plan.runs), 'run')}: {', '.join(count for count in counts if not count.startswith('0 '))}"
        + (f", and {plural(given, 'teacher')} whose weights are given and only measured" if given else "")
        + f". {finished or 'None'} of them {'is' if finished == 1 else 'are'} finished in {runs}."
    ]
    for dataset, splits in _images(plan.runs).items():
        lines.append(f"Students learn from {dataset}: {'; '.join(splits)}.")
    if any(spec.teacher for spec in plan.runs if spec.role == "student") and not profile.teacher_seeds:
        lines.append(
            "One teacher, and one head where a method needs one, serves all seeds: its luck is in no interval."
        )
    return lines


def _images(specs: Iterable[RunSpec]) -> dict[str, list[str]]:
    """By data set what students have of it, each kind once."""
    found: dict[str, list[str]] = {}
    for spec in specs:
        if spec.role == "student":
            words = found.setdefault(spec.dataset.name, [])
            if (text := _split(spec.split)) not in words:
                words.append(text)
    return found


def _split(split: SplitSpec) -> str:
    share = "all images" if split.fraction == 1 else f"{split.fraction:.0%} of every class"
    share += f" among those that {split.indices.file} lists" if split.indices else ""
    noise = f" with {split.noise:.0%} wrong labels" if split.noise else ""
    noise += f" with the labels of {split.labels.file}" if split.labels else ""
    held_out = f", {split.holdout:.0%} of them held out to choose the epoch" if split.holdout else ""
    return share + noise + held_out


def _purpose(name: str, group: Sequence[Cell]) -> list[str]:
    """A benchmark's question, and what is compared for it."""
    benchmark = BENCHMARKS[name]
    own = (sys.modules[benchmark.cells.__module__].__doc__ or "").strip().partition("\n\n")[0]
    students = [cell for cell in group if cell.row != "Teacher"]
    seeds = sorted({cell.spec.seed for cell in students})
    rows, columns = (list(dict.fromkeys(getattr(cell, side) for cell in students)) for side in ("row", "column"))
    return [
        f"{name}: {own or benchmark.title}{'' if own.endswith('.') or not own else '.'} "
        f"{plural(len({cell.spec.id for cell in students}), 'student')}: {benchmark.rows} {_some(rows)}; "
        f"{benchmark.columns} {_some(columns)}; {plural(len(seeds), 'seed')}."
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" if "," in name else name for name in names[:NAMED]) + more


def _recipes(plan: Plan) -> list[str]:
    """By role how it is trained: each recipe in a few words, the most frequent first."""
    lines = []
    for role in ROLES:
        trained = [spec for spec in plan.runs if spec.role == role and spec.trains]
        texts: dict[str, int] = {}
        for spec in trained:
            text = _recipe(spec.recipe)
            texts[text] = texts.get(text, 0) + 1
        ordered = sorted(texts, key=lambda text: -texts[text])
        if ordered:
            more = f"; {plural(len(ordered) - 1, 'other recipe')} for {len(trained) - texts[ordered[0]]} of them"
            lines.append(f"{role.capitalize()}s: {ordered[0]}{more if len(ordered) > 1 else ''}.")
    teachers = {spec.teacher.network for spec in plan.runs if spec.teacher and not isinstance(spec.teacher, Trained)}
    if teachers:
        lines.append(f"Given as weights: {_some(sorted(teachers))}.")
    return lines


def _recipe(recipe: Recipe) -> str:
    return (
        f"{plural(recipe.epochs, 'epoch')} in batches of {recipe.batch_size}, {recipe.optimizer} at "
        f"{recipe.learning_rate:g} ({recipe.schedule}), augmentation {recipe.augmentation}, precision "
        f"{recipe.precision}"
    )


def _costs(plan: Plan, cost: PlanCost, runs: Path) -> list[str]:
    """Counted work, by role, and the time that is left."""
    total = sum(cost.multiply_adds.values())
    shares = []
    for role in ROLES:
        own = sum(cost.multiply_adds[spec.id] for spec in plan.runs if spec.role == role)
        if own:
            shares.append(f"{role}s {own / total:.0%}")
    amount = f"{total / 1e12:,.0f}" if total >= 1e14 else f"{total / 1e12:.3g}"
    lines = [f"{amount} T multiply-adds ({', '.join(shares)}); what is left takes {cost.text}."]
    left = [spec for spec in plan.runs if spec.trains and not RunFolder(runs, spec).is_finished()]
    if left:
        longest = max(left, key=lambda spec: cost.seconds[spec.id])
        lines.append(f"The longest run, {longest.id}, takes about {duration(cost.seconds[longest.id])} of that.")
    return lines


def _decisions(profile: Profile, cells: Mapping[str, list[Cell]], runs: Path) -> list[str]:
    """The paper's claims that these runs bear on, with how many seeds, and which need another benchmark."""
    frame = results_frame(cells, runs)
    lines, other = [], []
    for claim in CLAIMS:
        if claim.benchmark in cells:
            lines.append(_decision(claim, judge_by_its_epoch(claim, frame), cells[claim.benchmark]))
        else:
            other.append(f"{claim.id} ({claim.benchmark})")
    if not lines:
        lines.append("None of the paper's claims: its runs compare what they compare, paired by seed, with intervals.")
    if other:
        lines.append(f"Not asked for here, and so left open: {', '.join(other)}.")
    return lines


def _decision(claim: Claim, verdict: Verdict, group: Sequence[Cell]) -> str:
    """What the planned seeds can do for a claim. The interval that holds while one looks needs FIRST of them."""
    seeds = len({cell.spec.seed for cell in group if cell.row != "Teacher"})
    head = f"{claim.id} ({claim.where}): {claim.statement}."
    if verdict.verdict != UNDECIDED:
        return f"{head} {verdict.verdict.capitalize()} already, by {verdict.seeds_text}."
    if seeds < FIRST:
        return f"{head} Cannot be decided: {plural(seeds, 'seed')} planned, and an interval needs {FIRST}."
    there = {(cell.row, cell.column) for cell in group}
    wanted = verdict.need.cells if verdict.need else ()
    absent = [f"{row} at {column}" for row, column in wanted if (row, column) not in there]
    if absent:
        return f"{head} Cannot be decided: nothing is planned for {_some(absent)}."
    return (
        f"{head} {plural(seeds, 'seed')} planned: supported if {'every' if len(wanted) > 2 else 'the'} interval lies "
        "above its bound, else contradicted or undecided; --decide buys more seeds."
    )
