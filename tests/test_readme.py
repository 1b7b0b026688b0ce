"""README says what is so."""

from pathlib import Path

from benchmarks.listing import methods_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_methods_is_the_registrys() -> None:
    """If this fails: put ``python -c 'from benchmarks.listing import *; print(methods_table())'`` into README."""
    assert methods_table() in README


def test_what_it_links_to_is_there() -> None:
    import re

    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_numbers_are_those_of_the_committed_results() -> None:
    """Every row of the table of real runs, and every interval that is named, stands in results/short."""
    import re

    results = (ROOT / "results" / "short" / "comparison.md").read_text()
    rows = re.findall(r"\| [^|]+ \| resnet20/resnet8 \|.*", README)
    assert len(rows) == 5
    for row in rows:
        assert row in results
    last = results[results.index("top-1 accuracy of the last epoch (%), mean and") :]
    named = re.findall(
        r"(\+[\d.]+), (\+[\d.]+) to (\+[\d.]+)|(\+[\d.]+) behind SSKD\s\((\+[\d.]+) to (\+[\d.]+)\)", README
    )
    assert len(named) == 3
    for numbers in named:
        mean, lower, upper = (number for number in numbers if number)
        assert f"{mean} [{lower}, {upper}], 3 seeds" in last
