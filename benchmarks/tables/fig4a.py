"""Figure 4a: few-shot distillation, students that train on a subset of the images.

    python run_all.py --profile paper --only fig4a

KD, AT, CRD and SSKD with 25, 50, 75 and 100 % of each class's training images (of the profile's split, if that is a
subset), the same images for every method. A profile can set ``fractions`` and additional methods (``also``). Teacher
and head are trained on all images. The pair is vgg13/vgg8. Cost with the paper's recipe: a teacher, a head, and 16
students per seed; the students with all images are part of table 3. Expected: SSKD ahead everywhere, by about 7 points
at 25 % (claim C8). The paper's numbers are not available.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label

PAIR = "vgg13/vgg8"
METHODS = ("kd", "at", "crd", "sskd")


def cells(specs: SpecBuilder) -> list[Cell]:
    profile = specs.profile
    split, most = profile.split, max(profile.fractions, default=1.0)
    result = []
    for method in [*specs.paper_methods(METHODS), *profile.also]:
        for fraction in profile.fractions:
            part = split.model_copy(update={"fraction": split.fraction * fraction})
            epochs = round(profile.recipe.epochs * most / fraction) if profile.equal_steps else None
            result += specs.students(
                PAIR, method_label(method), f"{100 * fraction:g}%", method, split=part, epochs=epochs
            )
    return result


BENCHMARKS.register("fig4a")(
    Benchmark("fig4a", "Figure 4a: few-shot", cells, columns="share of training images", figure="lines")
)
