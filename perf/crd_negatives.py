"""CRD's step without its networks: draw, scores, loss, gradient, banks. The naive way and ours, in one run.

    python perf/crd_negatives.py [--threads 2] [--json]

naive: per sample numpy.random.choice among the other classes, then the bank rows gathered (B x K x 128 floats
a side). ours: sskd.methods.memory_bank and crd. Each runs in a process of its own; memory is the peak resident size
above that process's size when all is set up, before the first step.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

# torch is imported only where a variant runs: a child begins with its parent's peak memory on record


def naive_step(banks: Any, embed_s: Any, embed_t: Any, indices: Any, negatives: int) -> Callable[[], Any]:
    """As the published loader and memory: np.random.choice per sample, rows gathered from both banks."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    labels = banks.labels.numpy()
    others = [np.flatnonzero(labels != c) for c in range(int(labels.max()) + 1)]
    constants: list[float] = []

    def step() -> Any:
        drawn = []
        for i in indices.tolist():
            own = others[labels[i]]
            drawn.append(np.hstack([[i], np.random.choice(own, negatives, replace=negatives > len(own))]))
        contrasts = torch.from_numpy(np.stack(drawn))
        total = torch.zeros(())
        for side, (embedding, bank) in enumerate(((embed_s, banks.teacher), (embed_t, banks.student))):
            scores = (torch.bmm(bank[contrasts], embedding[:, :, None]).squeeze(2) / 0.07).exp()
            if len(constants) <= side:
                constants.append(scores.mean().item() * len(bank))
            scores = scores / constants[side]
            noise = negatives / len(bank)
            positive, negative = scores[:, :1], scores[:, 1:]
            chances = (positive / (positive + noise + 1e-7)).log().sum()
            total = total - (chances + (noise / (negative + noise + 1e-7)).log().sum()) / len(indices)
        total.backward()
        with torch.no_grad():
            for embedding, bank in ((embed_s, banks.student), (embed_t, banks.teacher)):
                bank[indices] = F.normalize(0.5 * bank[indices] + 0.5 * embedding, dim=1)
        return total

    return step


def our_step(banks: Any, embed_s: Any, embed_t: Any, indices: Any, negatives: int) -> Callable[[], Any]:
    import torch

    from sskd.methods.crd import contrast_scores, contrastive_loss

    generator = torch.Generator().manual_seed(0)
    constants: list[Any] = []

    def step() -> Any:
        contrasts = banks.draw(indices, negatives, "exact", generator)
        scores = [contrast_scores(embed_s, banks.teacher, contrasts, 0.07)]
        scores.append(contrast_scores(embed_t, banks.student, contrasts, 0.07))
        if not constants:
            constants.extend(s.detach().mean() * len(banks.labels) for s in scores)
        losses = [contrastive_loss(s / z, len(banks.labels)) for s, z in zip(scores, constants, strict=True)]
        total = losses[0] + losses[1]
        total.backward()
        banks.update(indices, embed_s.detach(), embed_t.detach(), momentum=0.5)
        return total

    return step


VARIANTS = {"naive": naive_step, "ours": our_step}


def measure(variant: str, batch: int, negatives: int, images: int, steps: int, threads: int) -> dict[str, Any]:
    """Milliseconds per step (mean after one warm-up) and peak megabytes above the set-up."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from sskd.methods.memory_bank import Banks

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    np.random.seed(0)
    banks = Banks(torch.arange(images) % 100, 100, 128)
    embed_s, embed_t = (F.normalize(torch.randn(batch, 128), dim=1).requires_grad_() for _ in range(2))
    step = VARIANTS[variant](banks, embed_s, embed_t, torch.randperm(images)[:batch], negatives)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first = step().item()
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    milliseconds = (time.perf_counter() - begin) / steps * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "variant": variant,
        "threads": threads,
        "ms_per_step": round(milliseconds, 1),
        "peak_mb": round((peak - before) / 1024),  # Linux gives kilobytes
        "first_loss": round(first, 4),  # alike: both compute the same, from other random negatives
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=16384)
    parser.add_argument("--images", type=int, default=50000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--variant", choices=list(VARIANTS), help="measure only this one, in this process")
    options = parser.parse_args()
    sizes = ("batch", "negatives", "images", "steps")
    if options.variant:
        for threads in options.threads:
            row = measure(options.variant, threads=threads, **{s: getattr(options, s) for s in sizes})
            print(json.dumps(row))
        return
    if not options.json:
        print(f"batch {options.batch}, K {options.negatives}, N {options.images}: mean of {options.steps} steps")
        print(f"{'variant':8} {'threads':>7} {'ms/step':>9} {'peak MB':>8} {'loss':>9}")
    for threads in options.threads:
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--variant", variant, "--threads", str(threads)]
            for size in sizes:
                command += [f"--{size}", str(getattr(options, size))]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            row = json.loads(line)
            if options.json:
                print(line)
            else:
                print(
                    f"{row['variant']:8} {row['threads']:7} {row['ms_per_step']:9} {row['peak_mb']:8} "
                    f"{row['first_loss']:9}"
                )


if __name__ == "__main__":
    main()
