"""Figure 3a: effect of self-supervised targets on the student's features, as a t-SNE figure and as silhouettes.

    python run_all.py --profile paper --only fig3a

t-SNE (scikit-learn) of the last features of test images of the first ten classes, for a student without a teacher, with
KD and with SSKD, first seed; and for every seed the silhouette of the classes in feature space (not in the t-SNE
layout). Features are computed from the last epoch's weights when the report is written, and cached as features.npz in
the run's folder. The pair is vgg13/vgg8. Cost: none, because all runs are part of table 3. Expected: SSKD has tighter
classes, so a larger silhouette (claim C10).
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark, Measure
from benchmarks.tables.spec_builder import method_grid

PAIR = "vgg13/vgg8"
METHODS = ("none", "kd", "sskd")

BENCHMARKS.register("fig3a")(
    Benchmark(
        "fig3a",
        "Figure 3a: features of the student, by t-SNE",
        lambda specs: method_grid(specs, (PAIR,), specs.paper_methods(METHODS), teachers=False),
        measures=(Measure("silhouette", "silhouette", "silhouette of the classes, last epoch", 3),),
        figure="embedding",
        note="Test images of the first ten classes; the silhouette refers to the features, not to the t-SNE layout.",
    )
)
