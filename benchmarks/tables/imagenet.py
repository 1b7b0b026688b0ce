"""Methods from 2015 to 2025 on ImageNet: ResNet34 to ResNet18, and ResNet50 to MobileNetV1.

    python run_all.py plan --profile paper --only imagenet --dataset-root DIR

DIR/imagenet has train and val. The teachers are torchvision's published networks, which are evaluated and not trained.
All students have CRD's recipe (100 epochs, batch 256, learning rate 0.1, weight decay 1e-4), and SSKD torchdistill's,
as in table 5. Methods have the settings published for ImageNet and the pair (configs/pairs), or else those of
CIFAR-100. MobileNetV1 is the network of full width with 4.2 million parameters. Papers report students of 68.87 to
70.13 for it and use different recipes, so their numbers are shown next to ours and are not subtracted. Cost: a student
for every method, pair and seed, and SSKD's heads; ``plan`` estimates it. Top-1 and top-5 of best and last epoch.
"""

from benchmarks.tables.benchmark import BENCHMARKS, TOP1, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_grid
from benchmarks.tables.table5 import PAIR, TOP5

PAIRS = (PAIR, "resnet50/mobilenet_v1")
METHODS = (
    *("none", "kd", "at", "ofd", "crd", "sskd", "reviewkd", "srrl", "semckd", "wsld", "dkd", "dist", "simkd", "fcfd"),
    *("norm", "kdpp", "nkd", "ctkd", "catkd", "mlkd", "luminet", "dot", "wttm", "sdd", "wkdl", "wkdf", "rld"),
)


def cells(specs: SpecBuilder) -> list[Cell]:
    variants = (
        specs.paper_methods(("kd",), standardise=True)
        + specs.paper_methods(("sdd", "kdpp"), host="dkd")
        + specs.paper_methods(("sdd",), host="nkd")
    )
    return method_grid(specs, PAIRS, specs.paper_methods(METHODS) + variants)


BENCHMARKS.register("imagenet")(
    Benchmark(
        "imagenet",
        "ImageNet: methods from 2015 to 2025",
        cells,
        reference="KD",
        measures=(*TOP1, *TOP5),
        published=("table5_imagenet.csv", "imagenet_methods.csv"),
        dataset="imagenet",
    )
)
