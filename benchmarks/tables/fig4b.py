"""Figure 4b: students that learn from noisy labels.

    python run_all.py --profile paper --only fig4b

KD, FitNet, AT, CRD and SSKD with 0, 10, 30 and 50 % of the training labels changed to another class, the same labels
for every method (a profile may name other ``noise_rates``, and methods beside these with ``also``). The teacher and its
head are clean. All methods have the same weight of cross-entropy, CE_WEIGHT below: the 0.1 that KD and SSKD have
anyway; the weights of the methods' own terms stay as published, so FitNet, AT and CRD differ from table 3 at 0 % too.
The pair is vgg13/vgg8. Cost in the paper's recipe: a teacher and a head, then 20 students a seed, two of them table
3's. Expect SSKD to lose 0.45 points from 0 to 50 %, FitNet and AT most (claim C9). The paper's figure was not at hand
as numbers.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

PAIR = "vgg13/vgg8"
METHODS = ("kd", "fitnet", "at", "crd", "sskd")
CE_WEIGHT = 0.1


def cells(specs: SpecBuilder) -> list[Cell]:
    profile = specs.profile
    split = profile.split
    result = []
    for method in [*specs.paper_methods(METHODS, ce_weight=CE_WEIGHT), *profile.also]:
        for noise in profile.noise_rates:
            noisy = split.model_copy(update={"noise": noise})
            result += specs.students(PAIR, method_label(method), f"{100 * noise:g}%", method, split=noisy)
    return result


BENCHMARKS.register("fig4b")(
    Benchmark(
        "fig4b",
        "Figure 4b: noisy labels",
        cells,
        columns="share of changed labels",
        figure="lines",
        note=f"The weight of cross-entropy is {CE_WEIGHT} for the paper's methods; the teacher saw clean labels.",
    )
)
