"""Figure 4a: students that see only a part of the training images.

    python run_all.py --profile paper --only fig4a

KD, AT, CRD and SSKD with 25, 50, 75 and 100 % of every class (of the profile's training images, if it takes a part
only; a profile may name other ``fractions``, and methods beside these with ``also``); the same images for every
method. Teacher and head are trained on all images. The pair is vgg13/vgg8. Cost in the paper's recipe: a teacher and a
head, then 16 students a seed, the full ones being table 3's. Expect SSKD ahead everywhere and by about 7 points at
25 % (claim C8). The paper's figure was not at hand as numbers.
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
