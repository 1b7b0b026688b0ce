"""Methods side by side on one pair: the table to look at first, and the one for a method of your own.

    python run_all.py --profile smoke --only comparison --methods none,kd,sskd

Reproduces one column of the paper's Table 3 where the profile's pair is one of it. Cost at ``--profile paper``: one
teacher, one head and a student for every method and seed, 240 epochs each. Expect SSKD above KD above no distillation
after the full schedule; after a few epochs the order is anybody's guess, and the table shows the spread.
"""

from benchmarks.profiles.profile import split_pair
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

PUBLISHED = ("table3_similar_architecture.csv", "table4_cross_architecture.csv")  # of any of their pairs


def cells(specs: SpecBuilder) -> list[Cell]:
    profile = specs.profile
    pair = split_pair(profile.pair)
    needs_teacher = False
    result = []
    for method in profile.methods:
        for seed in profile.seeds:
            spec = specs.student(pair, method, seed)
            needs_teacher = needs_teacher or spec.teacher is not None
            result.append(Cell(method_label(method), profile.pair, spec, profile.pair, profile.pair))
    if needs_teacher:
        teachers = specs.teacher_runs(pair[0])
        result[:0] = [Cell("Teacher", profile.pair, run, profile.pair, profile.pair) for run in teachers]
    return result


BENCHMARKS.register("comparison")(
    Benchmark("comparison", "Comparison of methods on one pair", cells, published=PUBLISHED, own_methods=True)
)
