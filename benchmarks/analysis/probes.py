"""Linear probes of finished runs: computed once, stored in the run's folder, and read into the report's frame.

A benchmark with ``probes`` has a data set per column. Probes are computed sequentially in this process after the
benchmark's runs; finished ones are kept, so the same command resumes.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.planning.cost import TRAINING, forward_multiply_adds
from benchmarks.profiles.profile import Profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from sskd.config.execution import Execution
from sskd.config.probe import ProbeSettings
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import PUBLISHED_DATASETS, DatasetInfo, dataset_info, load_dataset
from sskd.errors import UserError
from sskd.formatting import duration, plural
from sskd.networks import feature_shapes
from sskd.runs.files import read_json, write_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.probe import probe_file, probe_run


class Probe(NamedTuple):
    """A linear probe that a benchmark asks for."""

    spec: RunSpec
    dataset: DatasetSpec
    settings: ProbeSettings

    def file(self, runs: Path) -> Path:
        return probe_file(RunFolder(runs, self.spec), self.dataset, self.settings)


def probes_of(cells: Mapping[str, list[Cell]], profile: Profile) -> list[Probe]:
    """Returns the probes that the benchmarks need, without duplicates and ordered by data set."""
    found: dict[tuple[str, str], Probe] = {}
    for name, group in cells.items():
        if BENCHMARKS[name].probes:
            settings = profile.for_benchmark(name).probe
            for dataset in settings.datasets:
                for cell in group:
                    if cell.column == dataset.name:
                        found.setdefault((dataset.name, cell.spec.id), Probe(cell.spec, dataset, settings))
    return sorted(found.values(), key=lambda probe: probe.dataset.name)


class ProbesCost(NamedTuple):
    """Cost of the linear probes that are not computed yet."""

    number: int
    done: int
    multiply_adds: float
    seconds: float

    @property
    def text(self) -> str:
        work = f"{self.multiply_adds / 1e12:.3g} T multiply-adds, about {duration(self.seconds)}"
        return f"{plural(self.number, 'linear probe')}, {self.done} of them done: {work}"


def probes_cost(probes: list[Probe], runs: Path, root: Path, throughput: float) -> ProbesCost:
    """Estimates the cost: forward passes of the images and the classifier's iterations, at ``throughput`` multiply-adds
    per second."""
    work, done = 0.0, 0

    @cache  # probes are ordered by their data set, so the students' data sets alternate
    def known(dataset: DatasetSpec) -> DatasetInfo:
        return dataset_info(dataset, root)[0]

    for probe in probes:
        if probe.file(runs).exists():
            done += 1
            continue
        name, size = probe.dataset.name, known(probe.spec.dataset).image_size
        # the size of a published data set is known without reading it
        published = None if probe.dataset.path else PUBLISHED_DATASETS.get(name)
        data = published.info if published else known(probe.dataset)
        network, settings = probe.spec.network, probe.spec.used_as
        work += (data.train_images + data.test_images) * forward_multiply_adds(network, size, settings)
        width = feature_shapes(network, size, settings).embed_dim
        work += TRAINING * probe.settings.iterations * data.train_images * width * data.num_classes
    return ProbesCost(len(probes), done, work, work / throughput)


def make_probes(probes: list[Probe], runs: Path, execution: Execution, log: Callable[[str], None]) -> dict[str, str]:
    """Computes the missing probes of finished runs. Returns the reasons of failures by run and data set."""
    todo = [p for p in probes if not p.file(runs).exists() and RunFolder(runs, p.spec).is_finished()]
    failures: dict[str, str] = {}
    for number, probe in enumerate(todo, start=1):
        name = probe.dataset.name
        try:
            data = load_dataset(probe.dataset, Path(execution.dataset_root))
            measured = probe_run(probe.spec, runs, data, probe.settings, execution)
            write_json(probe.file(runs), measured)
        except UserError as error:
            failures[f"{probe.spec.id} on {name}"] = str(error)
        else:
            log(f"linear probe {number} of {len(todo)}: {probe.spec.id} on {name}: {measured['top1']:.2f} %")
    return failures


def add_probes(frame: pd.DataFrame, probes: list[Probe], benchmark: str, runs: Path) -> pd.DataFrame:
    """Adds the column "probe_top1" for one benchmark's finished runs, or the reason in "why"."""
    frame = frame.copy()
    frame["probe_top1"] = frame.get("probe_top1", float("nan"))
    files = {(probe.dataset.name, probe.spec.id): probe.file(runs) for probe in probes}
    own = frame[(frame["benchmark"] == benchmark) & (frame["state"] == "finished")]
    for index, column, run_id in zip(own.index, own["column"], own["id"], strict=True):
        file = files[column, run_id]
        try:
            if not file.exists():
                raise UserError("not probed: start run_all.py run (report does not train)")
            frame.loc[index, "probe_top1"] = float(read_json(file)["top1"])
        except (UserError, KeyError, TypeError, ValueError) as error:
            frame.loc[index, "why"] = str(error) if isinstance(error, UserError) else f"cannot read {file}: delete it"
    return frame
