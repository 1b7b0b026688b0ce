"""KD and SSKD with a separate subset of the images per seed, and SSKD with a separate head per seed.

    python run_all.py --profile miniature --only robustness

In the other tables all seeds share one subset of the images (if the profile trains on a subset) and one head, as
published, so intervals over seeds do not include the variance of subset and head. Here each seed has its own subset
(split seeds 1, 2, ...), or its own head of SSKD (head seeds 1, 2, ...); the runs that share subset and head are shown
next to these. The pair is that of the comparison. Cost per seed: a student of KD, two students of SSKD and a head; the
other runs are part of the comparison. Expected: about the same difference between SSKD and KD in all three cases. Not
in the paper.
"""

from dataclasses import replace

from benchmarks.profiles.profile import split_pair
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label
from sskd.runs.spec import StudentSpec

OWN_SUBSETS, OWN_HEADS = "a subset each", "a head each"


def cells(specs: SpecBuilder) -> list[Cell]:
    profile = specs.profile
    pair, split, result = split_pair(profile.pair), profile.split, list[Cell]()
    for method in (specs.method("kd"), specs.method("sskd")):
        label = method_label(method)
        for shared in specs.students(profile.pair, label, profile.pair, method, pair):
            spec = shared.spec
            result.append(shared)
            if split.fraction < 1:
                own = split.model_copy(update={"seed": split.seed + spec.seed + 1})
                subset = specs.student(pair, method, spec.seed, split=own)
                result.append(replace(shared, row=f"{label}, {OWN_SUBSETS}", spec=subset))
            if isinstance(spec, StudentSpec) and spec.head:
                head = spec.model_copy(update={"head": spec.head.with_seed(spec.seed + 1)})
                result.append(replace(shared, row=f"{label}, {OWN_HEADS}", spec=head))
    return result


BENCHMARKS.register("robustness")(
    Benchmark(
        "robustness",
        "Other subsets of the images, and other heads",
        cells,
        rows="method and what seeds share",
        varies=("split", "head"),
        note="'a subset each': every seed trains on images of its own; 'a head each': it has a head of its own.",
    )
)
