"""A suite of seconds, on the command line, for the tests of clusters."""

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.commands.main import main
from tests import small

PLUGIN = str(Path(__file__).with_name("slow.py"))
RECIPE = {"epochs": 1, "batch_size": 32, "precision": "fp32", "flip": False}
TINY: dict[str, Any] = {
    "about": "a test",
    "dataset": {"name": "digits"},
    "seeds": [0, 1],
    "pair": "resnet8/resnet8",
    "split": {"fraction": 0.05},
    "head_split": {"fraction": 0.05},
    "recipe": RECIPE,
    "teacher_recipe": RECIPE | {"batch_size": 256},
    "head_recipe": RECIPE,
    "methods": ["none", "kd", "sskd"],
}
OF_SUITES: dict[str, Any] = {
    "seeds": [0],
    "recipe": RECIPE | {"epochs": 2},
    "plugins": [PLUGIN],
    "execution": {"threads": 1},  # everywhere: sums over another number of threads differ in the last digits
}
# twelve epochs of eight steps: more than a minute on Slurm, until they are let go
SLOW = {"methods": ["slow"], "split": {"fraction": 0.2}, "recipe": RECIPE | {"epochs": 12}}


class Suite:
    """A profile and its results folder. ``extra`` is given with every command: which cluster."""

    def __init__(self, folder: Path, *extra: str, **changes: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.profile = folder / "tiny.yaml"
        self.profile.write_text(yaml.safe_dump(TINY | OF_SUITES | changes))
        self.results = folder / "results"
        self.runs = self.results / "tiny" / "runs"
        self.jobs = self.results / "tiny" / "jobs"
        self.extra = extra

    def command(self, *options: str) -> list[str]:
        verb, given = (options[:1], options[1:]) if options and not options[0].startswith("--") else ((), options)
        asked = ["--profile", str(self.profile), "--results", str(self.results)]
        extra = list(self.extra)
        if verb in (("report",), ("export",)) and "--cluster" in extra:  # they run nothing
            place = extra.index("--cluster")
            del extra[place : place + 2]
        return [*verb, *asked, *extra, *given]

    def run(self, *options: str) -> int:
        return main(self.command(*options))

    def state(self, capsys: Any) -> dict[str, dict[str, Any]]:
        """Returns the output of ``status --json``, by run."""
        capsys.readouterr()
        assert self.run("status", "--json") == 0
        return {row["id"]: row for row in json.loads(capsys.readouterr().out)["runs"]}

    def folder(self, part: str) -> Path:
        """The run folder whose name has ``part`` in it."""
        (found,) = [path for path in self.runs.iterdir() if part in path.name]
        return found

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Every run's epochs, without the times."""
        return {path.name: small.metrics(path) for path in self.runs.iterdir() if (path / "result.json").exists()}

    def epochs(self, part: str) -> int:
        """Epochs that a run has done."""
        try:
            return (self.folder(part) / "metrics.jsonl").read_text().count("\n")
        except (OSError, ValueError):
            return 0

    def log(self, part: str) -> str:
        try:
            return (self.folder(part) / "log.txt").read_text()
        except (OSError, ValueError):
            return ""
