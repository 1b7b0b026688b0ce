"""Options that are mistyped, lists on a terminal, and texts that count what they name."""

import re
from pathlib import Path

import pytest

from benchmarks.commands.list import LISTS
from benchmarks.commands.main import main as suite
from benchmarks.planning.plan import check_teachers
from benchmarks.profiles.read import profile_names, read_profile
from sskd.__main__ import main as trainer
from sskd.data.sort_val import main as sort_val
from sskd.errors import UserError
from tests import small

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("program", "command", "meant"),
    [
        (suite, "stauts", "'status'"),
        (suite, "plan --stauts", None),
        (suite, "--detac", "'--detach'"),  # no abbreviation: it would be started again in the background
        (suite, "--profil=demo", "'--profile'"),
        (suite, "list method", "'methods'"),
        (suite, "--set a=b --dataset_root x", None),
        (trainer, "evaluate --netwrok resnet20 --weights x", "'--network'"),
        (trainer, "evalute", "'evaluate'"),
        (trainer, "train spec.yaml --process 2", "'--processes'"),
        (trainer, "export run --to x --onxn", "'--onnx'"),
        (trainer, "evaluate --precision bf61", "'bf16'"),
        (sort_val, "folder --devkits x", "'--devkit'"),
    ],
)
def test_a_mistyped_option_is_one_line_with_the_right_one(
    program: object, command: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        program(command.split())  # type: ignore[operator]
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert meant is None or f"did you mean {meant}?" in error


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("columns", [60, 100])
def test_lists_are_as_wide_as_the_terminal(
    kind: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert suite(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if " " in line.strip() or len(line) < columns) <= columns
    assert lines[0] == lines[0].lstrip()


def test_the_demo_has_as_many_ways_as_is_said() -> None:
    demo = read_profile("demo", [])
    number = ("none", "one", "two", "three", "four", "five", "six", "seven")[len(demo.methods)]
    texts = {"README.md": (ROOT / "README.md").read_text(), "Makefile": (ROOT / "Makefile").read_text()}
    for name, text in {**texts, "the profile": demo.about}.items():
        assert re.findall(r"(\w+) ways", text)[:1] == [number], name


@pytest.mark.parametrize("where", ["", "overrides.table3."])
def test_a_teachers_weights_alone_are_enough(where: str, tmp_path: Path) -> None:
    """The network is the entry's key."""
    profile = read_profile("demo", [f"{where}teachers.resnet56.weights=a.pth"])
    given = profile.for_benchmark("table3").teachers["resnet56"]
    assert (given.network, given.weights) == ("resnet56", "a.pth")
    for setting, words in (
        (f"{where}teachers.resnet57.weights=a.pth", "unknown network 'resnet57'; did you mean 'resnet5?6'"),
        (f"{where}teachers.resnet56=a.pth", "teachers.resnet56"),
        (f"{where}teachers.resnet56.sha256=00", "weights"),
    ):
        with pytest.raises(UserError, match=words):
            read_profile("demo", [setting])


@pytest.mark.parametrize("name", profile_names())
def test_no_profile_names_a_file_outside_of_where_it_is_started(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message for a missing file names the setting that selects another file."""
    if name == "vit":
        pytest.importorskip("timm")
    monkeypatch.chdir("/")
    for teacher in read_profile(name, []).teachers.values():
        assert ".." not in Path(teacher.weights).parts
        assert not Path(teacher.weights).is_absolute()
        spec = small.spec(small.student("kd", teacher=teacher.model_dump(mode="json", exclude_defaults=True)))
        with pytest.raises(UserError, match=rf"no weights file \S+; .*--set teachers.{teacher.network}.weights=FILE"):
            check_teachers([spec], Path("data"))
