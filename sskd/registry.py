"""Registries that map names to objects. A registry imports all files of its package, so there is no list to edit."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sskd.errors import UserError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries of one kind ("network", "method", ...), registered where they are defined.

    The modules of ``package`` are imported at the first look-up. A plugin registers its entries when it is imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator: ``@METHODS.register("kd")``. Raises ValueError if the name is already registered."""

        def add(entry: T) -> T:
            if self._entries.get(name, entry) is not entry:
                raise ValueError(f"the {self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        """Returns the entry. Raises UserError, with the nearest match and all names, if there is none."""
        self._load()
        if not isinstance(name, str):
            raise UserError(f"the name of a {self.kind} must be a string, found {name!r}")
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # before the imports, because the modules may look up names
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ())):  # no path: a single file
            importlib.import_module(f"{self._package}.{module.name}")
