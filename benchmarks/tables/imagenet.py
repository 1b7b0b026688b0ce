"""Methods from 2015 to 2025 on ImageNet: ResNet34 to ResNet18, and ResNet50 to MobileNetV1.

    python run_all.py plan --profile paper --only imagenet --dataset-root DIR

DIR/imagenet has train and val. The teachers are torchvision's published networks, which are evaluated and not trained.
All students have CRD's recipe (100 epochs, batch 256, learning rate 0.1, weight decay 1e-4), and SSKD torchdistill's,
as in table 5. The profile has the published settings for ImageNet that are the same for both pairs (DKD, DIST,
ReviewKD, LumiNet, DOT); all other settings are those of CIFAR-100. MobileNetV1 is the network of full width with 4.2
million parameters. Papers report students of 68.87 to 70.13 for it and use different recipes, so their numbers are
shown next to ours and are not subtracted. Cost: a student for every method, pair and seed, and SSKD's heads; ``plan``
estimates it. Top-1 and top-5 of best and last epoch.
"""

from benchmarks.tables.benchmark import BENCHMARKS, TOP1, Benchmark
from benchmarks.tables.spec_builder import method_grid
from benchmarks.tables.table5 import PAIR, TOP5

PAIRS = (PAIR, "resnet50/mobilenet_v1")
METHODS = (
    *("none", "kd", "at", "crd", "sskd", "reviewkd", "srrl", "dkd", "dist", "norm", "kdpp"),
    *("wkdl", "wkdf", "dot", "sdd", "rld", "luminet"),
)

BENCHMARKS.register("imagenet")(
    Benchmark(
        "imagenet",
        "ImageNet: methods from 2015 to 2025",
        lambda specs: method_grid(specs, PAIRS, METHODS),
        reference="KD",
        measures=(*TOP1, *TOP5),
        published=("table5_imagenet.csv", "imagenet_methods.csv"),
        dataset="imagenet",
    )
)
