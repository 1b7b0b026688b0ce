"""Figure 3b: what each part of SSKD's loss is worth.

    python run_all.py --profile paper --only fig3b

Cross-entropy with KD, then with the transformed views' predictions (L_T), with the self-supervised ones (L_ss), and
with both, which is SSKD. Every variant has 0.1 CE + 0.9 KD, and the published weights of what it adds. The pair is
vgg13/vgg8. Cost in the paper's recipe: a teacher and a head, then four students a seed; two of the four are table 3's.
Expect each part to help and both to do best (claim C3); differences are small, so take five seeds. The paper's figure
was not at hand as numbers.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder

PAIR = "vgg13/vgg8"


def cells(specs: SpecBuilder) -> list[Cell]:
    variants = {
        "CE+KD": specs.method("kd"),
        "+L_T": specs.method("sskd", ss_weight=0.0),
        "+L_ss": specs.method("sskd", t_weight=0.0),
        "all": specs.method("sskd"),
    }
    result = []
    for row, method in variants.items():
        result += specs.students(PAIR, row, PAIR, method)
    return result


BENCHMARKS.register("fig3b")(Benchmark("fig3b", "Figure 3b: loss terms", cells, rows="loss", reference="all"))
