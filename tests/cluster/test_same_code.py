"""Whatever checkout lies in the working folder or is installed: a suite's processes have the suite's own code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch import same_code
from benchmarks.dispatch.same_code import refuse_other_code, this_code
from sskd.errors import UserError
from tests.cluster.suite import RECIPE, Suite

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "change", [{"sskd": "/else/sskd"}, {"benchmarks": "/else/benchmarks"}, {"commit": "0" * 40}, {"commit": None}]
)
def test_other_code_is_refused_in_one_line(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_code, "code", lambda: {"commit": "1" * 40})
    refuse_other_code(this_code())
    with pytest.raises(UserError) as error:
        refuse_other_code(this_code()._replace(**change))
    assert "\n" not in str(error.value)


def test_a_commit_of_documents_alone_is_no_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("this is not a clone")
    tree = subprocess.run([*git, "rev-parse", "HEAD^{tree}"], capture_output=True, encoding="utf-8").stdout.strip()
    author = [item for who in ("AUTHOR", "COMMITTER") for item in (f"GIT_{who}_NAME=a", f"GIT_{who}_EMAIL=a@b")]
    command = ["env", *author, *git, "commit-tree", tree, "-m", "the same files"]
    other = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    refuse_other_code(this_code()._replace(commit=other))


def copy_of_code(folder: Path) -> Path:
    """Copies the part of a checkout that the processes' code needs, without modules that take seconds to import."""
    for name in ("errors", "paths", "version", "__init__"):
        (folder / "sskd").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "sskd" / f"{name}.py", folder / "sskd")
    (folder / "benchmarks" / "dispatch").mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks" / "__init__.py", folder / "benchmarks")
    for name in ("__init__", "same_code"):
        shutil.copy(ROOT / "benchmarks" / "dispatch" / f"{name}.py", folder / "benchmarks" / "dispatch")
    (folder / "run.py").write_text(STARTER, encoding="utf-8")
    return folder


STARTER = """
import multiprocessing as mp, os, subprocess, sys, time
from benchmarks.dispatch.same_code import python_that, shell_lines, start_fork_server, this_code

if __name__ == "__main__":
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(sys.argv[1:] or ["benchmarks.dispatch.same_code"])
    start_fork_server()
    print("started", flush=True)
    with context.Pool(1) as pool:
        found = [this_code(), pool.apply(this_code)]
    code = "from benchmarks.dispatch.same_code import this_code; print(*this_code(), sep='|')"
    script = "\\n".join([*shell_lines(), f'"{sys.executable}" -c "{code}"'])
    for command in (python_that(code), ["sh", "-c", script]):
        found.append(tuple(subprocess.run(command, capture_output=True, text=True).stdout.strip().split("|")))
    print(*(f"{code[0]}|{code[1]}" for code in found), "PYTHONSAFEPATH" in os.environ, sep="\\n")
"""


@pytest.mark.parametrize("working_in", ["the other", "a folder named benchmarks"])
def test_processes_import_what_their_parent_does(working_in: str, tmp_path: Path) -> None:
    """The other checkout is installed: it stands on the path that Python begins with."""
    own, other = copy_of_code(tmp_path / "it's own"), copy_of_code(tmp_path / "other")
    third = tmp_path / "third"
    (third / "benchmarks").mkdir(parents=True)
    (third / "benchmarks" / "__init__.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    folder = {"the other": other, "a folder named benchmarks": third}[working_in]
    done = subprocess.run(
        [sys.executable, str(own / "run.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(other)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.stdout.split("\n")[1:-1] == [f"{own}/sskd|{own}/benchmarks"] * 4 + ["False"], done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_fork_server_is_deaf_to_what_reaches_all(number: signal.Signals, tmp_path: Path) -> None:
    """While it imports: the process that started it decides what ends."""
    own = copy_of_code(tmp_path)
    (own / "slow_import.py").write_text("import time; time.sleep(1)", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(own / "run.py"), "slow_import"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(0.2)
    servers = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "forkserver"], capture_output=True, text=True)
    for pid in servers.stdout.split():
        os.kill(int(pid), number)
    said, errors = process.communicate(timeout=60)
    assert servers.stdout.split()
    assert said.count(f"{own}/sskd") == 4, errors
    assert errors == ""


# --- whole suites, of two whole checkouts -----------------------------------------------------------------------------


def checkout(folder: Path, name: str) -> Path:
    """A copy of the project whose results say which one it is."""
    for part in ("sskd", "benchmarks", "configs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "results" / "paper", folder / "results" / "paper")
    shutil.copy(ROOT / "run_all.py", folder)
    version = folder / "sskd" / "version.py"
    version.write_text(version.read_text(encoding="utf-8").replace('"0.1.0"', f'"{name}"'), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_suite_trains_with_its_own_checkout(processes: int, tmp_path: Path) -> None:
    own, other = checkout(tmp_path / "own", "own"), checkout(tmp_path / "other", "other")
    options = ("--cluster", "local", "--set", "cluster.runs_at_once=2")
    suite = Suite(tmp_path / "suite", *options, methods=["none"], recipe=RECIPE | {"processes": processes})
    done = subprocess.run(
        [sys.executable, str(own / "run_all.py"), *suite.command()],
        cwd=other,
        env=os.environ | {"PYTHONPATH": str(other)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    results = list(suite.runs.glob("*/result.json"))
    assert results
    assert {json.loads(file.read_text(encoding="utf-8"))["machine"]["version"] for file in results} == {"own"}
