"""A user's own Python files: importing one registers the methods, networks, data sets or benchmarks it defines."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from sskd.data.datasets import DATASETS
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.networks import NETWORKS
from sskd.pretext import PRETEXTS


def load_plugin(file: str | Path) -> Path:
    """Imports the file, once a process, and returns its absolute path. UserError if it is missing or raises."""
    path = Path(file).resolve()
    if not os.path.isfile(path):  # unlike Path's, False for a name that is too long
        raise UserError(f"plugin {file}: there is no such file")
    # two files of the same name are two modules
    module_name = f"plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return path
    for registry in (METHODS, NETWORKS, DATASETS, PRETEXTS):
        list(registry)  # the suite's own names first, so that a name taken twice is the plugin's error
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plugin {file}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        del sys.modules[module_name]
        message = " ".join(str(error).split())
        raise UserError(f"plugin {file}: {type(error).__name__}: {message}") from None
    return path


def load_plugins(files: Iterable[str]) -> None:
    for file in files:
        load_plugin(file)
