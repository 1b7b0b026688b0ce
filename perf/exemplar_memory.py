"""Memory of the exemplar task on all of CIFAR-100: 50,000 classes.

    python -m perf.exemplar_memory

Peak resident memory above a process that only made the features, for one step of the head stage and one of a
student's transfer (both heads, scores, gradients and SGD's momentum), 64 images in four views.
"""

import argparse
import json
import resource
import subprocess
import sys

import torch

from sskd.config.settings import PretextSettings
from sskd.data.batch import Batch
from sskd.pretext import PRETEXTS, PretextContext
from sskd.pretext.base import TransferConfig

IMAGES, VIEWS = 64, 4


def step(stage: str, classes: int, width: int) -> None:
    rows = IMAGES * VIEWS
    torch.manual_seed(0)
    images = torch.empty(rows, 3, 1, 1)
    batch = Batch(images, torch.zeros(IMAGES, dtype=torch.long), torch.arange(IMAGES), None, torch.Generator())
    vector = torch.randn(rows, width, requires_grad=True)
    if stage == "nothing":
        return
    student, teacher = (
        PRETEXTS["exemplar"](PretextSettings(name="exemplar"), PretextContext(width, classes)) for _ in range(2)
    )
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, fused=True)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        if stage == "head":
            loss, _ = student.loss(student(vector), batch)
        else:
            with torch.no_grad():
                teacher_output = teacher(vector)
            loss = student.transfer(student(vector), teacher_output, batch, TransferConfig(0.5, 1.0, "kl")).loss
        loss.backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=256, help="of the pooled features")
    parser.add_argument("--stage", choices=("nothing", "head", "student"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        step(options.stage, options.classes, options.width)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    peak = {}
    for stage in ("nothing", "head", "student"):
        command = [sys.executable, "-m", "perf.exemplar_memory", "--stage", stage]
        command += ["--classes", str(options.classes), "--width", str(options.width)]
        peak[stage] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for stage in ("head", "student"):
        row = {"stage": stage, "classes": options.classes, "width": options.width}
        print(json.dumps(row | {"mb": round(peak[stage] - peak["nothing"])}))


if __name__ == "__main__":
    main()
