"""Table 4: twelve ways to learn, teacher and student of different architectures.

    python run_all.py --profile paper --only table4

Six pairs of teachers and students of different families, every method alone (none but KD and SSKD has KD added), with
its published weight. Cost in the paper's recipe: four teachers and their heads, then 72
students a seed, 240 epochs each; the students without a teacher are shared between pairs. Expect SSKD ahead on every
pair, by 2.3 points over CRD on average (claim C1).
The paper's figures are the best epoch on the test images of one run; both epochs are shown here.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_grid

PAIRS = (
    "vgg13/MobileNetV2",
    "ResNet50/MobileNetV2",
    "ResNet50/vgg8",
    "resnet32x4/ShuffleV1",
    "resnet32x4/ShuffleV2",
    "wrn_40_2/ShuffleV1",
)


def cells(specs: SpecBuilder) -> list[Cell]:
    return method_grid(specs, PAIRS)


BENCHMARKS.register("table4")(
    Benchmark("table4", "Table 4: different architectures", cells, published=("table4_cross_architecture.csv",))
)
