"""Table 4: twelve methods, teacher and student of different architectures.

    python run_all.py --profile paper --only table4

Six pairs of teachers and students of different families, every method alone (only KD and SSKD include KD), with its
published weight. Cost with the paper's recipe: four teachers, their heads, and 72 students per seed, 240 epochs each;
pairs share the students without a teacher. Expected: SSKD ahead on every pair, by 2.3 points over CRD on average (claim
C1). The paper's numbers are the best epoch on the test images of one run; this table shows the best and the last epoch.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.spec_builder import method_grid

PAIRS = (
    "vgg13/MobileNetV2",
    "ResNet50/MobileNetV2",
    "ResNet50/vgg8",
    "resnet32x4/ShuffleV1",
    "resnet32x4/ShuffleV2",
    "wrn_40_2/ShuffleV1",
)

BENCHMARKS.register("table4")(
    Benchmark(
        "table4",
        "Table 4: different architectures",
        lambda specs: method_grid(specs, PAIRS, specs.paper_methods()),
        published=("table4_cross_architecture.csv",),
    )
)
