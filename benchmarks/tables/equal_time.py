"""Methods on one pair, at equal epochs and at equal training time.

    python run_all.py --profile miniature --only equal_time

SSKD trains on four views of every image, so an epoch of it takes several times as long as one of KD, and a comparison
at equal epochs flatters it. Here every method is trained twice: for the recipe's epochs, and for as many epochs as fit
in the time that SSKD's take, by the profile's ``step_costs`` (measure yours with ``python -m perf.method_steps``;
methods without an entry have the first column only). The schedule is stretched with the epochs, so the longer training
is one that a user would choose. Pair and methods are the comparison's. Not in the paper.
"""

from benchmarks.profiles.profile import split_pair
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

REFERENCE = "sskd"


def cells(specs: SpecBuilder) -> list[Cell]:
    profile = specs.profile
    pair, costs, result = split_pair(profile.pair), profile.step_costs, []
    for method in profile.methods:
        label = method_label(method)
        columns = {"equal epochs": profile.recipe.epochs}
        if method.name in costs and REFERENCE in costs:
            columns["equal time"] = round(profile.recipe.epochs * costs[REFERENCE] / costs[method.name])
        for column, epochs in columns.items():
            for seed in profile.seeds:
                spec = specs.student(pair, method, seed, epochs=epochs)
                result.append(Cell(label, column, spec, profile.pair, profile.pair))
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
