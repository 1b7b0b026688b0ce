"""The page: whole without JavaScript, with links from verdicts to runs, and nothing that is fetched."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.report.page_tables import section_entry
from benchmarks.report.page_verdicts import headline
from benchmarks.report.section import Section
from benchmarks.report.tables import summary
from benchmarks.report.write import write_report
from benchmarks.statistics.comparison import differences, pairwise
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.methods import METHODS
from tests.benchmarks.conftest import REPORTED
from tests.benchmarks.made import cells_of, finish, made_frame, top1


@pytest.fixture(scope="module")
def page(reported: Path) -> str:
    return (reported / "index.html").read_text()


def card(page: str, claim: str = "C8") -> str:
    return page[page.index(f'id="claim-{claim}"') :].split("</li>")[0]


def test_it_is_self_contained_and_escaped(page: str, reported: Path) -> None:
    """But for the links from methods to their papers, which load nothing until they are clicked."""
    assert '<a class="to" href="https://arxiv.org/abs/2006.07114">SSKD</a>' in page
    papers = {METHODS[name].info.url for name in METHODS} - {""}
    text = re.sub(r'<a class="to" href="([^"]*)">', lambda link: "" if link[1] in papers else link[0], page)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "digits &lt;b&gt;&amp; so on" in text
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|<iframe|<link(?![^>]*href=\"data:,\")", text)
    links = re.findall(r'(?:src|srcset|href|poster|action)="([^"]*)"', text)
    for link in links:  # what is not inside lies beside it
        assert link.startswith(("data:", "#")) or (reported / link).exists(), link
    identities = re.findall(r'\sid="([^"]*)"', text)
    assert len(identities) == len(set(identities))
    assert {link[1:] for link in links if link.startswith("#")} <= set(identities)


def test_without_javascript_everything_is_there(page: str, reported: Path) -> None:
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    for words in ("C10", "Table 6", "images/s", "commit", "torch 2"):
        assert words in text
    for name in REPORTED:  # names in a title keep their capitals: KL, CKA
        for measure in BENCHMARKS[name].measures:
            assert measure.title[1:] in text
    runs = {path.name for path in (reported / "runs").iterdir()}
    assert runs <= set(re.findall(r'id="run-([^"]*)"', text))
    lines = set(re.findall(r'<polyline class="k-\w+ d\d" data-run="([^"]*)"', text))
    assert {run for run in runs if not run.startswith("head-") and "-crd-" not in run} == lines
    assert text.count("data:image/png;base64,") == len(REPORTED)
    assert "learning" not in re.findall(r"<pre>(.*?)</pre>", text, flags=re.DOTALL)[0]


def test_bold_is_what_is_not_chance() -> None:
    """A row of each kind: SSKD is clearly above the student and below AT, unclear beside KD, and CRD has two seeds."""
    reached = {
        "Student": [30, 29.9, 30],
        "KD": [61, 79, 71],
        "AT": [90, 90.1, 90],
        "CRD": [30, 29.9],
        "SSKD": [70, 70, 70],
    }
    frame = made_frame("comparison", {(row, "resnet56/resnet20"): values for row, values in reached.items()})
    benchmark, last = BENCHMARKS["comparison"], BENCHMARKS["comparison"].measures[1]
    benchmark = dataclasses.replace(benchmark, measures=(last,))
    gaps, pairs = {"last": differences(frame, benchmark, last)}, {"last": pairwise(frame, benchmark, last)}
    section = Section(benchmark, frame, summary(frame, benchmark), gaps, pairs, [], [], pd.DataFrame(), None)
    entry = section_entry(section, [])
    (table,), (matrix,) = entry["differences"], entry["matrices"]
    bold = {row["row"]: row["decided"] for row in table["rows"]}
    assert bold == {"Student": True, "KD": False, "AT": True, "CRD": False}
    (line,) = [line for line in matrix["lines"] if line["row"] == "SSKD"]
    assert dict(zip(matrix["rows"], (cell["decided"] for cell in line["cells"]), strict=True)) == bold | {"SSKD": False}


def test_links_lead_from_cells_to_runs_and_from_runs_to_curves_and_folder(page: str, reported: Path) -> None:
    cells = re.findall(r'<td id="([^"]*)"[^>]*>(.*?)</td>', page, flags=re.DOTALL)
    assert cells
    for anchor, inside in cells:
        assert f'href="#{anchor}"' in inside or "–" in inside
    assert max(len(re.findall(r'href="#run-([^"]*)"', inside)) for _, inside in cells) == 2  # two seeds
    runs = dict(re.findall(r'<details class="run" id="run-([^"]*)">(.*?)</details>', page, flags=re.DOTALL))
    for run, inside in runs.items():
        assert (f'href="runs/{run}/"' in inside) == (reported / "runs" / run).exists()
    linked = {(run, plot) for run, inside in runs.items() for plot in re.findall(r'href="#(curve-[^"]*)"', inside)}
    drawn = re.findall(r'<figure class="curve" id="([^"]*)">(.*?)</figure>', page, flags=re.DOTALL)
    assert linked == {(run, plot) for plot, svg in drawn for run in re.findall(r'data-run="([^"]*)"', svg)}


def test_what_limits_the_trust_stands_beside_the_claims(page: str) -> None:
    assert "No claim decided yet; 3 undecided; 7 without a finished run" in page
    shared = "one head: the intervals do not include the variance"
    assert shared in card(page)
    assert shared in page[page.index('class="trust"') :].split("</aside>")[0]


def test_the_headline_counts_claims() -> None:
    told = headline({"supported": 1, "contradicted": 2, "undecided": 4}, 10)
    assert told == "3 of 10 claims decided: 1 supported, 2 contradicted; 4 undecided; 3 without a finished run"


def test_a_claim_and_what_it_rests_on(decided: Path) -> None:
    """SSKD far above KD and CRD, and above AT by too little for three seeds; KD again is far from KD, so it errs."""
    text = (decided / "index.html").read_text()
    shown = card(text)
    assert "2 of 3 comparisons decided: SSKD - KD, 25% (above); SSKD - CRD, 25% (above)" in shown
    assert re.findall(r'<td><span class="badge (\w+)">', shown) == ["supported", "undecided", "supported"]
    assert "10 seeds decide it with a predictive probability of " in shown
    assert "1 of 1 comparison of KD with itself called a difference" in text
    assert '<tr class="decided">' in text
    assert '<td class="decided">' in text


def test_every_comparison_of_a_claim_leads_to_its_cells_and_curves(page: str) -> None:
    shown = card(page)
    rows = shown[shown.index("<tbody>") :].split("</tbody>")[0].split("<tr>")[1:]
    assert len(rows) == 12
    for link in ("cell-fig4a-SSKD-25-last", "cell-fig4a-KD-25-last", "curve-fig4a-1"):
        assert f'href="#{link}"' in rows[0]
    assert rows[0].count("data-value=") == 3
    assert 'id="cell-table6-SSKD-vgg13-vgg8-KL"' in page  # the form of these links stays


def test_all_numbers_can_be_sorted_by_their_values(page: str) -> None:
    numbers = re.findall(r'<td class="num"[^>]*>', page)
    assert numbers
    for cell in numbers:
        assert re.search(r'data-value="(-?[\d.]+(e-?\d+)?)?"', cell), cell


def test_claims_without_a_run_are_one_line(page: str, reported: Path) -> None:
    listed = page[page.index('<ol class="claims">') :].split("</ol>")[0]
    assert re.findall(r'<li id="claim-(C\d+)">', listed) == ["C2", "C7", "C8"]
    assert "no run is finished: C1, C3, C4, C5, C6, C9, C10" in page
    claims = (reported / "claims.md").read_text()
    assert re.findall(r"^\| (C\d+) ", claims, flags=re.MULTILINE) == ["C2", "C7", "C8"]
    assert "no run is finished: C1 (abstract, Table 4), C3 " in claims


def test_a_method_has_one_colour_in_all_curves(page: str) -> None:
    pairs = re.findall(r'<li class="(k-\w+ d\d)"><svg[^>]*><line[^>]*/></svg>([^<]*)</li>', page)
    known = {row: {look for look, name in pairs if name == row} for _, row in pairs}
    assert {len(looks) for looks in known.values()} == {1}
    assert len({next(iter(looks)) for looks in known.values()}) == len(known)


def test_tags_are_balanced(page: str) -> None:
    open_: list[str] = []
    for end, tag, closed in re.findall(
        r"<(/?)([a-z]\w*)(?:\s[^<>]*?)?(/?)>", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    ):
        if end:
            assert open_.pop() == tag
        elif not closed and tag not in ("meta", "link", "img", "input", "br", "source"):
            open_.append(tag)
    assert open_ == []


def test_of_very_many_runs_each_has_its_line_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = read_profile("paper", ["seeds=[0]", "methods=[none,kd]"])
    cells = cells_of(profile, "comparison")
    finish(cells, tmp_path / "runs", top1)
    monkeypatch.setattr("benchmarks.report.page.MOST_TOLD", 2)
    write_report(profile, cells, tmp_path)
    text = (tmp_path / "index.html").read_text()
    runs = text[text.index('id="run-list"') :]
    told = re.findall(r'<p class="run line" id="run-([^"]*)"', runs)
    assert set(told) == {path.name for path in (tmp_path / "runs").iterdir()}
    assert "<details" not in runs
    assert set(re.findall(r'href="#run-([^"]*)"', text)) <= set(told)
