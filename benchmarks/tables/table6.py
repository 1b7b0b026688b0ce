"""Table 6: fidelity, the agreement of student and teacher.

    python run_all.py --profile paper --only table6

On the test images, with the last epoch's weights: the KL divergence of predictions at temperature 4, teacher to
student, in nats; and linear CKA of the features that enter the classifier. The pair is vgg13/vgg8. The student without
a teacher is omitted. Cost: none, because all runs are part of table 3. Expected: SSKD has the smallest divergence and
the largest CKA (claim C7). The paper's numbers are not available.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark, Measure
from benchmarks.tables.spec_builder import PAPER_METHODS, method_grid

PAIR = "vgg13/vgg8"
METHODS = tuple(name for name in PAPER_METHODS if name != "none")

BENCHMARKS.register("table6")(
    Benchmark(
        "table6",
        "Table 6: fidelity of students to the teacher",
        lambda specs: method_grid(specs, (PAIR,), specs.paper_methods(METHODS), teachers=False),
        measures=(
            Measure("kl", "KL", "KL(teacher, student) at temperature 4, last epoch (nats)", 4, larger_is_better=False),
            Measure("cka", "CKA", "linear CKA of the features, last epoch", 4),
        ),
    )
)
