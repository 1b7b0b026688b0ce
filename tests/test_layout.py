"""The folder tree shows the flow of data: import arrows go one way, and no files import each other in a circle."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent

# What a module may import: what stands above it, and what stands beside it. A name is a folder or a file.
ORDER = (
    ("sskd.errors", "sskd.registry", "sskd.paths", "sskd.formatting", "sskd.version"),
    ("sskd.runtime.seeding", "sskd.runtime.cores", "sskd.runtime.machine", "sskd.runtime.distributed"),
    ("sskd.arguments",),
    ("sskd.config",),
    ("sskd.runtime", "sskd.optim"),
    ("sskd.losses",),
    ("sskd.data",),
    ("sskd.networks",),
    ("sskd.pretext",),
    ("sskd.methods",),
    ("sskd.runs",),
    ("sskd.export",),
    ("sskd.console.trackers", "sskd.console.screen", "sskd.console.signals"),
    ("sskd.distillation",),
    ("sskd.training",),
    ("sskd.console",),
    ("sskd.__main__", "sskd.mps"),
    ("benchmarks.profiles",),
    ("benchmarks.tables",),
    ("benchmarks.planning",),
    ("benchmarks.dispatch",),
    ("benchmarks.records",),
    ("benchmarks.analysis",),
    ("benchmarks.statistics",),
    ("benchmarks.tuning",),
    ("benchmarks.report",),
    ("benchmarks.commands",),
)


def modules() -> dict[str, Path]:
    files = [*(ROOT / "sskd").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path, known: dict[str, Path]) -> set[str]:
    """The project's modules that the file imports anywhere, also those that only annotations need."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found & known.keys()


KNOWN = modules()
GRAPH = {name: imports(file, KNOWN) - {name} for name, file in KNOWN.items()}


def level(module: str) -> int:
    for number, group in enumerate(ORDER):
        if any(module == name or module.startswith(f"{name}.") for name in group):
            return number
    raise AssertionError(f"{module} has no place in ORDER: say what it may import")


def test_arrows_go_one_way() -> None:
    packages = {"sskd", "benchmarks"}
    wrong = [
        f"{module} imports {name}, which builds on it"
        for module in GRAPH.keys() - packages
        for name in GRAPH[module] - packages
        if level(name) > level(module)
    ]
    assert wrong == []


def test_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in sorted(GRAPH[module]):
                visit(name, (*path, module))
            done.add(module)

    for module in GRAPH:
        visit(module, ())


def leaves_encoding_open(call: ast.Call) -> bool:
    """Returns True if the call reads or writes text in the machine's default encoding."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False
    name = ast.unparse(call.func).rpartition(".")[2]
    if name in ("read_text", "write_text"):
        return len(call.args) == (name == "write_text")  # else the encoding is an argument without a name
    if "text" in given or "universal_newlines" in given:  # what a process prints
        return True
    if name not in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile"):
        return False
    modes = [a.value for a in (*call.args, *given.values()) if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(set(mode) <= set("rwaxt+") for mode in modes) or (isinstance(call.func, ast.Name) and not modes)


def test_text_files_are_utf_8_everywhere() -> None:
    files = [ROOT / "run_all.py", ROOT / "setup.py", *(ROOT / "perf").rglob("*.py"), *KNOWN.values()]
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and leaves_encoding_open(node)
    ]
    assert not found, 'encoding="utf-8" is to be said'
