"""A user's own Python files: importing one registers the methods, networks, data sets, optimisers, ... it defines.

A plugin may have several files: its folder can be imported from, and another plugin's module of the same name is
another module. A run notes the path and sha256 of each such file that it uses, so that an edit after the run can be
told.
"""

import hashlib
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from sskd.data.augmentations import AUGMENTATIONS
from sskd.data.datasets.registry import DATASETS
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.networks import NETWORKS
from sskd.optim import OPTIMIZERS, SCHEDULES
from sskd.pretext import PRETEXTS
from sskd.runs.files import read_json
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec
from sskd.version import in_commit

REGISTRIES: tuple[Any, ...] = (METHODS, NETWORKS, DATASETS, PRETEXTS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS)
Name = tuple[str, str]  # a registry's kind, and a name in it


class Plugin(NamedTuple):
    """A file as it was imported."""

    path: Path
    sha256: str
    names: frozenset[Name]  # what it registered
    imports: tuple[tuple[Path, str], ...] = ()  # files of its folder that it imports, each with its sha256

    def noted(self) -> dict[str, Any]:
        """As a run's provenance has it."""
        entry: dict[str, Any] = {"path": str(self.path), "sha256": self.sha256}
        imports = [{"path": str(path), "sha256": sha256} for path, sha256 in self.imports]
        return entry | ({"imports": imports} if imports else {})


_helpers: dict[Path, dict[str, ModuleType]] = {}  # by folder: the modules that plugins have imported from it
_loaded: dict[str, Plugin] = {}  # by module


def load_plugin(file: str | Path) -> Path:
    """Imports the file, once a process, and returns its absolute path. UserError if it is missing or raises."""
    path = Path(os.path.expanduser(file)).resolve()
    if not os.path.isfile(path):  # unlike Path's, False for a name that is too long
        raise UserError(f"plugin {file}: there is no such file")
    # two files of the same name are two modules
    module_name = f"plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return path
    before = set(_names())  # the suite's own names first, so that a name taken twice is the plugin's error
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plugin {file}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        content = path.read_bytes()
        with _importing_from(path.parent) as imported:
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        del sys.modules[module_name]
        message = " ".join(str(error).split())
        raise UserError(f"plugin {file}: {type(error).__name__}: {message}") from None
    new = frozenset(set(_names()) - before)
    _loaded[module_name] = Plugin(path, hashlib.sha256(content).hexdigest(), new, tuple(map(_with_sha256, imported)))
    return path


@contextmanager
def _importing_from(folder: Path) -> Iterator[list[Path]]:
    """In the block, the folder comes first where modules are looked for, and modules of other plugins' folders are out
    of the way. Gives the files of the folder's modules, once the block has ended.

    Functions that import later find the folder at the end of the path. A name that two folders have is then refused
    (ImportError), for it could mean either.
    """
    files: list[Path] = []
    for other, modules in _helpers.items():
        for name in modules if other != folder else ():
            sys.modules.pop(name, None)
    own = _helpers.setdefault(folder, {})
    before = set(sys.modules) - own.keys()
    sys.modules.update(own)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield files
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        own |= {name: module for name, module in sys.modules.items() if name not in before and _is_of(folder, module)}
        files += sorted(Path(module.__file__) for module in own.values() if module.__file__)
        shared = Counter(name for modules in _helpers.values() for name in modules)
        for modules in _helpers.values():
            for name, module in modules.items():
                sys.modules[name] = module if shared[name] == 1 else None  # type: ignore[assignment]


def _is_of(folder: Path, module: ModuleType | None) -> bool:
    """Whether the module was found in this folder itself, and is no plugin and no part of the suite."""
    name = getattr(module, "__name__", "").partition(".")[0]
    if not name or name in ("sskd", "benchmarks") or name.startswith("plugin_"):
        return False
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    wanted = (str(folder / f"{name}.py"), f"{folder / name}{os.sep}", str(folder / name))
    return any(place and (place == wanted[0] or place == wanted[2] or place.startswith(wanted[1])) for place in places)


def _with_sha256(path: Path) -> tuple[Path, str]:
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def load_plugins(files: Iterable[str]) -> None:
    """``load_plugin`` of each, in their order."""
    for file in files:
        load_plugin(file)


def load_noted(run: Path) -> None:
    """Imports the plugins that a finished run has noted, each from where it lay then, if the file is still the same.
    UserError, which names the path, where it is gone or has changed."""
    try:
        noted = read_json(run / "result.json")["machine"]["plugins"]
        files = [(Path(entry["path"]), str(entry["sha256"])) for entry in noted]
    except (UserError, KeyError, TypeError):  # not finished, damaged, or of an earlier version
        return
    for path, sha256 in files:
        if any(plugin.sha256 == sha256 and module in sys.modules for module, plugin in _loaded.items()):
            continue
        if not os.path.isfile(path):
            raise UserError(
                f"{run.name} was trained with the plugin {path}, which is not there: --plugin FILE.py names it"
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise UserError(
                f"{run.name} was trained with the plugin {path}, which has changed since (its sha256 was {sha256}): "
                "--plugin FILE.py takes it as it is, or names a copy of what it was"
            )
        load_plugin(path)


def _names() -> Iterator[Name]:
    return ((registry.kind, name) for registry in REGISTRIES for name in registry)


def plugins_of(spec: RunSpec) -> list[Plugin]:
    """The loaded files that define something the run is made of, its teacher and head included. What these files
    import from elsewhere than their own folder is not looked at."""
    loaded = [plugin for module, plugin in _loaded.items() if module in sys.modules]
    if not loaded:
        return []
    used = set(_used(spec))
    return [plugin for plugin in loaded if plugin.names & used]


def _used(spec: RunSpec) -> Iterator[Name]:
    yield NETWORKS.kind, spec.network
    yield DATASETS.kind, spec.dataset.name
    yield OPTIMIZERS.kind, spec.recipe.optimizer
    yield SCHEDULES.kind, spec.recipe.schedule
    yield AUGMENTATIONS.kind, spec.recipe.augmentation
    if isinstance(spec, StudentSpec):
        yield METHODS.kind, spec.method.name
    if isinstance(spec, HeadSpec):
        yield PRETEXTS.kind, spec.pretext.name
    if spec.teacher is not None:
        yield NETWORKS.kind, spec.teacher.network
    for needed in spec.dependencies:
        yield from _used(needed)


def noted(spec: RunSpec, dirty: bool | None) -> dict[str, Any]:
    """What a run's provenance says of its plugins. dirty: whether the suite's own files differ from its commit; a
    plugin that is not in that commit as it is makes it True."""
    plugins = plugins_of(spec)
    if dirty is False:
        dirty = not all(in_commit(plugin.path) for plugin in plugins)
    return {"dirty": dirty, "plugins": [plugin.noted() for plugin in plugins]}
