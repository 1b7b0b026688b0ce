"""Tests the public names, signatures and types of ``sskd``, and that the import loads no slow modules."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sskd

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "plain_pytorch.py"

PARAMETERS = {
    "Distiller": "student teacher method * num_classes sample taps teacher_taps pooled teacher_pooled train_labels"
    " train_images head mean std augmentation recipe published gather seed passes",
    "settings": "method **values",
    "suggest_taps": "module sample teacher show",
    "train_head": "teacher loader task epochs * learning_rate train_images mean std augmentation seed",
    "load_head": "run_folder dataset_root",
    "load_student": "run_folder epoch plugins",
    "load_exported": "folder plugins",
    "build_network": "name num_classes settings images",
    "compare": "methods **arguments",
    "plan": "methods **arguments",
}
METHODS_OF_A_DISTILLER = {
    "forward": "self images labels indices * view_labels generator",
    "begin_epoch": "self epoch epochs",
    "after_step": "self",
    "initial_stages": "self",
    "study": "self loader",
    "optimizer": "self recipe",
}
OTHERS = {
    "__version__",
    "InitialStage",
    "LossTerms",
    "METHODS",
    "Method",
    "MethodContext",
    "MethodInfo",
    "MethodSettings",
    "UserError",
}


def signature(function: object) -> str:
    """Returns the names of a function's parameters; "*" stands before those that are keyword-only."""
    words: list[str] = []
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append("**" * (parameter.kind is parameter.VAR_KEYWORD) + parameter.name)
        assert parameter.annotation is not parameter.empty or parameter.name == "self", f"{function} has no type hints"
    return " ".join(words)


def test_the_public_names_and_their_parameters() -> None:
    assert set(sskd.__all__) == PARAMETERS.keys() | OTHERS
    assert {name: signature(getattr(sskd, name)) for name in PARAMETERS} == PARAMETERS
    found = {name: signature(getattr(sskd.Distiller, name)) for name in METHODS_OF_A_DISTILLER}
    assert found == METHODS_OF_A_DISTILLER
    assert all(inspect.getdoc(getattr(sskd, name)) for name in PARAMETERS)
    assert (Path(sskd.__file__).parent / "py.typed").is_file()
    assert set(sskd.__all__) <= set(dir(sskd))


def test_importing_it_is_quick() -> None:
    """Under 0.2 s of this process's own time, without torch."""
    code = (
        "import time; t = time.process_time(); import sskd, sys; print(time.process_time() - t, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, torch_is_there = done.stdout.split()
    assert float(seconds) < 0.2
    assert torch_is_there == "False"


@pytest.mark.parametrize("method", ["at"])
def test_the_example_in_plain_pytorch_runs(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Executes the example unchanged in this process, because starting another process would take longer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), method])
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 70
    exec(compile(text, str(EXAMPLE), "exec"), {"__name__": "__main__"})
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("epoch 2: loss")
    assert method in last
    assert (tmp_path / "student.pt").is_file()
