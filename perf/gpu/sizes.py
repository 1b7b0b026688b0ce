"""Sizes of the measurements: for a GPU, and minimal."""

from typing import NamedTuple


class Sizes(NamedTuple):
    pair: str  # teacher/student
    batch: int  # images per step
    precision: str  # precision of the steps that are only tested
    parity_steps: int
    workers: int  # DataLoader workers of the plain loop
    warmup: int  # steps of each variant before any is timed
    steps: int  # per round
    rounds: int  # rounds of each variant
    parallel_runs: tuple[int, ...]  # numbers of parallel runs on one GPU
    parallel_seconds: float
    square: int  # size of the multiplied square matrices
    copied_mb: int
    head_epochs: int
    student_epochs: int
    rates_of: tuple[str, ...]  # methods whose student stage is timed
    compared: tuple[str, ...]  # cases whose graphed, eager and resumed runs are compared; (): all
    negatives: int  # CRD's negatives for few images; the published number for all images


FULL = Sizes(
    pair="resnet56/resnet20",
    batch=64,
    precision="bf16",
    parity_steps=20,
    workers=8,
    warmup=10,
    steps=50,
    rounds=3,
    parallel_runs=(1, 2, 4),
    parallel_seconds=10.0,
    square=8192,
    copied_mb=1024,
    head_epochs=60,
    student_epochs=240,
    rates_of=("sskd", "kd", "crd"),
    compared=(),
    negatives=256,
)
SMALL = Sizes(
    pair="resnet8/resnet8",
    batch=16,
    precision="fp32",
    parity_steps=3,
    workers=0,
    warmup=1,
    steps=1,
    rounds=2,
    parallel_runs=(1, 2),
    parallel_seconds=0.5,
    square=256,
    copied_mb=8,
    head_epochs=1,
    student_epochs=2,
    rates_of=("sskd",),
    compared=("teacher", "head contrastive (rotation)", "crd", "sskd"),
    negatives=64,
)
