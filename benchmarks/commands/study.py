"""Python interface of the suite: ``sskd.compare`` and ``sskd.plan``, for notebooks and scripts.

A study is a profile that is made from arguments; its runs, report and page are those of ``run_all.py``. A second call
with the same arguments resumes.
"""

import base64
import inspect
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from typing_extensions import Required, TypedDict, Unpack

from benchmarks.commands.main import make_parser
from benchmarks.commands.request import Request, job_of, read_request, save_request, write_yaml
from benchmarks.commands.run import ended, execute
from benchmarks.dispatch.local import concurrency_of
from benchmarks.planning.cost import plan_cost
from benchmarks.planning.plan import statuses
from benchmarks.report.style import styles_of
from benchmarks.statistics.comparison import RULE
from benchmarks.statistics.comparison import compare as compare_values
from benchmarks.statistics.intervals import is_equivalent
from benchmarks.tables.spec_builder import run_label
from sskd.errors import UserError, unknown
from sskd.formatting import plural
from sskd.methods import METHODS, Method
from sskd.networks import NETWORKS

BENCHMARK = "comparison"


class Gap(NamedTuple):
    """Difference first - second in points of top-1. The interval is nan for fewer than three seeds.

    n: the smaller number of seeds. verdict: the better method's name, "equivalent" or "undecided".
    """

    first: str
    second: str
    mean: float
    lower: float
    upper: float
    n: int
    verdict: str

    def __repr__(self) -> str:
        interval = f", 95 % interval {self.lower:+.1f} to {self.upper:+.1f}" if self.lower == self.lower else ""
        ahead = f"decided, {self.verdict} is ahead" if self.verdict in (self.first, self.second) else self.verdict
        return f"{self.first} - {self.second}: {self.mean:+.1f} points{interval}, {plural(self.n, 'seed')}: {ahead}"


class Study(NamedTuple):
    """A trained comparison. Jupyter shows its table and its figure."""

    folder: Path
    """The report's folder; the runs are in ``runs/`` below it."""

    @property
    def page(self) -> Path:
        """The page to open in a browser."""
        return self.folder / "index.html"

    @property
    def table(self) -> pd.DataFrame:
        """Returns the page's table: a row per method, with means and standard deviations over the finished seeds."""
        return pd.read_csv(self.folder / f"{BENCHMARK}.csv").dropna(axis="columns", how="all")

    @property
    def runs(self) -> pd.DataFrame:
        """Returns a row per run: method, seed, accuracies, seconds, machine."""
        return pd.read_csv(self.folder / "runs.csv", low_memory=False)

    def _finished(self) -> pd.DataFrame:
        runs = self.runs
        return runs[(runs["benchmark"] == BENCHMARK) & (runs["state"] == "finished")]

    def accuracies(self, method: str, epoch: str = "last") -> dict[int, float]:
        """Returns top-1 in percent by seed, at the "last" or the "best" epoch. Raises UserError for a method without
        finished runs."""
        finished = self._finished()
        rows = {str(row).lower(): str(row) for row in finished["row"]}
        if method.lower() not in rows:
            raise unknown("method of this study", method, list(rows.values()))
        own = finished[finished["row"] == rows[method.lower()]]
        return {int(seed): float(top1) for seed, top1 in zip(own["seed"], own[f"{epoch}_top1"], strict=True)}

    def difference(self, first: str, second: str, epoch: str = "last") -> Gap:
        """Compares two methods: first - second with the interval of tables and claims (Welch's, 95 % over all looks at
        3 to 10 seeds)."""
        a, b = self.accuracies(first, epoch), self.accuracies(second, epoch)
        known = compare_values(a, b, same_method=False).estimate()
        if known.lower > 0 or known.upper < 0:
            verdict = first if known.mean > 0 else second
        else:
            verdict = "equivalent" if is_equivalent(known.lower, known.upper, RULE.margin) else "undecided"
        return Gap(first, second, *known, verdict)

    def to_latex(self) -> str:
        """Returns the table as LaTeX."""
        return (self.folder / f"{BENCHMARK}.tex").read_text(encoding="utf-8")

    def plot(self) -> Figure:
        """Returns a figure with a dot per seed and a bar at each method's mean, top-1 at the last epoch."""
        runs = self._finished()
        methods = [row for row in dict.fromkeys(map(str, runs["row"])) if row != "Teacher"]
        styles = styles_of(methods)
        figure = Figure(figsize=(6, 0.8 + 0.4 * len(methods)), layout="constrained")
        axes = figure.subplots()
        for index, name in enumerate(methods):
            values = runs["last_top1"][runs["row"] == name].astype(float)
            axes.plot(values, [-index] * len(values), "o", color=styles[name].hex, alpha=0.6)
            axes.plot([values.mean()] * 2, [-index - 0.3, -index + 0.3], color=styles[name].hex, lw=2.5)
        axes.set_yticks([-index for index in range(len(methods))], methods)
        axes.set_xlabel("top-1 accuracy in the last epoch, %")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        return figure

    def _repr_html_(self) -> str:
        drawn = io.BytesIO()
        self.plot().savefig(drawn, format="png", dpi=100)
        picture = base64.b64encode(drawn.getvalue()).decode()
        table = self.table.to_html(index=False, na_rep="", float_format=lambda number: f"{number:.2f}")
        return f'{table}<img alt="accuracy of each run" src="data:image/png;base64,{picture}">'


class Arguments(TypedDict, total=False):
    """Arguments of ``compare`` and ``plan`` besides the methods. Teacher and student are required."""

    teacher: Required[str | Path | Mapping[str, str | Path]]
    """Name of a network, which is then trained, or a file of weights that is named after its network (resnet20.pth).
    For other file names use a mapping: {"resnet20": "weights/mine.pt"}."""
    student: Required[str]
    """Name of a network."""
    dataset: str
    """Name of a data set (default: cifar100)."""
    dataset_root: str | Path
    """Folder of the data sets (default: data)."""
    fraction: float
    """Fraction of each class's training images that students use (default: 1)."""
    noise: float
    """Fraction of their labels that are replaced by wrong ones (default: 0)."""
    seeds: int | Sequence[int]
    """The number of seeds, or the seeds themselves (default: 3)."""
    recipe: Mapping[str, Any]
    """Settings of the students' recipe; they override the published ones: {"epochs": 30}."""
    profile: Mapping[str, Any]
    """Any other key of a profile: {"head_recipe": {"epochs": 20}}; ``run_all.py explain`` describes them."""
    results: str | Path
    """Folder of the study (default: results/study)."""
    cluster: str
    """Cluster on which runs execute: a name in configs/clusters or a file (default: inline, in this process)."""
    plugins: Sequence[str | Path]
    """Python files that register methods, networks or data sets."""


def compare(methods: Sequence[str | type[Method]], **arguments: Unpack[Arguments]) -> Study:
    """Trains the missing runs, writes the report, and returns it. A second call with the same arguments resumes.

    methods: names ("kd", "crd+kd", "sskd"), or your own registered Method classes. Raises UserError for invalid
    arguments, and if runs failed, after all others have ended.
    """
    request = _request(methods, arguments)
    save_request(request)
    failures = execute(job_of(request), request)
    outcome = ended(request, failures)
    if outcome.status:
        raise UserError(outcome.words)
    return Study(request.target.folder)


def plan(methods: Sequence[str | type[Method]], **arguments: Unpack[Arguments]) -> pd.DataFrame:
    """Returns the runs of ``compare``: a row per run, with its state and its estimated seconds."""
    request = _request(methods, arguments)
    runs = request.folder / "runs"
    known = statuses(request.plan, runs)
    cost = plan_cost(request.plan, runs, request.profile, concurrency_of(job_of(request).cluster))
    rows = [
        {"run": spec.id, "method": run_label(spec), "state": known[spec.id].state, "seconds": cost.seconds[spec.id]}
        for spec in request.plan.runs
    ]
    return pd.DataFrame(rows)


def _request(methods: Sequence[str | type[Method]], arguments: Arguments) -> Request:
    if unknown_keys := arguments.keys() - Arguments.__annotations__.keys():
        raise unknown("argument", min(unknown_keys), list(Arguments.__annotations__))
    for key in ("teacher", "student"):
        if key not in arguments:
            raise UserError(f"the argument {key} is missing")
    network, weights = _teacher(arguments["teacher"])
    named = [_name(method) for method in methods]
    seeds = arguments.get("seeds", 3)
    files = [str(Path(file).expanduser().resolve()) for file in arguments.get("plugins", ())]
    files += [file for method in methods if not isinstance(method, str) if (file := _file_of(method))]
    folder = Path(arguments.get("results", "results/study")).expanduser().resolve()
    content = {
        "name": folder.name,
        "about": f"Made by sskd.compare: {', '.join(named)}.",
        "dataset": {"name": arguments.get("dataset", "cifar100")},
        "benchmarks": [BENCHMARK],
        "pair": f"{network}/{arguments['student']}",
        "methods": named,
        "seeds": list(range(seeds)) if isinstance(seeds, int) else list(seeds),
        "split": {"fraction": arguments.get("fraction", 1.0), "noise": arguments.get("noise", 0.0)},
        "recipe": dict(arguments.get("recipe", {})),
        "teachers": {network: {"weights": weights}} if weights else {},
        "plugins": list(dict.fromkeys(files)),
    } | dict(arguments.get("profile", {}))
    path = folder / "study.yaml"
    write_yaml(path, content)
    words = ["run", "--profile", str(path), "--results", str(folder.parent)]
    words += ["--dataset-root", str(arguments.get("dataset_root", "data"))]
    words += ["--cluster", arguments.get("cluster", "inline")]
    return read_request(make_parser().parse_args(words))


def _teacher(teacher: str | Path | Mapping[str, str | Path]) -> tuple[str, str]:
    """Returns the network's name, and its file of weights or ""."""
    if isinstance(teacher, Mapping):
        if len(teacher) != 1:
            raise UserError('a study has one teacher: {"resnet20": "weights/mine.pt"}')
        ((network, file),) = teacher.items()
    elif str(teacher) in NETWORKS or not Path(teacher).suffix:
        return str(teacher), ""
    else:
        network, file = Path(teacher).stem, teacher
        if network not in NETWORKS:
            raise UserError(f'{teacher}: no network is named {network}; name it: teacher={{"resnet20": "{teacher}"}}')
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {path} with the teacher's weights")
    return network, str(path.resolve())


def _name(method: str | type[Method]) -> str:
    if isinstance(method, str):
        return method
    names = [name for name in METHODS if METHODS[name] is method]
    if not names:
        raise UserError(f'{method.__name__} is not registered: write @METHODS.register("name") above it')
    return names[0]


def _file_of(method: type[Method]) -> str:
    """Returns the file that another process must import to know the class. Returns "" for the suite's own methods, and
    for classes of a notebook or of the running script, which only this process knows."""
    module = inspect.getmodule(method)
    if module is None or module.__name__ == "__main__" or module.__name__.startswith("sskd."):
        return ""
    return str(module.__file__)
