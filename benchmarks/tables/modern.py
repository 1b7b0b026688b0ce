"""Methods from 2015 to 2025 on the eleven pairs of tables 3 and 4.

    python run_all.py --profile paper --only modern

Every method alone, with its published settings for the pair, with one recipe (CRD's) and the same teachers. LSKD is
logit standardisation, on each of its hosts. HSAKD* is HSAKD from a teacher that was trained with its branches. Cells of
methods that do not work with a pair are omitted (FSP needs equal widths). Cost with the paper's recipe: the teachers,
SSKD's and HSAKD's heads, and some 42 students per pair and seed, 240 epochs each; `plan` prints it. Expected: most
recent methods within a point of each other, and above KD as in their papers; the figure shows the gain over KD by year.
Published numbers with another or unknown protocol (epochs, teachers or recipe) have a column of their own.
"""

from benchmarks.tables.benchmark import BENCHMARKS, Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.comparison import PUBLISHED
from benchmarks.tables.spec_builder import SpecBuilder, method_label
from benchmarks.tables.table3 import PAIRS as SIMILAR
from benchmarks.tables.table4 import PAIRS as OTHER
from sskd.config.settings import MethodSettings
from sskd.errors import UserError
from sskd.methods import METHODS, check_pair
from sskd.networks import feature_shapes

PAIRS = SIMILAR + OTHER
HOSTS = ("kd", "dkd", "mlkd", "ctkd")  # hosts of logit standardisation
ON_HOSTS = (
    ("sdd", "dkd"),
    ("sdd", "nkd"),
    ("normkd", "dkd"),
    ("kdpp", "dkd"),
    ("dot", "crd"),
)  # additional (method, host)


def fits(method: MethodSettings, specs: SpecBuilder, pair: str) -> bool:
    """Returns True if the method works with the two networks that replace the pair."""
    teacher, student = (feature_shapes(network, settings=specs.used_as(network)) for network in specs.pair(pair))
    try:
        check_pair(method, student, teacher)
    except UserError:
        return False
    return True


def methods(specs: SpecBuilder) -> list[MethodSettings]:
    """Returns all methods by year, some of them on additional hosts, then logit standardisation on its hosts."""
    names = sorted((name for name in METHODS if METHODS[name].info.year), key=lambda name: METHODS[name].info.year)
    standardised = [specs.method(name, standardise=True) for name in HOSTS]
    hosted = [specs.method(name, host=host) for name, host in ON_HOSTS]
    return (
        [specs.method(name) for name in ("none", *(name for name in names if name != "none"))] + hosted + standardised
    )


def cells(specs: SpecBuilder) -> list[Cell]:
    pairs = specs.planned(PAIRS)
    result = [cell for pair in pairs for cell in specs.teacher_cells(pair, pair)]
    for method in methods(specs):
        for pair in pairs:
            if fits(method, specs, pair):
                result += specs.students(pair, method_label(method), pair, method)
                if method.name == "hsakd":
                    joint = specs.pretext("hsakd", joint=True)
                    result += specs.students(pair, "HSAKD*", pair, method, pretext=joint)
    return result


BENCHMARKS.register("modern")(
    Benchmark(
        "modern",
        "Methods from 2015 to 2025",
        cells,
        reference="KD",
        figure="years",
        published=(*PUBLISHED, "modern_methods.csv", "recent_methods.csv"),
        note="Published numbers since 2021 are means of several runs. MLKD was published with 480 or 960 epochs at "
        "half the learning rate, ReviewKD with its own recipe and teachers; here all methods have one recipe.",
    )
)
