"""README and docs are true: their files are written into a fresh folder, and their commands given there as they stand.

What cannot be had here (CIFAR-100, GPUs, Slurm, a download) is only planned, as declared below.
The fast tests plan everything; the slow ones run it.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import sskd.__main__
from benchmarks.commands.main import main, make_parser, with_verb
from benchmarks.planning import cost
from sskd.runs.spec import spec_yaml
from tests import small
from tests.docs.reading import DOCUMENTS, ROOT, read

# commands that are only planned: by what they have in them
PLANNED = {
    r"--profile paper": "days, and CIFAR-100 or ImageNet",
    r"start=torchvision": "a download",
    r"-m sskd evaluate .* cifar100": "CIFAR-100, and weights that the reader has",
    r"--profile (miniature|tuned)": "hours, CIFAR-100, and the authors' weights",
    r"--cluster (slurm|local)": "Slurm, GPUs: tests/cluster runs both",
    r"(status|watch|cancel) paper": "nobody has started it",
}
# commands that are not run: their options are looked at where they are ours
NOT_RUN = {
    r"^make |^python3 -m venv|pip ": "sets up an environment: .ci/run does, and tests/test_wheel.py",
    r"^python -m perf\.": "measures for minutes to hours",
    r"^python image_folder\.py FOLDER": "a folder of the reader's own: tests/docs/test_examples.py makes one",
    r"python docs/generate\.py": "would write into docs/",
    r"^python -m sskd evaluate .*--dataset cifar100": "CIFAR-100",
    r"^python -m sskd\.data\.sort_val": "ImageNet: tests/data sorts a made one",
    r"-m pytest": "tests",
    r"-m tests\.docs\.tour": "would write into docs/; tests/docs/test_tour.py runs the notebook",
}
# commands of what those before them have trained: the fast tests look at their options, the slow ones run them
OF_RESULTS = {
    r"run_all\.py (submit|verify|merge) ": "there is nothing trained",
    r"run_all\.py (status|watch|cancel) \w": "there is no such request",
}
BY_NAME = {path.name: path for path in DOCUMENTS}


def in_fresh_folder(document: str, folder: Path) -> list[str]:
    """Writes the document's files, and what the reader has, into ``folder``; returns the commands."""
    read_document = read(BY_NAME[document])
    for name, content in read_document.files.items():
        (folder / name).write_text(content)
    (folder / "run_all.py").symlink_to(ROOT / "run_all.py")
    if document in ("README.md", "verify.md"):
        shutil.copytree(ROOT / "results" / "submissions", folder / "results" / "submissions")
    if document == "verify.md":
        shutil.copytree(ROOT / "results" / "miniature", folder / "results" / "miniature")
    if document == "gpu.md":
        recipe = small.RECIPE | {"batch_size": 16}
        (folder / "spec.yaml").write_text(spec_yaml(small.spec(small.teacher(recipe=recipe))))
    if document == "your_own.md":
        (folder / "released").mkdir()
        random = np.random.default_rng(0)
        for part, number in (("train", 40), ("test", 10)):
            for place, name in enumerate(("cat", "dog", "owl")):
                (folder / "images" / part / name).mkdir(parents=True)
                for i in range(number):
                    pixels = random.integers(0, 80, (32, 32, 3), dtype=np.uint8)
                    pixels[..., place] += 100
                    Image.fromarray(pixels).save(folder / "images" / part / name / f"{i}.png")
        np.save(folder / "few.npy", np.arange(200))  # as lists.py makes them
        (folder / "noisy.json").write_text(str([number % 10 for number in range(1433)]), encoding="utf-8")
    return read_document.commands


def matches(command: str, table: dict[str, str]) -> bool:
    return any(re.search(pattern, command) for pattern in table)


@pytest.mark.parametrize("document", BY_NAME)
def test_every_block_says_what_file_it_is(document: str) -> None:
    found = read(BY_NAME[document])
    assert found.nameless == []
    for name, content in found.files.items():
        if name.endswith(".py"):
            compile(content, name, "exec")
        else:
            assert isinstance(yaml.safe_load(content), dict)


@pytest.mark.parametrize("document", BY_NAME)
def test_every_command_can_be_given(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cost, "measure_throughput", lambda *_: 1e9)  # each plan would take its time
    for command in in_fresh_folder(document, tmp_path):
        words = shlex.split(command)
        if words[:2] == ["python", "run_all.py"] and matches(command, OF_RESULTS):
            make_parser().parse_args(words[2:])
        elif words[:2] == ["python", "run_all.py"]:
            plan(command, words[2:], capsys)
        elif matches(command, NOT_RUN):
            check_options(command, words)
        elif words[:3] == ["python", "-m", "sskd"]:
            sskd.__main__._parser().parse_args(words[3:])
        else:
            assert words[0] == "python", command
            assert (tmp_path / words[1]).is_file(), command


def plan(command: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Plans what the command would do. It may lack weights that the reader has to get, or to make."""
    verb, *words = with_verb(options)
    make_parser().parse_args([verb, *words])
    if verb in ("run", "decide", "export", "report", "watch", "cancel") or "paper" in words:
        verb, words = "plan", requested(words)
    if "paper" in words and "--only" not in words:  # thousands of runs, which tests/benchmarks/test_planner.py plans
        words = [*words, "--only", "comparison"]
    status = main([verb, *words, *(["--plan"] if verb == "tune" else [])])
    shown = capsys.readouterr()
    lacks = "no weights file" in shown.err and "stage 1: " in shown.out and "miniature" in words
    assert status == 0 or (status == 2 and lacks), (command, shown.err)


def requested(words: list[str]) -> list[str]:
    """The options that choose runs, of any verb's."""
    chosen = make_parser().parse_args(["plan"])
    given: list[str] = []
    for word in words:
        name = word.lstrip("-").replace("-", "_")
        starts = word.startswith("--")
        if starts and hasattr(chosen, name):
            given.append(word)
        elif starts:
            given.append("")  # with what follows it
        elif given and given[-1]:
            given.append(word)
    return [word for word in given if word]


def check_options(command: str, words: list[str]) -> None:
    """Checks a measurement that is not run: its module exists and has the named options."""
    if words[1:2] == ["-m"] and words[2].startswith(("perf.", "benchmarks.")):
        spec = importlib.util.find_spec(words[2])
        if spec and spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{words[2]}.__main__")
        assert spec, command
        assert spec.origin
        source = Path(spec.origin).read_text()
        for word in words[3:]:
            assert not word.startswith("--") or f'"{word}"' in source, command
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) & set(targets), command


@pytest.mark.slow
@pytest.mark.parametrize("document", BY_NAME)
def test_every_command_runs_as_it_stands(document: str, tmp_path: Path) -> None:
    commands = in_fresh_folder(document, tmp_path)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for command in commands:
        if matches(command, NOT_RUN) or matches(command, PLANNED):
            continue
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
        )
        # of a record from another kind of machine
        undecided = "run_all.py verify" in command and done.returncode == 2 and ": undecided; " in done.stdout
        assert done.returncode == 0 or undecided, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    written = {path.name for path in tmp_path.glob("results/*/reports/*")}
    expected = {
        "add_a_method.md": {"comparison_methods=kd,sskd,cosine_plugin=cosine"},
        "add_a_benchmark.md": {"kd_temperature_plugin=kd_temperature"},
    }
    assert expected.get(document, set()) <= written
