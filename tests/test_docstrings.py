"""Tests that the modules, names, files and parameters that docstrings name exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("sskd/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
ENDINGS = frozenset(
    re.findall(r"\w+", "json jsonl yaml md pt pth py npz npy txt csv safetensors onnx html log lock pdf png")
)
# sections of a spec or profile, and names that a user's own file has: they are no module's
SECTIONS = {"recipe", "head_recipe", "split", "dataset", "execution", "cluster", "overrides", "a", "fc", "net", "best"}
LIBRARIES = {"torch", "nn", "numpy", "scipy", "perf", "copy"}


def names_in(tree: ast.AST) -> set[str]:
    """All identifiers of a file, and its texts that are one word, as keys of dicts are."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "module"):
            value = getattr(node, field, None)
            found |= set(value.split(".")) if isinstance(value, str) else set()
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


NAMES = {path: names_in(tree) for path, tree in TREES.items()}
MODULES: dict[str, set[str]] = {}  # by name, of folders too: what is named in those files
for _path, _names in NAMES.items():
    MODULES.setdefault(_path.stem, set()).update(_names)
    MODULES.setdefault(_path.parent.name, set()).update(_names, {_path.stem, *(p.name for p in _path.parent.iterdir())})


def text_of(statement: ast.stmt) -> str | None:
    """Returns the text of a statement that is only a string: a docstring, also of a field."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def docstrings() -> Iterator[tuple[Path, ast.AST, ast.stmt, str, bool]]:
    """Every docstring with its file, what it is in, and whether another stands right before it."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            before = None
            for statement in body if isinstance(body, list) else []:
                text = text_of(statement)
                if text is not None:
                    yield path, node, statement, text, before is not None
                before = text


def problems(path: Path, node: ast.AST, text: str) -> Iterator[str]:
    own = NAMES[path]
    for first, second in re.findall(r"(?<![\w/.:-])([a-z_]+)\.([A-Za-z_]\w*)(?!\w|/|\.\w)", text):
        known = first in own | LIBRARIES | SECTIONS or second in MODULES.get(first, ())
        if second not in ENDINGS and not known:
            yield f"there is no {first}.{second}"
    for named in re.findall(r"\b(?:sskd|benchmarks|tests|docs|perf|configs)/[\w/.-]+\.\w+", text):
        if not (ROOT / named).exists() and "NAME" not in named and "METHOD" not in named:
            yield f"there is no file {named}"
    if isinstance(node, ast.FunctionDef):
        explained = re.findall(r"(?:\A|\.\s+|\n\n\s*)((?:[a-z_]+, )*[a-z_]+): ", text)
        quoted = re.findall(r"``([a-z_]\w*)``", text)
        for name in [*(name for names in explained for name in names.split(", ")), *quoted]:
            if name not in own | MODULES.keys():
                yield f"{node.name} has no parameter {name}"
        parameters = {argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
        listed = text.partition("Args:\n")[2].partition("\n\n")[0]
        for names in re.findall(r"^ +((?:\w+, )*\w+): ", listed, re.MULTILINE):
            for name in set(names.split(", ")) - parameters:
                yield f"{node.name} has no parameter {name}"


def test_what_docstrings_name_is_there() -> None:
    wrong = []
    for path, node, statement, text, second in docstrings():
        where = f"{path.relative_to(ROOT)}:{statement.lineno}"
        wrong += [f"{where}: Python ignores a second docstring"] if second else []
        wrong += [f"{where}: {problem}" for problem in problems(path, node, text)]
    assert not wrong, "\n".join(wrong)


def test_what_is_not_there_is_found() -> None:
    path, function = next(iter(TREES)), ast.parse("def f(a): pass").body[0]
    for text in (
        "See nomodule.function.",
        "See sskd/nowhere.py.",
        "Adds. nothing_such: a number.",
        "Of ``nothing_such``.",
        "Adds.\n\n    Args:\n        a: a number.\n        b: absent, though this file may use b elsewhere.",
    ):
        assert list(problems(path, function, text)), text
