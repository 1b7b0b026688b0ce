"""The wheel in a fresh environment, from another folder, without HOME, in a path with a space and an umlaut."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from sskd import __version__

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
RUN = ["--profile", "demo", "--only", "comparison", "--methods", "none,kd", "--seeds", "0", "--name", "two"]
RUN += ["--set", "recipe.epochs=1", "teacher_recipe.epochs=1"]


class Installed(NamedTuple):
    programs: Path
    folder: Path  # where commands are given

    def run(self, program: str, *options: str, status: int = 0) -> str:
        """Returns the output of the command. Fails for a traceback or an unexpected exit status."""
        kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "PYTHONPATH")}
        done = subprocess.run(
            [str(self.programs / program), *options],
            capture_output=True,
            text=True,
            timeout=400,
            cwd=self.folder,
            env=kept | {"OMP_NUM_THREADS": "1"},
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert done.returncode == status, said
        return said


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("wheel") / "Prüfung mit Raum"
    source, environment, folder = base / "source", base / "environment", base / "elsewhere"
    for name in ("sskd", "benchmarks", "configs", "results/paper"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base), str(source)]
    subprocess.run(build, check=True, timeout=200)
    (wheel,) = base.glob("sskd-*.whl")
    shutil.rmtree(source)

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=200)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True, timeout=200)
    (packages,) = environment.glob("lib/python*/site-packages")
    # what the package needs is taken from this environment; a clone that is installed there in place is not
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(others) + "\n", encoding="utf-8")
    return Installed(environment / "bin", folder)


def test_the_code_is_the_installed_one(installed: Installed) -> None:
    what = (
        "import benchmarks.analysis.published as b, sskd; print(b.__file__, sskd.__file__, len(b.published('table3')))"
    )
    *files, numbers = installed.run("python", "-c", what).rsplit(" ", 1)
    assert files[0].count("environment") == 2
    assert int(numbers) > 50  # the paper's
    for program in ("sskd-suite", "sskd"):
        assert installed.run(program, "--version") == f"sskd {__version__}\n"
        assert installed.run(program, "--help").startswith(f"usage: {program} ")


def test_lists_plans_and_reports_without_a_run(installed: Installed) -> None:
    for kind in ("methods", "networks", "profiles"):
        assert installed.run("sskd-suite", "list", kind)
    assert "stage 1" in installed.run("sskd-suite", "plan", "--profile", "smoke")
    assert "nothing to report" in installed.run("sskd-suite", "report", "--profile", "smoke", status=2)
    assert "unknown profile 'smoek'" in installed.run("sskd-suite", "--profile", "smoek", status=2)
    assert "unknown network 'resnet9'" in installed.run(
        *("sskd", "evaluate", "--network", "resnet9", "--weights", "x.pth", "--dataset", "digits"), status=2
    )


def test_training_and_evaluation(installed: Installed) -> None:
    assert "index.html" in installed.run("sskd-suite", *RUN)
    assert "index.html" in installed.run("sskd-suite", "report", *RUN)
    results = installed.folder / "results" / "demo"
    (run,) = (results / "runs").glob("student-*-kd-*")
    machine = json.loads((run / "result.json").read_text())["machine"]
    assert (machine["version"], machine["commit"], machine["dirty"]) == (__version__, None, None)
    assert {"torch", "pydantic", "jinja2", "pillow"} <= machine["packages"].keys()
    assert "| KD |" in (results / "reports" / "two" / "comparison.md").read_text()
    (last,) = run.glob("last.safetensors")
    measured = installed.run(
        *("sskd", "evaluate", "--network", run.name.split("-")[1]),
        *("--weights", str(last), "--dataset", "digits16", "--json"),
    )
    assert json.loads(measured)["images"] > 100


def test_processes_of_runs_have_the_installed_code(installed: Installed, tmp_path: Path) -> None:
    """Whatever packages of these names lie where the command is given."""
    for name in ("sskd", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('another package')", encoding="utf-8")
    here = installed._replace(folder=tmp_path)
    here.run("sskd-suite", *RUN[:4], "--methods", "none", *RUN[6:], "cluster.runs_at_once=2", "recipe.batch_size=32")
    (result,) = (tmp_path / "results" / "demo" / "runs").glob("student-*/result.json")
    assert json.loads(result.read_text(encoding="utf-8"))["machine"]["version"] == __version__
    assert (tmp_path / "results" / "demo" / "jobs" / "local.log").exists()  # in a process of its own
