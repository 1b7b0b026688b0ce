"""README says what is so."""

import re
from pathlib import Path

import pytest

from benchmarks.commands.list import methods

ROOT = Path(__file__).parent.parent
MINIATURE = ROOT / "results" / "miniature"
README = (ROOT / "README.md").read_text()
INDEX = (ROOT / "docs" / "index.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "CHANGELOG.md", "CITATION.cff"])
def test_as_many_methods_as_it_says(page: str) -> None:
    """Papers' methods beside SSKD: neither the controls nor the student alone."""
    papers = [row for row in methods() if row["year"] and row["name"] not in ("none", "sskd")]
    (number,) = re.findall(r"and\s(\d+) other\smethods", (ROOT / page).read_text())
    assert int(number) == len(papers)


def test_what_comes_before_the_methods_is_short() -> None:
    assert len(README[: README.index("| family |")].split()) <= 900


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_numbers_are_those_of_the_committed_results() -> None:
    """The table has columns of table 3 for the pair that was trained, and every interval is one of the report's."""
    rows = re.findall(
        r"^\| ([^|\n]+) \| resnet20/resnet8 for vgg13/vgg8 \|(.*)\|",
        (MINIATURE / "table3.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 6
    for method, cells in rows:
        seeds, best, _, paper, other, last, deviation, _ = map(str.strip, cells.split("|"))
        published = paper if other == "-" else f"{other}*"
        assert f"\n| {method} | {seeds} | {best} | {last}±{deviation} | {published} |\n".replace("±-", "") in README
    named = re.findall(r"([+-][\d.]+)\s\[([+-][\d.]+),\s([+-][\d.]+)\]", README + INDEX)
    texts = {path.stem: path.read_text() for path in MINIATURE.glob("*.md")}
    assert len(named) > 5
    for interval in named:
        mean, lower, upper = interval
        assert any(f"{mean} [{lower}, {upper}]" in text for text in texts.values()) or _rounded(
            texts["claims"], *interval
        )


def _rounded(claims: str, *named: str) -> bool:
    """Returns True if one of the claims has these numbers, up to rounding."""
    known = re.findall(r"([+-][\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", claims)
    return any(all(abs(float(a) - float(b)) <= 0.0051 for a, b in zip(row, named, strict=True)) for row in known)


def test_what_it_says_is_decided_is_so_in_the_committed_claims() -> None:
    claims = (MINIATURE / "claims.md").read_text()
    said = re.findall(r"(C\d+) is\s+(supported|contradicted|undecided|equivalent)", README + INDEX)
    assert len(said) >= 8
    for claim, verdict in said:
        assert re.search(rf"\| {claim} \| [^|]+ \| [^|]+ \| {verdict} \|", claims)


@pytest.mark.parametrize(
    ("figure", "start", "end", "count"),
    [
        ("fig4a", "With 10 % of the images", "(three", 5),
        ("fig4b", "**Wrong labels", "The drops of AT and CRD", 4),
        ("table4", "- **Across", "and SSKD minus", 3),
    ],
)
def test_the_accuracies_that_the_index_names_are_in_the_tables(figure: str, start: str, end: str, count: int) -> None:
    said = INDEX[INDEX.index(start) :].partition(end)[0]
    table = (MINIATURE / f"{figure}.md").read_text()
    last_means = re.findall(r"^\| .* \| ([\d.]+) \| [\d.]+ \| +\|$", table, re.MULTILINE)
    named = re.findall(r"(?<![-+\d.])\d+\.\d\d", said)
    assert len(named) == count
    assert set(named) <= set(last_means)
