"""How often the suite's own verdicts are wrong, and how often they find what is there: by simulation.

    python -m benchmarks.statistics.simulate            the rates that docs/statistics.md shows, over 2,000 suites each
    python -m benchmarks.statistics.simulate --write    puts them there
    python -m benchmarks.statistics.simulate --levels   finds intervals.NOMINAL again, from two million growing samples

A suite is a table of parts (a rival, a pair, ...) by seeds, judged after each of the seeds 3 to 10. Effects are in
standard deviations of a paired difference between two students of one seed.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.statistics.comparison import holm
from benchmarks.statistics.intervals import ERROR, FIRST, LAST, NOMINAL, count_floor, half_width, nominal, spent

SUITES = 2000
DIGITS = 364  # test images of the digits
DOCS = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"
MARKS = ("<!-- rates: python -m benchmarks.statistics.simulate --write -->\n", "<!-- end of rates -->\n")

HalfWidth = Callable[[np.ndarray, int, float, float], np.ndarray]


class Calls(NamedTuple):
    """Of simulated suites, (suites,) bool each: what they were called at any look. ``seeds``: the first look at which
    the suite was decided, LAST if at none."""

    supported: np.ndarray
    contradicted: np.ndarray
    seeds: np.ndarray


class Rate(NamedTuple):
    """A line of docs/statistics.md: ``value`` is a percentage, or a number of seeds."""

    case: str
    what: str
    value: float


def judge_suites(
    values: np.ndarray,
    floor: float = 0.0,
    interval: HalfWidth = half_width,
    looks: Sequence[int] = range(FIRST, LAST + 1),
) -> Calls:
    """The verdicts of claims.decide on many suites at once. values: (suites, parts, seeds), positive where the claim
    holds."""
    suites, parts, _ = values.shape
    supported, contradicted = np.zeros(suites, bool), np.zeros(suites, bool)
    seeds = np.full(suites, LAST)
    for n in reversed(looks):
        mean, spread = values[..., :n].mean(-1), values[..., :n].std(-1, ddof=1)
        now_no = (mean + interval(spread, n, ERROR / parts, floor) < 0).any(1)
        now_yes = (mean - interval(spread, n, ERROR, floor) > 0).all(1) & ~now_no
        supported, contradicted = supported | now_yes, contradicted | now_no
        seeds = np.where(now_yes | now_no, n, seeds)
    return Calls(supported, contradicted, seeds)


def t_half_width(spread: np.ndarray, n: int, error: float, floor: float) -> np.ndarray:
    """Student's t, right for one look: for comparison."""
    return np.asarray(stats.t.isf(error / 2, n - 1) * np.maximum(spread, floor) / np.sqrt(n))


def counted(rng: np.random.Generator, suites: int, parts: int, spread: float, images: int = DIGITS) -> np.ndarray:
    """Differences, in points, between a method and ``parts`` rivals as good as it, counted in whole images. (suites,
    parts, LAST). ``spread``: standard deviation of a run's count, in images."""
    own = rng.normal(0.95 * images, spread, (suites, 1, LAST))
    others = rng.normal(0.95 * images, spread, (suites, parts, LAST))
    return (np.rint(own) - np.rint(others)) * 100 / images


def selected(rng: np.random.Generator, suites: int, rule: str, epochs: int = 30) -> np.ndarray:
    """Differences between two methods of equal expected accuracy, of which the first's curve is twice as noisy from
    epoch to epoch. rule: "best on test", "held-out" (chosen on as noisy an accuracy of other images) or "last"."""

    def reached(noise: float) -> np.ndarray:
        level = rng.normal(0, 1, (suites, LAST, 1))
        test = level + rng.normal(0, noise, (suites, LAST, epochs))
        held_out = level + rng.normal(0, noise, (suites, LAST, epochs))
        at = {"best on test": test.argmax(-1), "held-out": held_out.argmax(-1)}.get(rule, np.full(level.shape[:2], -1))
        return np.asarray(np.take_along_axis(test, (at % epochs)[..., None], -1)[..., 0])

    return (reached(1.0) - reached(0.5))[:, None]


def correlations(rng: np.random.Generator, suites: int, head_effect: float, own_heads: bool) -> np.ndarray:
    """Rank correlations of four tasks' quality with four equally good students, one a seed (claim C5)."""
    heads = rng.normal(0, head_effect, (suites, 4, LAST if own_heads else 1))
    students = heads + rng.normal(0, 1, (suites, 4, LAST))
    ranks = students.argsort(1).argsort(1)
    gaps = ((ranks - np.arange(4)[:, None]) ** 2).sum(1)
    return (1 - gaps / 10)[:, None]  # Spearman's: 1 - 6 sum d^2 / (n (n^2 - 1))


def null_tables(rng: np.random.Generator, suites: int, seeds: int, rivals: int = 11, pairs: int = 5) -> np.ndarray:
    """p values, valid while one looks, of SSKD against as good rivals in a table like the paper's third. (suites,
    rivals * pairs)."""
    own, others = rng.normal(size=(suites, pairs, 1, seeds)), rng.normal(size=(suites, pairs, rivals, seeds))
    gaps = (own - others).reshape(suites, pairs * rivals, seeds)
    t = np.abs(gaps.mean(-1)) * np.sqrt(seeds) / gaps.std(-1, ddof=1)
    return 2 * np.asarray(stats.t.sf(t, seeds - 1))


def rates(suites: int = SUITES, seed: int = 0) -> list[Rate]:
    """All lines of docs/statistics.md."""
    rng = np.random.default_rng(seed)
    return [*_nulls(rng, suites), *_power(rng, suites), *_luck(rng, suites), *_choices(rng, suites)]


def _percent(found: np.ndarray) -> float:
    return round(100 * float(found.mean()), 1)


def _nulls(rng: np.random.Generator, suites: int) -> list[Rate]:
    lines = []
    for parts in (1, 16):
        shared = rng.normal(size=(suites, 1, LAST)) - rng.normal(size=(suites, parts, LAST))
        calls, naive = judge_suites(shared), judge_suites(shared, interval=t_half_width)
        case = f"no difference, {parts} part{'s' * (parts > 1)}"
        lines += [
            Rate(case, "supported at any of the looks", _percent(calls.supported)),
            Rate(case, "contradicted at any of the looks", _percent(calls.contradicted)),
            Rate(case, "supported, had the interval been Student's t", _percent(naive.supported)),
            Rate(case, "contradicted, had the interval been Student's t", _percent(naive.contradicted)),
        ]
    for parts in (1, 16):
        values = counted(rng, suites, parts, spread=0.75)
        calls, bare = judge_suites(values, count_floor(DIGITS)), judge_suites(values)
        case = (
            f"no difference, counts of {DIGITS} images (a run's deviation 0.75 of one), {parts} part{'s' * (parts > 1)}"
        )
        lines += [
            Rate(case, "supported at any of the looks", _percent(calls.supported)),
            Rate(case, "contradicted at any of the looks", _percent(calls.contradicted)),
            Rate(case, "contradicted, without a floor under the deviation", _percent(bare.contradicted)),
        ]
    return lines


def _power(rng: np.random.Generator, suites: int) -> list[Rate]:
    lines = []
    for parts in (1, 4):
        for effect in (1, 2, 4):
            own, others = rng.normal(size=(suites, 1, LAST)), rng.normal(size=(suites, parts, LAST))
            calls = judge_suites((own - others) / np.sqrt(2) + effect)
            case = f"{effect} standard deviation{'s' * (effect > 1)}, {parts} part{'s' * (parts > 1)}"
            early = judge_suites((own - others) / np.sqrt(2) + effect, looks=range(FIRST, 6))
            lines += [
                Rate(case, "supported with up to 5 seeds", _percent(early.supported)),
                Rate(case, f"supported with up to {LAST} seeds", _percent(calls.supported)),
                Rate(case, "seeds until decided, on average", round(float(calls.seeds.mean()), 1)),
            ]
    return lines


def _luck(rng: np.random.Generator, suites: int) -> list[Rate]:
    lines = []
    for effect in (0.3, 0.5):
        for own_heads in (False, True):
            luck = rng.normal(0, effect, (suites, 1, LAST if own_heads else 1))
            noise = rng.normal(size=(suites, 1, LAST)) - rng.normal(size=(suites, 1, LAST))
            calls = judge_suites(luck + noise)
            whose = "a teacher and head for every seed" if own_heads else "one teacher and head for all seeds"
            case = f"no difference, luck of the head of {effect} deviations of a run, {whose}"
            lines.append(Rate(case, "supported at any of the looks", _percent(calls.supported)))
    for effect, own_heads in ((0.0, False), (0.5, False), (0.5, True)):
        calls = judge_suites(correlations(rng, suites, effect, own_heads))
        whose = "own heads" if own_heads else "one head a task"
        case = f"rank correlation of four equal tasks, luck of the head of {effect:g} deviations, {whose}"
        lines.append(Rate(case, "supported at any of the looks", _percent(calls.supported)))
    return lines


def _choices(rng: np.random.Generator, suites: int) -> list[Rate]:
    lines = []
    for rule in ("best on test", "held-out", "last"):
        calls = judge_suites(selected(rng, suites, rule))
        case = f"no difference, one curve twice as noisy, epoch: {rule}"
        lines.append(Rate(case, "supported at any of the looks", _percent(calls.supported)))
    for seeds in (3, 5):
        p = spent(null_tables(rng, suites, seeds))
        case = f"table of 55 differences, none real, {seeds} seeds"
        corrected = np.apply_along_axis(lambda row: holm(row.tolist()), 1, p)
        lines += [
            Rate(case, "at least one marked, had each been tested alone by t", _marked(rng, suites, seeds)),
            Rate(case, "at least one marked (Holm)", _percent(np.any(corrected < ERROR, 1))),
        ]
    return lines


def _marked(rng: np.random.Generator, suites: int, seeds: int) -> float:
    return _percent(np.any(null_tables(rng, suites, seeds) < ERROR, 1))


def table(lines: Sequence[Rate]) -> str:
    """In Markdown."""
    rows = ["| simulated | what | rate |", "| --- | --- | --- |"]
    for line in lines:
        shown = f"{line.value:g}" if line.what.startswith("seeds") else f"{line.value:.1f} %"
        rows.append(f"| {line.case} | {line.what} | {shown} |")
    return "\n".join(rows) + "\n"


def levels(samples: int = 2_000_000, seed: int = 0) -> list[tuple[float, float]]:
    """NOMINAL: the quantiles of the smallest p value of all looks."""
    rng = np.random.default_rng(seed)
    smallest = []
    for start in range(0, samples, 200_000):
        values = rng.standard_normal((min(200_000, samples - start), LAST))
        n = np.arange(1, LAST + 1)
        mean = values.cumsum(1) / n
        variance = ((values**2).cumsum(1) - n * mean**2)[:, FIRST - 1 :] / (n[FIRST - 1 :] - 1)
        t = np.abs(mean[:, FIRST - 1 :]) * np.sqrt(n[FIRST - 1 :] / variance)
        smallest.append((2 * stats.t.sf(t, n[FIRST - 1 :] - 1)).min(1))
    return [(error, float(np.quantile(np.concatenate(smallest), error))) for error, _ in NOMINAL]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.statistics.simulate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--suites", type=int, default=SUITES, help=f"simulated suites a rate (default: {SUITES})")
    parser.add_argument("--write", action="store_true", help="put the rates into docs/statistics.md")
    parser.add_argument("--levels", action="store_true", help="find the nominal levels of the looks again")
    options = parser.parse_args()
    if options.levels:
        for error, level in levels():
            print(f"{error:g}: {level:.3g} (in use: {nominal(error):.3g})")
        return
    text = table(rates(options.suites))
    print(text, end="")
    if options.write:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(MARKS[0])
        DOCS.write_text(before + MARKS[0] + text + MARKS[1] + rest.partition(MARKS[1])[2], encoding="utf-8")


if __name__ == "__main__":
    main()
