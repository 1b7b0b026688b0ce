"""Broken specs, profiles, cluster files and options, made by the hundred: each is one line and status 2, or valid."""

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.main import main
from benchmarks.dispatch.cluster import read_cluster
from benchmarks.profiles.read import read_profile
from sskd.errors import UserError
from sskd.runs.spec import read_spec, spec_yaml
from tests import small
from tests.cluster.suite import TINY

STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 5, 2**40, 10**30, 0.5, -2.0, 1e-300, 1e300, float("nan"), float("inf")),
    *("", "x", "a/b", "../../x", "a\nb", "é", "数", " ", "1", "null", "x" * 3000, "kd", "sskd", "resnet8"),
    *([], [[]], [None], [0, 0], ["kd", "kd"], [1.5], ["x"], [{}], [{"name": ["kd"]}], [{"name": 5}], [0.3, 0.3]),
    *({}, {"name": None}, {"name": 5}, {"name": ["kd"]}, {"name": {}}, {"name": "kd", "x": 1}, {"": 1}, {"kd": 5}),
    *({"sskd": 5}, {"contrastive": 5}, {"contrastive": {"name": 5}}, {"kd": {"name": "at"}}, {"run": {}}, {"run": 5}),
)
TEXTS = (
    *("", "- 1", "5", "null", "a: [1", "a: 1\na: 2", "\t", "%", "&a [*a]", "*a", "!!python/object:os.x {}", "a: !x 1"),
    *("[" * 3000, "a: " + "1" * 5000, "{? [a]: b}", "? {a: b}\n: c", "1: 2", "true: 1"),
    *("a: 2020-02-30", "--- 1\n--- 2"),
    *("a: !!binary aGFsbG8=", "a: !!set {b}", 'a: "\\0"', 'a: "\\ud800"', "a: 0x", "a: 99999999999999999999", "\x00"),
)
PROFILE = TINY | {
    "method_settings": {"sskd": {"t_weight": 1.0}},
    "pretext_settings": {"contrastive": {"temperature": 1.0}},
    "method_recipes": {"kd": {"decay": 0.5}},
    "learning_rates": {"resnet8": 0.1},
    "pairs": {"vgg13/vgg8": "resnet8/resnet8"},
    "also": ["none"],
    "fractions": [0.5, 1.0],
    "noise_rates": [0.0, 0.5],
    "step_costs": {"kd": 1.0},
    "overrides": {"table3": {"seeds": [3], "recipe": {"epochs": 2}, "split": {"fraction": 0.5}}},
    "teachers": {"resnet14": {"network": "resnet14", "weights": "x.pth"}},
    "execution": {"threads": 1},
}
CLUSTER = {
    "about": "a test",
    "kind": "slurm",
    "gpus_per_run": 1,
    "mem_gb": 16,
    "time": "1:00:00",
    "setup": ["true"],
    "additional_parameters": {"nice": 5},
    "retries": {"lost": 2},
    "partition": "gpu",
    "srun_args": ["--label"],
}


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside, and of the whole."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def broken(data: dict[str, Any], count: int) -> Iterator[Any]:
    """The data with a strange value somewhere, a strange key, or a key too few; the same ones every time."""
    draw = random.Random(0)
    everywhere = list(places(data))[1:]
    for _ in range(count):
        changed = copy.deepcopy(data)
        *parents, last = draw.choice(everywhere)
        target = changed
        for key in parents:
            target = target[key]
        kind = draw.random()
        if kind < 0.8:
            target[last] = draw.choice(STRANGE)
        elif kind < 0.9:
            del target[last]
        elif isinstance(target, dict):
            target[draw.choice((None, 5, True, "x", "", "../x", 0.5, "naem"))] = draw.choice(STRANGE)
        yield changed


def one_line_or_valid(read: Callable[[], object], what: object) -> bool:
    """Returns True if the input was rejected. Any exception but a one-line UserError fails the test."""
    said = ""
    try:
        read()
    except UserError as error:
        said = str(error) or "\n"
    except Exception as error:
        raise AssertionError(f"{what!r} gives {type(error).__name__}: {error}") from error
    assert "\n" not in said, what
    return bool(said)


SPEC = yaml.safe_load(spec_yaml(small.spec(small.student("sskd", with_head=True))))


@pytest.mark.parametrize(
    ("whole", "count", "read", "fewest"),
    [
        pytest.param(SPEC, 80, lambda path: read_spec(Path(path)).id, 70, id="spec"),
        pytest.param(PROFILE, 120, lambda path: read_profile(path, []), 80, id="profile"),
        pytest.param(CLUSTER, 70, lambda path: read_cluster(path, []), 45, id="cluster"),
    ],
)
def test_broken_files(
    whole: dict[str, Any], count: int, read: Callable[[str], object], fewest: int, tmp_path: Path
) -> None:
    path, refused = tmp_path / "file.yaml", 0
    for text in (*TEXTS, *map(yaml.safe_dump, broken(whole, count))):
        path.write_text(text)
        refused += one_line_or_valid(lambda: read(str(path)), text)
    assert refused > fewest


def test_broken_settings(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(PROFILE))
    draw = random.Random(1)
    keys = [".".join(map(str, place)) for place in places(PROFILE) if place]
    settings = [f"{draw.choice(keys)}={json.dumps(draw.choice(STRANGE))}" for _ in range(50)]
    settings += [f"recipe={text}" for text in TEXTS] + ["", "=", "a", ".", "..=1", "a..b=1", ".a=1", "a.=1", "\0=1"]
    refused = sum(one_line_or_valid(lambda s=setting: read_profile(str(path), [s]), setting) for setting in settings)
    assert refused > 60


@pytest.mark.parametrize(
    ("code", "message"),
    [("raise KeyError('no')", "KeyError: 'no' (own.py, line 4)"), ("import sys; sys.exit(3)", "SystemExit")],
)
def test_a_network_that_fails_when_it_is_first_built(
    code: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin, profile = tmp_path / "own.py", tmp_path / "tiny.yaml"
    plugin.write_text(f"from sskd.networks import NETWORKS\n@NETWORKS.register('own')\ndef own(classes):\n    {code}\n")
    profile.write_text(yaml.safe_dump(TINY | {"pair": "resnet8/own", "methods": ["kd"]}))
    options = ["--profile", str(profile), "--results", str(tmp_path / "r"), "--plugin", str(plugin)]
    assert main(["plan", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"network 'own' (own.py, line 2) on images of 32 x 32: {message}" in line


def test_whoever_reads_the_output_may_stop() -> None:
    """The reader ends first, as in "| head": there is no traceback, and the exit status says so."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "run_all.py", "list", "profiles"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
