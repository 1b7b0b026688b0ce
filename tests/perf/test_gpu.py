"""python -m perf.gpu without a GPU: its parts go on where they stopped, its cell is the paper's, and on the CPU, and on
a library that stands in for a GPU, the whole command runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.profiles.read import read_profile
from benchmarks.tables.spec_builder import SpecBuilder
from perf.cases import all_cases
from perf.gpu.__main__ import NEEDED, PARTS, main, missing
from perf.gpu.cell import cell_spec
from perf.gpu.items import Measurement, read_part, run_part
from perf.gpu.parity import CpuDraws
from perf.gpu.report import write_report
from perf.gpu.sizes import FULL, SMALL
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.pretext import PRETEXTS

ROOT = Path(__file__).parents[2]
# what a rented machine lacks, and need not have: as if it were not there
WITHOUT = ("submitit", "benchmarks", "pandas", "matplotlib", "seaborn", "jinja2")
BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({WITHOUT}))"


def measurement(out: Path, **changes: Any) -> Measurement:
    return Measurement(ROOT / "data", out, torch.device("cpu"), SMALL, "", lambda: False)._replace(**changes)


def run(options: list[str], *before: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, where only what is needed can be imported."""
    start = f"sys.argv = ['perf.gpu', *{options!r}]; import runpy; runpy.run_module('perf.gpu', run_name='__main__')"
    return subprocess.run(
        [*before, sys.executable, "-c", f"{BLOCKED}; {start}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
    )


def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert missing() == ""
    monkeypatch.setitem(NEEDED, "no_such_module", "no-such-package")
    monkeypatch.setattr(sys, "argv", ["perf.gpu", "--out", str(tmp_path)])
    assert main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("perf.gpu: this Python has no no-such-package: pip install no-such-package;")


def test_neither_the_trainer_nor_the_measurements_need_the_suite() -> None:
    """All that they import, at once, where submitit and the suite's own packages cannot be imported."""
    files = [*(ROOT / "sskd").rglob("*.py"), *(ROOT / "perf" / "gpu").rglob("*.py")]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}
    code = f"{BLOCKED}; import importlib; [importlib.import_module(name) for name in {sorted(names)}]"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_cell_is_the_papers(tmp_path: Path) -> None:
    """The very runs of --profile paper: their ids are those of the table."""
    specs = SpecBuilder(read_profile("paper", []))
    (tmp_path / "cifar100.npz").touch()
    full = measurement(tmp_path, sizes=FULL, root=tmp_path)
    for name in ("sskd", "kd"):
        wanted = specs.student(("resnet56", "resnet20"), specs.method(name), seed=0)
        assert cell_spec(full, name).id == wanted.id


def test_every_method_and_task_is_a_case() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases)
    assert {case.method for case in cases if case.role == "student"} == set(METHODS)
    assert {case.pretext for case in cases if case.role == "head"} == set(PRETEXTS)
    views = {(case.pretext, case.transformation) for case in cases if case.pretext == "contrastive"}
    assert views == {("contrastive", "rotation"), ("contrastive", "paper")}


def test_items_are_measured_once_and_failures_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def good() -> dict[str, Any]:
        calls.append("good")
        return {"value": 1}

    def bad() -> dict[str, Any]:
        calls.append("bad")
        raise ZeroDivisionError("on purpose")

    assert run_part("machine", {"bad": bad, "good": good}, measurement(tmp_path), {"device": "a"})
    assert run_part("machine", {"bad": bad, "good": good}, measurement(tmp_path), {"device": "a"})
    assert calls == ["bad", "good", "bad"]
    found = read_part(tmp_path, "machine")
    assert found["items"]["bad"]["error"].startswith("ZeroDivisionError: on purpose")
    assert found["sessions"] == [{"device": "a"}]
    assert not run_part("machine", {"new": good}, measurement(tmp_path, time_is_up=lambda: True), {})
    with pytest.raises(UserError, match="measured with other settings.*another --out"):
        run_part("machine", {"new": good}, measurement(tmp_path, sizes=FULL), {})
    (tmp_path / "machine.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_part(tmp_path, "machine")


def test_draws_of_the_cpus_generator_are_moved() -> None:
    """Random numbers that methods draw for a device are those of the CPU's generator."""
    theirs, ours = (torch.Generator().manual_seed(3) for _ in range(2))
    wanted = torch.randint(2**62, (4,), generator=theirs)
    keys = torch.empty(5, dtype=torch.int32).random_(generator=theirs)
    with CpuDraws():
        assert torch.equal(torch.randint(2**62, (4,), generator=ours, device="cpu"), wanted)
        assert torch.randint(9, (4,), generator=torch.Generator(), device="meta").is_meta
        assert torch.empty(5, dtype=torch.int32, device="meta").random_(generator=torch.Generator()).is_meta
        assert torch.equal(torch.empty(5, dtype=torch.int32).random_(generator=ours), keys)


def test_aims_are_judged_and_failures_told(tmp_path: Path) -> None:
    """Uses invented measurements."""

    def write(part: str, **items: Any) -> None:
        data = {"sessions": [], "items": items, "settings": {"pair": "resnet56/resnet20", "batch": 64, "rounds": 3}}
        (tmp_path / f"{part}.json").write_text(json.dumps(data))

    fast = {"milliseconds": 3.25, "turns": [3.0, 3.25, 4.0], "images_per_second": 19692.0, "times_plain": 9.5}
    write("machine", versions={"text": "torch"})
    write("rates", **{"student, sskd": {"contestants": {"graph bf16": fast}}, "student, kd": {"error": "Oops: no"}})
    bad = write_report(tmp_path, PARTS)
    assert bad == ["rates, student, kd: Oops: no"]
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| SSKD step as one graph, bf16: at most 3.5 ms | 3.25 | yes |" in lines
    assert "| at least 10 times the plain loop's images/s | 9.50 | no |" in lines
    assert "| student, sskd | graph bf16 | 3.25 | 3.00 to 4.00 | 19692 | 9.50 |" in lines
    assert "- not measured: steps, parity, exact, cell" in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "machin"], "unknown part 'machin'"),
        (["--teacher", "/no/such"], "there is no file /no/such"),
        (["--device", "cpu"], "--device cpu --small"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["perf.gpu", "--out", str(tmp_path / "out"), *options])
    assert main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.slow
def test_on_the_cpu_it_ends_with_a_report_and_goes_on(tmp_path: Path) -> None:
    """Stopped at once and given again; then nothing is left, and nothing is measured twice."""
    options = ["--device", "cpu", "--small", "--out", str(tmp_path)]
    done = run([*options, "--minutes", "0"])
    assert done.returncode == 3
    assert "unfinished: machine, steps, parity, exact, rates, cell" in done.stdout
    done = run(options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = (tmp_path / "report.md").read_text()
    assert "the numbers are meaningless" in report
    parts = {part: read_part(tmp_path, part) for part in PARTS}
    assert all(data["items"] for data in parts.values())
    assert set(parts["steps"]["items"]) >= set(METHODS)
    assert run(options).returncode == 0
    assert {part: read_part(tmp_path, part) for part in PARTS} == parts


@pytest.mark.slow
def test_on_a_null_gpu_nothing_waits_and_all_is_captured(tmp_path: Path, null_gpu: tuple[str, ...]) -> None:
    """The null GPU computes nothing, but records all requests to the device."""
    done = run(
        ["--small", "--device", "cuda", "--parts", "machine,steps,parity,rates", "--out", str(tmp_path)],
        *null_gpu,
    )
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    assert "computes nothing" in (tmp_path / "report.md").read_text()
    parts = {part: read_part(tmp_path, part)["items"] for part in PARTS}
    failed = {(part, name) for part, items in parts.items() for name, found in items.items() if "error" in found}
    assert failed == set()
    stages = {(name, stage): found for name, item in parts["steps"].items() for stage, found in item["stages"].items()}
    assert len(stages) > len(list(METHODS))
    eager = {place: found for place, found in stages.items() if found != {"waits": "", "captured": ""}}
    on_host = {(name, "main") for name in METHODS if METHODS[name].draws_on_host}
    assert {place: found["waits"] for place, found in eager.items()} == dict.fromkeys(on_host, "")
    variants = set(parts["rates"]["student, sskd"]["contestants"])
    assert variants == {"eager fp32", "eager bf16", "graph fp32", "graph bf16"}
    assert set(parts["rates"]) >= {
        f"{runs} at once, {how}" for runs in SMALL.parallel_runs for how in ("eager", "graph")
    }
