"""Table 2: self-supervised task of the teacher's head.

    python run_all.py --profile paper --only table2

SSKD with exemplar, jigsaw, rotation or contrastive prediction as its pretext task. The paper uses vgg13/vgg8; the
second pair, resnet56/resnet20, was added because independent reproductions have it. Cost with the paper's recipe: per
pair a teacher, four heads (60 epochs) and four students per seed (240 epochs of several views). Expected: the order of
the tasks' own quality, exemplar < jigsaw < rotation < contrastive (claim C5), within about a point, so use five seeds.
The one available reproduction finds the four tasks within 0.2 points of each other on vgg13/vgg8.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder

PAIRS = ("vgg13/vgg8", "resnet56/resnet20")
PRETEXTS = {"exemplar": "Exemplar", "jigsaw": "Jigsaw", "rotation": "Rotation", "contrastive": "Contrastive"}


def cells(specs: SpecBuilder) -> list[Cell]:
    result = []
    for name, title in PRETEXTS.items():
        task = specs.pretext(name)
        for pair in specs.planned(PAIRS):
            result += specs.students(pair, title, pair, specs.method("sskd"), pretext=task)
    return result


BENCHMARKS.register("table2")(
    Benchmark(
        "table2",
        "Table 2: SSKD with other pretext tasks",
        cells,
        rows="pretext task",
        reference="Contrastive",
        published=("table2_pretext_tasks.csv",),
    )
)
