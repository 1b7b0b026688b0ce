"""Table 5: ImageNet, ResNet34 to ResNet18.

    python run_all.py --profile paper --only table5 --dataset-root DIR --set recipe.processes=4 head_recipe.processes=4

DIR/imagenet has train and val. The teacher is torchvision's published ResNet34, which is evaluated, not trained. KD,
AT, SP, CC, CRD and the student alone use CRD's recipe (100 epochs, batch 256, learning rate 0.1, weight decay 1e-4);
SSKD uses torchdistill's (the same with weight decay 5e-4 and cross-entropy weight 1, after 30 epochs of the head):
configs/profiles/paper.yaml, ``overrides.table5``. The other methods' weights are those of CIFAR-100, because the
paper's are not available. Cost: seven students per seed and one head; ``plan`` prints it. Expected: SSKD at 71.62 /
90.67, above all others (claim C6); torchdistill's own run of SSKD reached 70.09. Top-1 and top-5 at the best and the
last epoch.
"""

from benchmarks.tables.benchmark import BENCHMARKS, TOP1, Benchmark, Measure
from benchmarks.tables.spec_builder import method_grid

PAIR = "resnet34/resnet18"
METHODS = ("none", "kd", "at", "sp", "cc", "crd", "sskd")
TOP5 = (
    Measure("best_top5", "best, top-5", "top-5 accuracy of the best epoch (%)", published="top5"),
    Measure("last_top5", "last, top-5", "top-5 accuracy of the last epoch (%)"),
)

BENCHMARKS.register("table5")(
    Benchmark(
        "table5",
        "Table 5: ImageNet",
        lambda specs: method_grid(specs, (PAIR,), specs.paper_methods(METHODS)),
        measures=(*TOP1, *TOP5),
        published=("table5_imagenet.csv",),
        dataset="imagenet",
    )
)
