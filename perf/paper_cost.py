"""What the paper's recipe costs on one GPU: counted multiply-adds of every pair, and hours at an assumed rate.

python -m perf.paper_cost > docs/paper_cost.md
"""

from benchmarks.cost import TRAINING, forward_multiply_adds
from benchmarks.profiles import split_pair
from benchmarks.tables import table3, table4

IMAGES, EPOCHS, HEAD_EPOCHS, VIEWS = 50_000, 240, 60, 4
RATE = 10e12  # FLOP/s that training is assumed to sustain


def main() -> None:
    text = f"""# What the paper's recipe costs on one GPU

An estimate: no GPU was measured. Multiply-adds of convolutions and linear layers are counted at 32 x 32
(`python -m perf.paper_cost`). Assumed: a training step is {TRAINING} forward passes, the frozen teacher's one; SSKD and
the head see {VIEWS} views of each image; {IMAGES:,} images; {EPOCHS} epochs, {HEAD_EPOCHS} of the head; two FLOP a
multiply-add; {RATE / 1e12:.0f} TFLOP/s sustained, which small networks at batch 64 often do not reach; loading and
evaluation left out. `--dry-run` takes the rate of your own finished runs instead.
"""
    print(text)
    print("T multiply-adds an epoch; in brackets hours for the whole training.\n")
    print("| pair | teacher | head | student alone | KD | SSKD |\n| --- | --- | --- | --- | --- | --- |")
    for pair in (*table3.PAIRS, *table4.PAIRS):
        teacher, student = (forward_multiply_adds(name, 32) for name in split_pair(pair))
        work = {
            "teacher": (TRAINING * teacher, EPOCHS),
            "head": (VIEWS * teacher, HEAD_EPOCHS),
            "alone": (TRAINING * student, EPOCHS),
            "KD": (TRAINING * student + teacher, EPOCHS),
            "SSKD": (VIEWS * (TRAINING * student + teacher), EPOCHS),
        }
        cells = [
            f"{each * IMAGES / 1e12:.1f} ({2 * each * IMAGES * epochs / RATE / 3600:.1f} h)"
            for each, epochs in work.values()
        ]
        print(f"| {pair} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
