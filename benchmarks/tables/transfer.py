"""Transfer of the student's features: a linear probe on STL-10 and on Tiny-ImageNet (CRD's table 4).

    python run_all.py --profile paper --only transfer

Each student of wrn_40_2/wrn_16_2, and its teacher, is frozen after its last epoch. A linear classifier on its pooled
features is trained on another data set, resized to the student's image size (32 x 32), and evaluated on its test
images, as in CRD (Tian et al., ICLR 2020). The training of the classifier is ours (sskd/training/probe.py), so the
numbers are not compared with the published ones. The profile sets the data sets (``probe.datasets``). Cost: the runs
are part of table 3; a probe needs one pass of the images through a student, and `plan` prints it. Results are stored in
the run's folder. STL-10 is downloaded; Tiny-ImageNet must be unpacked into the dataset root.
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
        note="Classifier: logistic regression by L-BFGS. The details of CRD's own classifier are not available.",
    )
)
