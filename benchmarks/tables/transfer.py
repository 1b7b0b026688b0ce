"""Do the student's features transfer? CRD's table 4: a linear probe on STL-10 and on Tiny-ImageNet.

    python run_all.py --profile paper --only transfer

Each student of wrn_40_2/wrn_16_2, and its teacher, is frozen as its last epoch left it; a linear classifier on its
pooled features learns the training images of another data set, made as small as the student's own (32 x 32), and is
measured on the test images. That much is CRD's (Tian et al., ICLR 2020); how the classifier is trained is ours
(sskd/training/probe.py), so numbers are not compared with the published ones. The data sets are the profile's
(``probe.datasets``). Cost: the runs are table 3's; a probe passes the other images once through a student, and
`plan` counts it. The result is kept in the run's folder. STL-10 is downloaded where it is missing, Tiny-ImageNet has
to be unpacked into the dataset root.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark, Measure
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

PAIR = "wrn_40_2/wrn_16_2"


def cells(specs: SpecBuilder) -> list[Cell]:
    result = []
    for dataset in specs.profile.probe.datasets:
        result += specs.teacher_cells(PAIR, dataset.name)
        for method in specs.paper_methods():
            result += specs.students(PAIR, method_label(method), dataset.name, method)
    return result


BENCHMARKS.register("transfer")(
    Benchmark(
        "transfer",
        "Transfer: a linear probe on the frozen features",
        cells,
        columns="probed on",
        measures=(Measure("probe_top1", "probe", "top-1 accuracy of a linear probe, last epoch (%)"),),
        probes=True,
        note="The classifier is logistic regression by L-BFGS; how CRD's own was trained was not at hand.",
    )
)
