"""Table 1: how many of the teacher's wrong self-supervised predictions should be transferred?

    python run_all.py --profile paper --only table1

SSKD keeps every right prediction of the teacher's head and, of the wrong ones, the share with the best rank; this
sweeps that share (``ss_keep``) over 0, 25, 50, 75 and 100 %. The pair is vgg13/vgg8, as in the paper's other ablations.
Cost in the paper's recipe: a teacher and its head, then five students a seed, 240 epochs of four views each; the 75 %
students are those of tables 2, 3 and 6. The differences are small, so take five seeds. Expect 75 % to do best (claim
C4). The paper's numbers were not at hand, so none stand beside ours.
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
