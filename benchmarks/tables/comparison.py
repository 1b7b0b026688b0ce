"""Comparison of methods on one pair: the table to start with, and the one for your own method.

    python run_all.py --profile smoke --only comparison --methods none,kd,sskd

It reproduces a column of the paper's table 3 if the profile's pair is in it. Cost with ``--profile paper``: one
teacher, one head, and a student per method and seed, 240 epochs each. Expected: SSKD above KD above no distillation
after the full schedule. After a few epochs the order is random; the table shows the standard deviations.
"""

from benchmarks.profiles.profile import split_pair
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

PUBLISHED = ("table3_similar_architecture.csv", "table4_cross_architecture.csv")  # tables with published pairs


def cells(specs: SpecBuilder) -> list[Cell]:
    own, result = specs.profile.pair, list[Cell]()
    pair = split_pair(own)
    for method in specs.profile.methods:
        result += specs.students(own, method_label(method), own, method, pair)
    teachers = specs.teacher_runs(pair[0]) if any(cell.spec.teacher for cell in result) else []
    return [Cell("Teacher", own, run, own, own) for run in teachers] + result


BENCHMARKS.register("comparison")(
    Benchmark("comparison", "Comparison of methods on one pair", cells, published=PUBLISHED, own_methods=True)
)
