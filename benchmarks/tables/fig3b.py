"""Figure 3b: contribution of each term of SSKD's loss.

    python run_all.py --profile paper --only fig3b

Cross-entropy with KD; with the predictions on transformed views added (L_T); with the self-supervised ones added
(L_ss); and with both, which is SSKD. Every variant has 0.1 CE + 0.9 KD and the published weights of the added terms.
The pair is vgg13/vgg8. Cost with the paper's recipe: a teacher, a head, and four students per seed, two of which are
part of table 3. Expected: each term helps and both together are best (claim C3); differences are small, so use five
seeds. The paper's numbers are not available.
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
