"""Monte Carlo simulation of the verdict rule: false-positive rates and power.

    python -m perf.verdict_rates            prints the rates of docs/statistics.md, from 20,000 suites each
    python -m perf.verdict_rates --write    writes them there
    python -m perf.verdict_rates --levels   computes intervals.LEVELS again

A suite has values per seed (suites, 10) and is judged by verdict.judge_suites after each of the seeds 3 to 10. Values
are in standard deviations of a run.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.statistics.intervals import FIRST, LAST, LEVELS, holm, per_look_alpha, rounding_std, two_samples
from benchmarks.statistics.verdict import Calls, Condition, RequiredSeeds, Sample, judge_suites, required_seeds
from sskd.formatting import markdown_table
from sskd.paths import ROOT

SUITES = 20_000
DIGITS = 364  # test images of digits
DOCS = ROOT / "docs" / "statistics.md"
MARKS = ("<!-- rates: python -m perf.verdict_rates --write -->\n", "<!-- end of rates -->\n")
LOOKS = range(FIRST, LAST + 1)
RATIOS = (1, 3, 10)  # ratios of two methods' standard deviations
Random = np.random.Generator


class Frequency(NamedTuple):
    """A row of docs/statistics.md, in percent. bound: lower (-) or upper (+) limit that a test checks."""

    case: str
    what: str
    value: float
    bound: float


def unpaired(first: np.ndarray, second: np.ndarray, **more: float) -> Condition:
    """Returns the difference of two methods as a condition."""
    return Condition("", Sample((), first), Sample((), second), **more)  # type: ignore[arg-type]


def judged(parts: Sequence[Condition]) -> Calls:
    return judge_suites(parts, LOOKS)


def normal(rng: Random, suites: int, seeds: int = LAST) -> np.ndarray:
    return rng.standard_normal((suites, seeds))


def percent(found: np.ndarray) -> float:
    return round(100 * float(found.mean()), 1)


def wrong(calls: Calls) -> float:
    """Returns the frequency of either verdict if there is no difference."""
    return percent(calls.supported | calls.contradicted)


def rates(suites: int = SUITES, seed: int = 0) -> Iterator[Frequency]:
    """Yields all rows of docs/statistics.md."""
    rng = np.random.default_rng(seed)
    yield from intervals(rng, suites)
    yield from claims(rng, suites)
    yield from power(rng, suites)
    yield from dangers(rng, suites)


def intervals(rng: Random, suites: int) -> Iterator[Frequency]:
    """Yields verdicts at any look on one comparison without a difference."""
    for ratio in RATIOS:
        calls = judged([unpaired(normal(rng, suites), ratio * normal(rng, suites))])
        yield Frequency(f"two methods, deviations 1 : {ratio}", "some wrong verdict", wrong(calls), 5.1)
    first, second = normal(rng, suites), 3 * normal(rng, suites)
    steps = [(n + more, n) for n in LOOKS for more in (0, 1) if n + more <= LAST]
    seen = [two_samples(first[:, :n], second[:, :m]) for n, m in steps]
    some = np.any([np.abs(gap.mean) > gap.half_width() for gap in seen], axis=0)
    yield Frequency("two methods, 1 : 3, a look after each run of either", "some wrong verdict", percent(some), 5.7)
    shared, own = normal(rng, suites), 0.3 * normal(rng, suites)
    within = judged([Condition("", Sample((), shared - (shared + own)))])
    yield Frequency("within a method, paired", "some wrong verdict", wrong(within), 5.1)
    naive = np.any([_student(shared[:, :n]) > stats.t.isf(0.025, n - 1) for n in LOOKS], axis=0)
    yield Frequency("within a method, Student's t at every look", "some wrong verdict", percent(naive), -15)
    counts = [np.rint(rng.normal(0.95 * DIGITS, 0.75, (suites, LAST))) * 100 / DIGITS for _ in range(2)]
    calls = judged([unpaired(*counts, min_std=rounding_std(DIGITS))])
    yield Frequency(f"counts of {DIGITS} images, deviation 0.75 of one", "some wrong verdict", wrong(calls), 5.1)
    at_margin = judged([unpaired(normal(rng, suites) + 3, normal(rng, suites), margin=3.0)])
    yield Frequency("a difference of just the margin, 3 deviations", "equivalent", percent(at_margin.equivalent), 2.6)


def _student(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(values.mean(-1)) * np.sqrt(values.shape[-1]) / values.std(-1, ddof=1))


def claims(rng: Random, suites: int) -> Iterator[Frequency]:
    """Yields verdicts on claims with many conditions, on many claims, and on tables."""
    own = normal(rng, suites)
    calls = judged([unpaired(own, normal(rng, suites)) for _ in range(16)])
    yield Frequency("a claim of 16 rivals, no difference", "contradicted", percent(calls.contradicted), 5.0)
    yield Frequency("a claim of 16 rivals, no difference", "supported", percent(calls.supported), 0.5)
    for ratio, some, any_wrong in ((1, 18, 32), (5, 24, 42)):
        ten = [judged([unpaired(normal(rng, suites), ratio * normal(rng, suites))]) for _ in range(10)]
        supported, contradicted = (np.any([getattr(c, kind) for c in ten], 0) for kind in ("supported", "contradicted"))
        name = f"ten claims, none true, deviations 1 : {ratio}"
        yield Frequency(name, "some supported", percent(supported), some)
        yield Frequency(name, "some wrong verdict", percent(supported | contradicted), any_wrong)
    for seeds in (3, 5):
        tables = np.stack([two_samples(own[:, :seeds], normal(rng, suites, seeds)).p() for _ in range(11)], 1)
        marked = np.array([min(holm(row.tolist())) < 0.05 for row in tables[:2000]])
        yield Frequency(f"a table of eleven rivals, none apart, {seeds} seeds", "some bold (Holm)", percent(marked), 5)
    for effect, bound in ((0.0, 4.0), (0.5, 0.0)):
        for heads in (1, LAST):
            students = rng.normal(0, effect, (suites, 4, heads)) + rng.standard_normal((suites, 4, LAST))
            ranks = students.argsort(1).argsort(1)
            spearman = 1 - ((ranks - np.arange(4)[:, None]) ** 2).sum(1) / 10  # 1 - 6 sum d^2 / (n (n^2 - 1))
            calls = judged([Condition("", Sample((), spearman), ranks=True)])
            whose = f"std of heads {effect:g}, {'one head per task' if heads == 1 else 'one head per seed'}"
            name = f"rank correlation of four equal tasks, {whose}"
            yield Frequency(name, "supported", percent(calls.supported), 4.0 if heads > 1 else bound)


def power(rng: Random, suites: int) -> Iterator[Frequency]:
    """Yields how often a difference is found; effects in standard deviations of a run."""
    for effect, bound in ((1, -20), (2, -90), (4, -99)):
        calls = judged([unpaired(normal(rng, suites) + effect, normal(rng, suites))])
        early = percent(calls.supported & (calls.seeds <= 5))
        name = f"two methods, {effect} deviation{'s' * (effect > 1)} apart"
        yield Frequency(name, "supported with up to 5 seeds", early, 0.0)
        yield Frequency(name, f"supported with up to {LAST} seeds", percent(calls.supported), bound)
    few = max(20, suites // 100)  # each needs many predictions
    stopped, full = stopping(rng, few, np.sqrt(2.0))
    name = f"two methods, 1.4 deviations apart ({few} suites)"
    yield Frequency(name, "found by ten seeds", full, 0.0)
    yield Frequency(name, "found where decide gives up below 10 %", stopped, -full * 0.8)


def stopping(rng: Random, suites: int, effect: float) -> tuple[float, float]:
    """Returns in percent how often a difference is found if ``decide`` stops early, and with all ten seeds."""
    first, second = normal(rng, suites) + effect, normal(rng, suites)
    full = judged([unpaired(first, second)])
    found = 0
    for suite in range(suites):
        for n in LOOKS:
            one, two = (Sample(((name, ""),), list(x[suite, :n])) for name, x in (("a", first), ("b", second)))
            part = Condition("", one, two)
            if part.position().above:
                found += 1
                break
            need: RequiredSeeds = required_seeds("", "", [part])
            if need.seeds is None:
                break
    return round(100 * found / suites, 1), percent(full.supported)


def dangers(rng: Random, suites: int) -> Iterator[Frequency]:
    """Yields error rates in situations that the intervals do not account for."""
    for std, bound in ((0.3, 8.5), (0.5, 14), (1.0, 33)):
        shared = rng.normal(0, std, (suites, 1))
        calls = judged([unpaired(normal(rng, suites) + shared, normal(rng, suites))])
        yield Frequency(f"one teacher and head for all seeds, std {std}", "some wrong verdict", wrong(calls), bound)
    skewed = judged([Condition("", Sample((), rng.exponential(1, (suites, LAST)) - 1))])
    yield Frequency("within a method, exponential differences", "some wrong verdict", wrong(skewed), -10)
    collapsed = normal(rng, suites) - 30 * (rng.random((suites, LAST)) < 0.1)
    calls = judged([unpaired(normal(rng, suites) - 3, collapsed)])
    name = "a rival that collapses in a tenth of the seeds, equal on average"
    yield Frequency(name, "some wrong verdict", wrong(calls), -5)
    for rule, bound in (("best on test", -20.0), ("validation", 5.5), ("last", 5.5)):
        few = suites // 4
        first, second = (_reached(rng, few, noise, rule) for noise in (1.0, 0.5))
        name = f"one curve twice as noisy, epoch: {rule}"
        yield Frequency(name, "some wrong verdict", wrong(judged([unpaired(first, second)])), bound)


def _reached(rng: Random, suites: int, noise: float, rule: str, epochs: int = 30) -> np.ndarray:
    """Returns test accuracies (suites, LAST) of equally good methods at the epoch that ``rule`` selects."""
    level = rng.standard_normal((suites, LAST, 1))
    test, held_out = (level + rng.normal(0, noise, (suites, LAST, epochs)) for _ in range(2))
    at = {"best on test": test.argmax(-1), "validation": held_out.argmax(-1)}.get(rule, np.full(level.shape[:2], -1))
    return np.asarray(np.take_along_axis(test, (at % epochs)[..., None], -1)[..., 0])


def levels(samples: int = 1_000_000, seed: int = 0, ratios: Sequence[float] = (0, 1, 1.5, 2, 3, 5, 10)) -> np.ndarray:
    """Computes intervals.LEVELS without its first row, (10, 3): quantiles of the smallest p value over all looks for
    one sample (ratio 0), and the minimum over the other ratios of standard deviations."""
    rng, alphas = np.random.default_rng(seed), [row[0] for row in LEVELS[1:]]
    found = []
    for ratio in ratios:
        smallest = []
        for _ in range(max(1, samples // 100_000)):
            first, second = normal(rng, min(samples, 100_000)), ratio * normal(rng, min(samples, 100_000))
            smallest.append(np.min([_p(first[:, :n], second[:, :n]) for n in LOOKS], 0))
        found.append(np.quantile(np.concatenate(smallest), alphas))
    return np.column_stack([alphas, found[0], np.min(found[1:], 0)])


def _p(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if not second.any():
        return np.asarray(2 * stats.t.sf(_student(first), first.shape[-1] - 1))
    gap = two_samples(first, second)
    return np.asarray(2 * stats.t.sf(np.abs(gap.mean) / gap.sd, gap.df))


def table(found: Iterable[Frequency]) -> str:
    """Formats the rates as Markdown."""
    return markdown_table(("simulated", "what", "rate"), [(f.case, f.what, f"{f.value:.1f} %") for f in found])


def write_between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replaces the text between two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    page.write_text(before + marks[0] + text + marks[1] + rest.partition(marks[1])[2], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.verdict_rates", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suites", type=int, default=SUITES, help=f"simulated suites per rate (default: {SUITES})")
    parser.add_argument("--write", action="store_true", help="write the rates into docs/statistics.md")
    parser.add_argument("--levels", action="store_true", help="compute the levels of the looks again")
    options = parser.parse_args()
    if options.levels:
        for alpha, one, two in levels():
            in_use = f"{per_look_alpha(alpha):.3g}, {per_look_alpha(alpha, True):.3g}"
            print(f"{alpha:g}: {one:.3g}, {two:.3g} (in use: {in_use})")
        return
    text = table(rates(options.suites))
    print(text, end="")
    if options.write:
        write_between(DOCS, MARKS, text)


if __name__ == "__main__":
    main()
