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
from sskd.__main__ import main as sskd_main
from sskd.errors import UserError
from sskd.runs.spec import read_spec, spec_yaml
from tests import small
from tests.test_run_all import TINY

STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 5, 2**40, 10**30, 0.5, -2.0, 1e-300, 1e300, float("nan"), float("inf")),
    *("", "x", "a/b", "../../x", "a\nb", "é", "数", " ", "1", "null", "x" * 3000, "kd", "sskd", "resnet8"),
    *([], [[]], [None], [0, 0], ["kd", "kd"], [1.5], ["x"], [{}], [{"name": ["kd"]}], [{"name": 5}], [0.3, 0.3]),
    *({}, {"name": None}, {"name": 5}, {"name": ["kd"]}, {"name": {}}, {"name": "kd", "x": 1}, {"": 1}, {"kd": 5}),
    *({"sskd": 5}, {"contrastive": 5}, {"contrastive": {"name": 5}}, {"kd": {"name": "at"}}, {"run": {}}, {"run": 5}),
)
TEXTS = (
    *("", "- 1", "5", "null", "a: [1", "a: 1\na: 2", "\t", "%", "&a [*a]", "*a", "!!python/object:os.x {}", "a: !x 1"),
    *(
        "[" * 3000,
        "a: " + "1" * 5000,
        "{? [a]: b}",
        "? {a: b}\n: c",
        "1: 2",
        "true: 1",
        "a: 2020-02-30",
        "--- 1\n--- 2",
    ),
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


def count_refused(path: Path, contents: list[str], read: Callable[[], object]) -> int:
    refused = 0
    for text in contents:
        path.write_text(text)
        refused += one_line_or_valid(read, text)
    return refused


def as_text(items: Iterator[Any]) -> list[str]:
    return [yaml.safe_dump(item) for item in items]


def test_broken_specs(tmp_path: Path) -> None:
    whole = yaml.safe_load(spec_yaml(small.spec(small.student("sskd", with_head=True))))
    path = tmp_path / "spec.yaml"
    contents = [*TEXTS, *as_text(broken(whole, 80))]
    assert count_refused(path, contents, lambda: read_spec(path).id) > 70


def test_broken_profiles(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    contents = [*TEXTS, *as_text(broken(PROFILE, 120))]
    assert count_refused(path, contents, lambda: read_profile(str(path), [])) > 80


def test_broken_clusters(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    contents = [*TEXTS, *as_text(broken(CLUSTER, 70))]
    assert count_refused(path, contents, lambda: read_cluster(str(path), [])) > 45


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
    "options",
    [
        ["--set", "name=../../evil"],
        ["--set", "method_settings.sskd=5"],
        ["--set", "noise_rates=[0.3, 0.3]"],
        ["--set", "methods=[{name: [kd]}]"],
        ["--set", "learning_rates.resnet8=-5"],
        ["--set", "learning_rates.resnet9=0.1"],
        ["--set", "recipe=" + "[" * 3000],
        ["--set", "overrides={comparison: {recipe: {batch_size: 2, processes: 2}}}"],
        ["--set", "methods=[sskd, {name: sskd, ss_weight: 5.0}]"],
        ["--set", "head_recipe.batch_size=500"],
        ["--set", "teachers={resnet8: {network: resnet8, weights: nowhere.pth}}"],
        ["--set", "dataset={name: npz, path: nowhere.npz}"],
        ["--seeds", "0,0"],
        ["--seeds", "1]; [2"],
        ["--methods", "kd,kd"],
        ["--only", ","],
        ["--cluster", "slrum"],
        ["--cluster", "a" * 300],
        ["--plugin", "a" * 300],
        ["--plugin", "a\0.py"],
        ["--results", "a\0b"],
    ],
)
def test_broken_options(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    given = [] if "--profile" in options else ["--profile", str(path)]
    assert main(["plan", "--results", str(tmp_path / "results"), *given, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("run_all: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize(
    "options",
    [
        ["--threads", "99999999999"],
        ["--device", "meta"],
        ["--device", "cpu:3:4"],
        ["--runs", "a\0b"],
        ["--processes", "99999999999"],
    ],
)
def test_broken_options_of_the_trainer(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.yaml").write_text(spec_yaml(small.spec(small.teacher())))
    assert sskd_main(["train", str(tmp_path / "spec.yaml"), "--runs", str(tmp_path / "runs"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sskd: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise KeyError('no')",
            "network 'own' (own.py, line 2) on images of 32 x 32: KeyError: 'no' (own.py, line 4)",
        ),
        ("return 5", "network 'own' (own.py, line 2) on images of 32 x 32: AttributeError"),
        ("import sys; sys.exit(3)", "network 'own' (own.py, line 2) on images of 32 x 32: SystemExit"),
    ],
)
def test_a_network_that_fails_when_it_is_first_built(
    code: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin, profile = tmp_path / "own.py", tmp_path / "tiny.yaml"
    plugin.write_text(f"from sskd.networks import NETWORKS\n@NETWORKS.register('own')\ndef own(classes):\n    {code}\n")
    profile.write_text(yaml.safe_dump(TINY | {"pair": "resnet8/own", "methods": ["kd"]}))
    options = ["--profile", str(profile), "--results", str(tmp_path / "r"), "--plugin", str(plugin)]
    for more in (["plan"], []):
        assert main([*more, *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_whoever_reads_a_plan_may_stop(tmp_path: Path) -> None:
    """plan --json | head: no traceback, and the status of a program whose reader has gone."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"seeds": list(range(200))}))  # more than a pipe holds
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "run_all.py", "plan", "--profile", str(tmp_path / "tiny.yaml"), "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""
