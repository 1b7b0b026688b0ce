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
