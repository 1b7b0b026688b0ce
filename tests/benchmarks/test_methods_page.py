"""docs/methods.md is made from the methods and their settings."""

from pathlib import Path

from benchmarks.report.methods_page import page
from sskd.methods import METHODS

FILE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_it_is_up_to_date() -> None:
    """If this fails: python -m benchmarks.report.methods_page --write docs/methods.md"""
    assert FILE.read_text() == page()


def test_every_method_says_its_formula() -> None:
    for name in METHODS:
        assert METHODS[name].info.formula, name
