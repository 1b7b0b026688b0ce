"""Plugins of several files, the user's home in paths, and terminals that lack characters."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.main import make_parser
from benchmarks.dispatch.cluster import read_cluster
from benchmarks.planning.staleness import changed_since
from benchmarks.profiles.read import profile_path
from sskd.__main__ import _parser
from sskd.arguments import replace_unencodable_output
from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.optim import SCHEDULES
from sskd.runs import plugins
from sskd.runs.files import append_line
from sskd.runs.plugins import load_plugin, noted
from tests import small

PLUGIN = """
from helpers import factor
from package.inner import name
from sskd.optim import SCHEDULES

@SCHEDULES.register(name())
def schedule(recipe, progress):
    return factor()

def late():
    {late}
"""


@pytest.fixture(autouse=True)
def _no_helpers_stay() -> Iterator[None]:
    path, helpers = list(sys.path), dict(plugins._helpers)
    yield
    for name in {name for modules in plugins._helpers.values() for name in modules}:
        sys.modules.pop(name, None)
    sys.path[:] = path
    plugins._helpers.clear()
    plugins._helpers.update(helpers)


def plugin_of(folder: Path, name: str, factor: float, late: str = "import seldom; return seldom.VALUE") -> Path:
    (folder / "package").mkdir(parents=True)
    (folder / "helpers.py").write_text(f"import deeper\ndef factor(): return {factor} * deeper.ONE", encoding="utf-8")
    (folder / "deeper.py").write_text("ONE = 1", encoding="utf-8")
    (folder / "package" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "package" / "inner.py").write_text(f"def name(): return {name!r}", encoding="utf-8")
    (folder / f"seldom_{name}.py").write_text(f"VALUE = {factor}", encoding="utf-8")
    (folder / "plugin.py").write_text(PLUGIN.format(late=late), encoding="utf-8")
    return folder / "plugin.py"


def module_of(file: Path) -> Any:
    return next(
        module for name, module in sys.modules.items() if name.startswith("plugin_") and module.__file__ == str(file)
    )


def test_two_plugins_have_each_their_own_helpers(tmp_path: Path) -> None:
    one = plugin_of(tmp_path / "one", "one", 0.25, "import seldom_one; return seldom_one.VALUE")
    two = plugin_of(tmp_path / "two", "two", 0.75, "import helpers")
    load_plugin(one)
    load_plugin(two)
    spec = small.spec(small.teacher())
    assert [SCHEDULES[name](spec.recipe, 0.0) for name in ("one", "two")] == [0.25, 0.75]
    assert module_of(one).late() == 0.25  # imported in a function, later
    with pytest.raises(ImportError):  # it could be the other's
        module_of(two).late()
    other = one.with_name("second.py")
    other.write_text("import helpers; assert helpers.factor() == 0.25", encoding="utf-8")
    load_plugin(other)  # another file of a folder shares its modules
    assert module_of(other).helpers.factor is module_of(one).factor


def test_a_single_plugins_helpers_can_be_imported_at_any_time(tmp_path: Path) -> None:
    file = plugin_of(tmp_path, "one", 0.5, "import helpers; return helpers.factor()")
    load_plugin(file)
    assert module_of(file).late() == 0.5


def test_an_edit_of_a_helper_is_told(tmp_path: Path) -> None:
    load_plugin(plugin_of(tmp_path / "a", "one", 0.5))
    spec = small.spec(small.teacher(recipe=small.RECIPE | {"schedule": "one"}))
    machine = noted(spec, None)
    (entry,) = machine["plugins"]
    assert [Path(file["path"]).name for file in entry["imports"]] == [
        "deeper.py",
        "helpers.py",
        "__init__.py",
        "inner.py",
    ]
    assert changed_since(spec, {"machine": machine}) == ""
    entry["imports"][0]["sha256"] = "0" * 64
    assert changed_since(spec, {"machine": machine}) == "deeper.py has changed"


def test_a_plugin_in_a_folder_with_much_else_counts_its_own_alone(tmp_path: Path) -> None:
    (tmp_path / "lib" / "site-packages").mkdir(parents=True)
    (tmp_path / "lib" / "site-packages" / "counted_by_nobody.py").write_text("", encoding="utf-8")
    file = tmp_path / "alone.py"
    file.write_text(
        f"import sys; sys.path.append({str(tmp_path / 'lib' / 'site-packages')!r}); import counted_by_nobody", "utf-8"
    )
    load_plugin(file)
    assert not plugins._helpers[tmp_path]


def test_what_a_helper_lacks_is_the_plugins_error(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("import no_such_helper", encoding="utf-8")
    with pytest.raises(UserError, match="no_such_helper"):
        load_plugin(file)
    (tmp_path / "no_such_helper.py").write_text("", encoding="utf-8")
    assert load_plugin(file) == file


def option(name: str, *words: str) -> Callable[[str], object]:
    """Returns a function from a path to the value of the option ``name`` in a command line that ends with that path."""
    return lambda path: getattr(make_parser().parse_args([*words, path]), name)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: FromFile(network="resnet8", weights=path).weights,
        lambda path: load_plugin(path),
        lambda path: profile_path(path.replace(".py", ".yaml")),
        lambda path: f"{Path.home()}/{read_cluster(path.replace('.py', '.yaml'), []).name}.",
        option("submission", "verify"),
        option("to", "export"),
        lambda path: _parser().parse_args(["train", path]).spec,
        lambda path: _parser().parse_args(["export", path, "--to", path]).to,
        lambda path: _parser().parse_args(["evaluate", "--network", "a", "--dataset", "b", "--weights", path]).weights,
    ],
)
def test_the_users_home_in_paths(
    read: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.py").write_text("", encoding="utf-8")
    (tmp_path / "a.yaml").write_text("about: mine\nkind: inline\n", encoding="utf-8")
    assert str(read("~/a.py")).startswith(f"{tmp_path}/a.")


@pytest.mark.parametrize(
    ("text", "encoding", "printed"),
    [
        ("AT \u2020 \u00b1 0.5", "ascii", b"AT ? ? 0.5"),
        ("AT \u2020", "utf-8", b"AT \xe2\x80\xa0"),
        ("Pr\udcfcfung", "utf-8", b"Pr\xfcfung"),  # a file name in Latin-1
        ("Pr\udcc3\udcbcfung", "ascii", b"Pr\xc3\xbcfung"),
    ],
)
def test_what_a_terminal_lacks_is_no_error(
    text: str, encoding: str, printed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
    replace_unencodable_output()
    print(text, end="", flush=True)
    assert shown.getvalue() == printed


def test_a_log_takes_names_that_are_no_text(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "Pr\udcfcfung")
    assert (tmp_path / "log").read_bytes() == b"Pr\xfcfung\n"
