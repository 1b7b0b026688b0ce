"""Every name that the glossary gives is in the code."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"
NAMES = re.findall(r"\| `([\w.]+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_names_something() -> None:
    assert len(NAMES) == PAGE.read_text(encoding="utf-8").count("\n| ") - 2 > 15


@pytest.mark.parametrize("name", NAMES)
def test_the_name_exists(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, own = name.rpartition(".")
        assert hasattr(importlib.import_module(module), own)
