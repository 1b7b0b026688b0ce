"""What ImageNet's recipe (table 5) wants of 1, 4 and 8 GPUs: memory, images/s of the loader, hours. Estimates.

    python -m perf.imagenet_cost

Counted: multiply-adds, and the bytes that a forward pass of the student keeps for its backward pass (in bfloat16, from
a pass of one and of two images on the CPU). Assumed: the constants below. No GPU was measured.
"""

import torch
from torch import Tensor

from benchmarks.cost import TRAINING, forward_multiply_adds
from sskd.networks import build_network

TEACHER, STUDENT, SIZE, CLASSES = "resnet34", "resnet18", 224, 1000
IMAGES, BATCH = 1_281_167, 256
VIEWS = {"SSKD, head": 4, "SSKD, student": 4, "KD": 1}
EPOCHS = {"SSKD, head": 30, "SSKD, student": 100, "KD": 100}
SUSTAINED = 70e12  # FLOP/s of one H100 in bf16: what published rates of ResNet-50's training on it come to
DECODED = 480  # images/s of one core: half of what two gave (docs/speed.md, ImageNet's loader, one view)
CACHED = 1000  # the same with dataset.cache_size=256
BESIDE = 2.5e9  # bytes: CUDA's context, cuDNN's workspaces, what the allocator cannot use
GB = 1e9


def main() -> None:
    print(
        "| run | GPUs | images of a step on each | memory of each, GB | images/s that the loader must give, all ",
        end="",
    )
    print("together | cores that decode | with the cache | hours |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    kept = kept_bytes(STUDENT)
    for run, views in VIEWS.items():
        for gpus in (1, 4, 8):
            own = BATCH // gpus
            rate = gpus * SUSTAINED / (2 * multiply_adds(run))
            memory = memory_bytes(own * views, kept if run != "SSKD, head" else 0.0)
            cores = f"{rate / DECODED:.0f} | {rate / CACHED:.0f}"
            hours = IMAGES * EPOCHS[run] / rate / 3600
            print(f"| {run} | {gpus} | {own} x {views} | {memory / GB:.0f} | {rate:,.0f} | {cores} | {hours:.1f} |")


def multiply_adds(run: str) -> float:
    """Of one image in one step, all its views."""
    teacher, student = (forward_multiply_adds(name, SIZE) for name in (TEACHER, STUDENT))
    return VIEWS[run] * (teacher + (0 if run == "SSKD, head" else TRAINING * student))


def memory_bytes(rows: int, kept: float) -> float:
    """Of one GPU that has ``rows`` views in a step, each of which keeps ``kept`` bytes for the backward pass."""
    weights = {name: sum(p.numel() for p in build_network(name, CLASSES).parameters()) for name in (TEACHER, STUDENT)}
    learned = weights[STUDENT] * (4 + 4 + 4 + 2) if kept else 0  # weights, gradients, momentum; bf16 copies
    pixels = rows * 3 * SIZE * SIZE * (4 + 2)  # normalised float32, and bf16
    maps = 3 * rows * 64 * (SIZE // 2) ** 2 * 2  # the teacher's largest: input, output and one beside them
    return BESIDE + 2 * weights[TEACHER] + learned + pixels + max(maps, rows * kept + maps / 3)


def kept_bytes(name: str) -> float:
    """Bytes that one image's forward pass in bf16 keeps for the backward pass."""
    return float(_kept(name, 2) - _kept(name, 1))


def _kept(name: str, images: int) -> int:
    network = build_network(name, CLASSES).train().to(memory_format=torch.channels_last)
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # so that no address is used twice
        return tensor

    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(images, 3, SIZE, SIZE).to(memory_format=torch.channels_last))
    return sum(storages.values())


if __name__ == "__main__":
    main()
