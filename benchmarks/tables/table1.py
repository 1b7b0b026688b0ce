"""Table 1: fraction of the teacher's wrong self-supervised predictions that is transferred.

    python run_all.py --profile paper --only table1

SSKD keeps all correct predictions of the teacher's head and the best-ranked fraction of the wrong ones; this table sets
the fraction (``ss_keep``) to 0, 25, 50, 75 and 100 %. The pair is vgg13/vgg8, as in the paper's other ablations. Cost
with the paper's recipe: a teacher, its head, and five students per seed, 240 epochs of four views each; the 75 %
students are part of tables 2, 3 and 6. The differences are small, so use five seeds. Expected: 75 % is best (claim C4).
The paper's numbers are not available.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder

PAIR = "vgg13/vgg8"
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)


def cells(specs: SpecBuilder) -> list[Cell]:
    result = []
    for ratio in RATIOS:
        result += specs.students(PAIR, "SSKD", f"{ratio:.0%}", specs.method("sskd", ss_keep=ratio))
    return result


BENCHMARKS.register("table1")(
    Benchmark(
        "table1",
        "Table 1: share of wrong self-supervised predictions that is kept",
        cells,
        columns="share kept",
        reference="75%",
        figure="lines",
    )
)
