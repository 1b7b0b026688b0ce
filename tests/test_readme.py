"""README says what is so."""

from pathlib import Path

from benchmarks.listing import methods_table

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_table_of_methods_is_the_registrys() -> None:
    """If this fails: put ``python -c 'from benchmarks.listing import *; print(methods_table())'`` into README."""
    assert methods_table() in README


def test_what_it_links_to_is_there() -> None:
    import re

    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
