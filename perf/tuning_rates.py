"""Monte Carlo simulation of ``run_all.py tune``: error rates of the comparison of tuned methods.

    python -m perf.tuning_rates             the rates that docs/tuning.md shows, over 4,000 suites each
    python -m perf.tuning_rates --write     writes them there

In a suite two equally good methods, A and B, are tuned and compared by statistics.verdict, after each of the studies 3
to 10. The true accuracy of a setting is -|N(0, 2)| points. The test accuracy of a run is the true accuracy plus N(0,
0.65) (the variance between seeds), and its validation accuracy is the test accuracy plus N(0, 1). A search runs each of
its settings once.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perf.verdict_rates import LOOKS, Frequency, Random, judged, percent, table, unpaired, write_between
from sskd.formatting import markdown_table
from sskd.paths import ROOT

SUITES = 4000
STUDIES = max(LOOKS)
# standard deviations in points: of settings, of seeds, and of the difference of validation and test accuracy
SETTING_STD, SEED_STD, VALIDATION_STD = 2.0, 0.65, 1.0
DOCS = ROOT / "docs" / "tuning.md"
MARKS = ("<!-- rates: python -m perf.tuning_rates --write -->\n", "<!-- end of rates -->\n")


class Search(NamedTuple):
    """Accuracies of the chosen settings of many searches, (suites, studies) each: the true accuracy, the validation and
    the test accuracy of the trial, and the test accuracy of the final run, which has another seed."""

    true: np.ndarray
    held_out: np.ndarray
    trial: np.ndarray
    final: np.ndarray


def search(rng: Random, suites: int, budget: int, on_test: bool = False, studies: int = STUDIES) -> Search:
    """Simulates searches with ``budget`` settings each. The choice is by validation accuracy, or by the trial's test
    accuracy if ``on_test``."""
    true = -np.abs(rng.normal(0, SETTING_STD, (suites, studies, budget)))
    trial = true + rng.normal(0, SEED_STD, true.shape)
    held_out = trial + rng.normal(0, VALIDATION_STD, true.shape)
    best = (trial if on_test else held_out).argmax(-1)[..., None]
    chosen, seen, tested = (np.take_along_axis(values, best, -1)[..., 0] for values in (true, held_out, trial))
    return Search(chosen, seen, tested, chosen + rng.normal(0, SEED_STD, chosen.shape))


def ahead(first: np.ndarray, second: np.ndarray) -> float:
    """Returns in percent how often A is called better than B, although both are equally good."""
    return percent(judged([unpaired(first, second)]).supported)


def rates(suites: int = SUITES, seed: int = 0) -> Iterator[Frequency]:
    """Yields how often A is called better than B, for several ways to choose and report."""
    rng = np.random.default_rng(seed)
    for budget in (9, 5):
        a, b = search(rng, suites, budget), search(rng, suites, budget)
        yield Frequency(f"as tune does, {budget} trials each", "A is ahead", ahead(a.final, b.final), 3.3)
    one, other = (search(rng, suites, 9, studies=1).true + rng.normal(0, SEED_STD, (suites, STUDIES)) for _ in range(2))
    yield Frequency("one search, then ten seeds of the winner", "A is ahead", ahead(one, other), -10)
    chosen = search(rng, suites, 9, on_test=True).trial
    fair = search(rng, suites, 9).final
    yield Frequency("A chosen on the test images", "A is ahead", ahead(chosen, fair), -30)
    again, fair = search(rng, suites, 9).trial, search(rng, suites, 9).final
    yield Frequency("A's test accuracy of the chosen trial itself", "A is ahead", ahead(again, fair), -8)
    wide, fair = search(rng, suites, 9).final, search(rng, suites, 1).final
    yield Frequency("A with 9 trials, B with one", "A is ahead", ahead(wide, fair), -10)


class Bias(NamedTuple):
    """The mean of a reported accuracy minus the chosen setting's true one, in points, and its standard error."""

    case: str
    mean: float
    error: float


def biases(suites: int = SUITES, seed: int = 0) -> list[Bias]:
    """Returns the selection bias of each accuracy that one could report."""
    rng = np.random.default_rng(seed)
    fair, test = search(rng, suites, 9), search(rng, suites, 9, on_test=True)
    cases = {
        "the final run's test accuracy (reported)": fair.final - fair.true,
        "the chosen trial's validation accuracy": fair.held_out - fair.true,
        "the chosen trial's test accuracy": fair.trial - fair.true,
        "the trial's test accuracy, chosen on the test images": test.trial - test.true,
    }
    return [Bias(name, float(x.mean()), float(x.std() / np.sqrt(x.size))) for name, x in cases.items()]


def text(suites: int = SUITES) -> str:
    """Returns both tables in Markdown."""
    rows = [(bias.case, f"{round(bias.mean, 2) + 0.0:+.2f}") for bias in biases(suites)]
    return table(rates(suites)) + "\n" + markdown_table(("reported", "minus the true accuracy, points"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.tuning_rates", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suites", type=int, default=SUITES, help=f"simulated suites a rate (default: {SUITES})")
    parser.add_argument("--write", action="store_true", help="put the rates into docs/tuning.md")
    options = parser.parse_args()
    shown = text(options.suites)
    print(shown, end="")
    if options.write:
        write_between(DOCS, MARKS, shown)


if __name__ == "__main__":
    main()
