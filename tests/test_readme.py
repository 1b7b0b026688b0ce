"""README says what is so."""

import re
from pathlib import Path

import pytest

from benchmarks.commands.list import methods

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "CHANGELOG.md", "CITATION.cff"])
def test_as_many_methods_as_it_says(page: str) -> None:
    """Papers' methods beside SSKD: neither the controls nor the student alone."""
    papers = [row for row in methods() if row["year"] and row["name"] not in ("none", "sskd")]
    (number,) = re.findall(r"and\s(\d+) other\smethods", (ROOT / page).read_text())
    assert int(number) == len(papers)


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_numbers_are_those_of_the_committed_results() -> None:
    """The table of real runs is that of results/short, without what was not run; so is every interval that is named."""
    results = (ROOT / "results" / "short" / "comparison.md").read_text()
    rows = re.compile(r"^\| [^|\n]+ \| resnet20/resnet8 \|.*", re.MULTILINE)
    run = [row for row in rows.findall(results) if "not run" not in row]
    assert len(run) > 6
    assert rows.findall(README) == run
    named = re.findall(r"([+-][\d.]+)\s\[([+-][\d.]+),\s([+-][\d.]+)\]", README)
    texts = [(ROOT / "results" / "short" / f"{name}.md").read_text() for name in ("comparison", "fig4a", "claims")]
    assert len(named) > 5
    for mean, lower, upper in named:
        assert any(f"{mean} [{lower}, {upper}]" in text for text in texts) or _rounded(texts[2], mean, lower, upper)


def _rounded(claims: str, *named: str) -> bool:
    """Whether the claims have these numbers, with a decimal more."""
    known = re.findall(r"([+-][\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", claims)
    return any(all(abs(float(a) - float(b)) <= 0.0051 for a, b in zip(row, named, strict=True)) for row in known)


def test_what_it_says_is_decided_is_so_in_the_committed_claims() -> None:
    claims = (ROOT / "results" / "short" / "claims.md").read_text()
    said = re.findall(r"(C\d+) is\s+(supported|contradicted|undecided|equivalent)", README)
    assert len(said) == 3
    for claim, verdict in said:
        assert re.search(rf"\| {claim} \| [^|]+ \| [^|]+ \| {verdict} \|", claims)


@pytest.mark.parametrize(
    ("figure", "start", "end", "count"),
    [
        ("fig4a", "With a tenth SSKD has", "(three", 5),
        ("fig4b", "**Wrong labels", "- With a teacher", 4),
    ],
)
def test_what_it_says_of_few_images_and_wrong_labels_is_in_the_figures(
    figure: str, start: str, end: str, count: int
) -> None:
    said = README[README.index(start) : README.index(end)]
    table = (ROOT / "results" / "short" / f"{figure}.md").read_text()
    last_means = re.findall(r"^\| \w+ \| \d+% \| \d \| [^|]+ \| [^|]+ \| ([\d.]+) \|", table, re.MULTILINE)
    named = re.findall(r"(?<![-+\d.])\d+\.\d\d", said)
    assert len(named) == count
    assert set(named) <= set(last_means)
