"""What the paper's recipe costs on one GPU: counted multiply-adds of every pair, and hours at an assumed rate.

python -m perf.paper_cost > docs/paper_cost.md
"""

from benchmarks.planning.cost import ASSUMED_OF_A_GPU, TRAINING, run_multiply_adds
from benchmarks.profiles.profile import split_pair
from benchmarks.profiles.read import read_profile
from benchmarks.tables import table3, table4
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.data.datasets.downloaded import KNOWN
from sskd.runs.spec import RunSpec

CIFAR100 = KNOWN["cifar100"].extent
RATE = 2 * ASSUMED_OF_A_GPU  # FLOP/s that training is assumed to sustain
# docs/gpu.md's estimate of the SSKD student of resnet56 to resnet20 on an H100, in minutes: as a graph, and eager
PAIR, AS_A_GRAPH, EAGER = "resnet56/resnet20", (8, 11), (35, 47)


def main() -> None:
    specs = SpecBuilder(read_profile("paper", []))
    epochs, head_epochs = specs.profile.recipe.epochs, specs.profile.head_recipe.epochs
    images, size = CIFAR100.train_images, CIFAR100.image_size
    text = f"""# What the paper's recipe costs on one GPU

An estimate: no GPU was measured. Multiply-adds of convolutions and linear layers are counted at {size} x {size}
(`python -m perf.paper_cost`). Assumed: a training step is {TRAINING} forward passes, the frozen teacher's one; SSKD and
the head see 4 views of each image; {images:,} images; {epochs} epochs, {head_epochs} of the head; two FLOP a
multiply-add; {RATE / 1e12:.0f} TFLOP/s sustained, which small networks at batch 64 often do not reach; loading and
evaluation left out. `plan` takes the rate of your own finished runs instead.
"""
    print(text)
    print("T multiply-adds an epoch; in brackets hours for the whole training.\n")
    print("| pair | teacher | head | student alone | KD | SSKD |\n| --- | --- | --- | --- | --- | --- |")
    sskd = 0.0
    for pair in (*table3.PAIRS, *table4.PAIRS):
        networks = split_pair(pair)
        runs: list[RunSpec] = [
            specs.teacher_runs(networks[0])[0],
            specs.head(networks[0]),
            *(specs.student(networks, specs.method(name), seed=0) for name in ("none", "kd", "sskd")),
        ]
        work = [(run_multiply_adds(run, CIFAR100), run.recipe.epochs) for run in runs]
        cells = [f"{whole / epochs / 1e12:.1f} ({2 * whole / RATE / 3600:.1f} h)" for whole, epochs in work]
        print(f"| {pair} | {' | '.join(cells)} |")
        if pair == PAIR:
            sskd = 2 * work[-1][0]
    low, high = (sskd / (60 * minutes) / 1e12 for minutes in reversed(AS_A_GRAPH))
    note = f"""
[gpu.md](gpu.md) has {AS_A_GRAPH[0]} to {AS_A_GRAPH[1]} minutes for the SSKD student of {PAIR} where this table
has {sskd / RATE / 60:.0f}, a quarter. Both are estimates, of different things. gpu.md's is for an H100 on which the
whole step is one graph, from launches and memory traffic, and comes to {low:.0f} to {high:.0f} TFLOP/s. Its own
estimate for eager steps, {EAGER[0]} to {EAGER[1]} minutes, is what {RATE / 1e12:.0f} TFLOP/s come to. This page is the
cautious one: any recent GPU, and steps that are launched kernel by kernel. Plans assume the same rate where there is
no GPU to measure, and no finished run had one."""
    print(note)


if __name__ == "__main__":
    main()
