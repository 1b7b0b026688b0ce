"""Table 3: twelve methods, teacher and student of similar architectures.

    python run_all.py --profile paper --only table3

Five pairs of teachers and students of one family, every method alone (only KD and SSKD include KD), with its published
weight. Cost with the paper's recipe: four teachers (wrn_40_2 has two students), their heads, and 60 students per seed,
240 epochs each. Expected: SSKD best or tied for best on every pair except resnet56/resnet20, where AT leads (claim C2).
The paper's numbers are the best epoch on the test images of one run; this table shows the best and the last epoch.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.spec_builder import method_grid

PAIRS = (
    "wrn_40_2/wrn_16_2",
    "wrn_40_2/wrn_40_1",
    "resnet56/resnet20",
    "resnet32x4/resnet8x4",
    "vgg13/vgg8",
)

BENCHMARKS.register("table3")(
    Benchmark(
        "table3",
        "Table 3: similar architectures",
        lambda specs: method_grid(specs, PAIRS, specs.paper_methods()),
        published=("table3_similar_architecture.csv",),
    )
)
