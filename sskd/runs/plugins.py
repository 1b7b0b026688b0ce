"""Plugins: the user's Python files. Importing one registers its methods, networks, data sets, optimisers, ...

A plugin may consist of several files: it can import modules from its folder, and plugins in other folders may have
modules of the same name. A run records the path and sha256 of each of these files that it uses, so that later edits are
detected.
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
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec
from sskd.version import in_commit

REGISTRIES: tuple[Any, ...] = (METHODS, NETWORKS, DATASETS, PRETEXTS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS)
Name = tuple[str, str]  # (kind of registry, registered name)


class Plugin(NamedTuple):
    """An imported plugin."""

    path: Path
    sha256: str
    names: frozenset[Name]  # that it registered
    imports: tuple[tuple[Path, str], ...] = ()  # imported files of its folder, with their sha256

    def noted(self) -> dict[str, Any]:
        """Returns the plugin's entry in a run's provenance."""
        entry: dict[str, Any] = {"path": str(self.path), "sha256": self.sha256}
        imports = [{"path": str(path), "sha256": sha256} for path, sha256 in self.imports]
        return entry | ({"imports": imports} if imports else {})


_helpers: dict[Path, dict[str, ModuleType]] = {}  # by folder: modules that plugins have imported from it
_loaded: dict[str, Plugin] = {}  # by module name


def load_plugin(file: str | Path) -> Path:
    """Imports a plugin once per process and returns its absolute path. Raises UserError if it is missing or raises
    an exception."""
    path = Path(os.path.expanduser(file)).resolve()
    if not os.path.isfile(path):  # Path.is_file raises an error if the name is too long
        raise UserError(f"plugin {file}: there is no such file")
    # files of the same name in two folders are two modules
    module_name = f"plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return path
    before = set(_names())  # imports the suite's own names first, so that a duplicate name is reported for the plugin
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plugin {file}: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        content = path.read_bytes()
        with _importing_from(path.parent) as imported:
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # from the user's code
        del sys.modules[module_name]
        message = " ".join(str(error).split())
        raise UserError(f"plugin {file}: {type(error).__name__}: {message}") from None
    new = frozenset(set(_names()) - before)
    helpers = tuple((file, hashlib.sha256(file.read_bytes()).hexdigest()) for file in imported)
    _loaded[module_name] = Plugin(path, hashlib.sha256(content).hexdigest(), new, helpers)
    return path


@contextmanager
def _importing_from(folder: Path) -> Iterator[list[Path]]:
    """Puts the folder first in sys.path during the block and hides the modules of other plugins' folders. The yielded
    list contains, after the block, the files of the folder's modules.

    For later imports inside functions, the folder stays at the end of sys.path. A module name that two folders share
    then raises ImportError, because it is ambiguous.
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
    """Returns True if the module is in this folder itself, and is not a plugin or part of the suite."""
    name = getattr(module, "__name__", "").partition(".")[0]
    if not name or name in ("sskd", "benchmarks") or name.startswith("plugin_"):
        return False
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    own = {folder / f"{name}.py", folder / name}
    return any(own & {Path(place), *Path(place).parents} for place in places if place)


def load_plugins(files: Iterable[str]) -> None:
    """Calls ``load_plugin`` for each file, in order."""
    for file in files:
        load_plugin(file)


def _names() -> Iterator[Name]:
    return ((registry.kind, name) for registry in REGISTRIES for name in registry)


def plugins_of(spec: RunSpec) -> list[Plugin]:
    """Returns the loaded plugins that define something the run uses, including its teacher and head. Files that they
    import from other folders are not checked."""
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
    """Returns the plugins' part of a run's provenance. dirty: True if the suite's own files differ from its commit;
    plugins that are not in that commit make it True as well."""
    plugins = plugins_of(spec)
    if dirty is False:
        dirty = not all(in_commit(plugin.path) for plugin in plugins)
    return {"dirty": dirty, "plugins": [plugin.noted() for plugin in plugins]}
