"""Comparison of methods on one pair at equal epochs and at equal training time. Not in the paper.

    python run_all.py --profile miniature --only equal_time

SSKD trains on four views of every image, so its epochs take several times as long as KD's, and a comparison at equal
epochs favours it. Here every method is trained twice: for the recipe's epochs, and for the number of epochs that fit
into SSKD's time, according to the profile's ``step_costs`` (measure yours with ``python -m perf.method_steps``; methods
without an entry only have the first column). The schedule is stretched with the epochs. Pair and methods are those of
the comparison.
"""

from benchmarks.profiles.profile import split_pair
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

REFERENCE = "sskd"


def cells(specs: SpecBuilder) -> list[Cell]:
    profile = specs.profile
    pair, costs, result = split_pair(profile.pair), profile.step_costs, list[Cell]()
    for method in profile.methods:
        columns = {"equal epochs": profile.recipe.epochs}
        if method.name in costs and REFERENCE in costs:
            columns["equal time"] = round(profile.recipe.epochs * costs[REFERENCE] / costs[method.name])
        for column, epochs in columns.items():
            result += specs.students(profile.pair, method_label(method), column, method, pair, epochs=epochs)
    return result


BENCHMARKS.register("equal_time")(
    Benchmark(
        "equal_time",
        "The same methods at equal epochs and at equal training time",
        cells,
        columns="training",
        own_methods=True,
        averages=False,
    )
)
