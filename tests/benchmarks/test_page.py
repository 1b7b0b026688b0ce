"""The page: whole without JavaScript, and in a real browser without an error."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.report.page_tables import section_entry
from benchmarks.report.section import Section
from benchmarks.report.tables import summary
from benchmarks.report.write import write_report
from benchmarks.statistics.comparison import differences, pairwise
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.methods import METHODS
from sskd.runs.spec import RunSpec
from tests.benchmarks.conftest import REPORTED as NAMES
from tests.benchmarks.made import cells_of, finish, made_frame, top1

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
QUIET = "--disable-background-networking --disable-component-update --disable-sync --disable-quic --no-first-run"

# put into a copy of the page: notes errors, looks at images and curves, sorts a table, and writes what it saw into it
BEFORE = """<script>window.seen = {errors: []};
addEventListener("error", (event) => seen.errors.push(event.message || event.target.outerHTML.slice(0, 80)), true);
const complain = console.error;
console.error = (...words) => { seen.errors.push(words.join(" ")); complain(...words); };
</script>"""
AFTER = """<script>addEventListener("load", async () => {
  const moment = () => new Promise((done) => setTimeout(done, 100));
  const images = [...document.images];
  seen.images = images.length;
  seen.loaded = images.filter((image) => image.complete && image.naturalWidth > 0).length;
  const table = document.querySelector("#table3 table.sortable");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[1].dataset.value);
  const button = table.querySelectorAll(".leaf button")[1];
  seen.before = column(); button.click(); seen.down = column(); button.click(); seen.up = column();
  seen.aria = button.closest("th").getAttribute("aria-sort");
  const select = document.querySelector("#table3 select");
  select.value = select.options[1].value; select.dispatchEvent(new Event("change"));
  seen.chosen = document.querySelectorAll("#table3 polyline.on").length;
  const search = document.querySelector("input[type=search]:not(.filter)");
  search.value = "sskd"; search.dispatchEvent(new Event("input"));
  seen.found = [...document.querySelectorAll("#run-list details")].filter((run) => !run.hidden).map((run) => run.id);
  const filter = table.closest(".scroll").previousElementSibling;
  filter.value = "rkd"; filter.dispatchEvent(new Event("input"));
  seen.filtered = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  filter.value = ""; filter.dispatchEvent(new Event("input"));
  seen.unfiltered = [...table.tBodies[0].rows].filter((row) => row.hidden).length;
  const links = (td) => [...td.querySelectorAll('.of a[href^="#run-"]')];
  const drawn = [...document.querySelectorAll("#table3 td[id]")].filter((td) => links(td).length > 1);
  const cell = drawn.find((td) => td.querySelector('.of a[href^="#curve-"]'));
  seen.folded = getComputedStyle(cell.querySelector(".of")).display;
  cell.querySelector("a.to").click();
  await moment();
  seen.unfolded = getComputedStyle(cell.querySelector(".of")).display;
  seen.cell = links(cell).map((link) => link.getAttribute("href").slice(5));
  const runs = [...document.querySelectorAll("#run-list details")];
  seen.shown = runs.filter((run) => !run.hidden && run.open).map((run) => run.id);
  const part = document.querySelector("#claims .parts .links a");
  part.click();
  await moment();
  seen.part = [part.getAttribute("href"), "#" + document.querySelector("td:target").id];
  const curve = document.querySelector(`#run-${CSS.escape(seen.cell[0])} a[data-run]`);
  curve.click();
  seen.curve = document.querySelector(curve.getAttribute("href")).closest("details");
  seen.curve = [seen.curve.open, seen.curve.querySelector("select").value, curve.dataset.run];
  dispatchEvent(new Event("beforeprint"));
  seen.closed = document.querySelectorAll("details:not([open])").length;
  dispatchEvent(new Event("afterprint"));
  seen.closed_after = document.querySelectorAll("details:not([open])").length;
  seen.background = getComputedStyle(document.body).backgroundColor;
  seen.width = document.documentElement.scrollWidth;
  const out = document.createElement("script"); out.type = "application/json"; out.id = "seen";
  out.textContent = JSON.stringify(seen); document.body.append(out);
});</script>"""


@pytest.fixture
def page(reported: Path) -> Path:
    return reported / "index.html"


def without_paper_links(text: str) -> str:
    """The page without the links from methods to their papers, which load nothing until they are clicked."""
    urls = {METHODS[name].info.url for name in METHODS} - {""}
    return re.sub(r'<a class="to" href="([^"]*)">', lambda link: "" if link[1] in urls else link[0], text)


def test_the_page_is_self_contained_and_escaped(page: Path) -> None:
    text = without_paper_links(page.read_text())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "digits &lt;b&gt;&amp; so on" in text
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert not [link for link in links if re.match(r"(https?:)?//", link)]
    for link in links:  # what is not inside lies beside it
        if not link.startswith(("data:", "#")):
            assert (page.parent / link).exists(), link
    identities = re.findall(r'\sid="([^"]*)"', text)
    assert len(identities) == len(set(identities))
    assert {link[1:] for link in links if link.startswith("#")} <= set(identities)


def test_without_javascript_everything_is_there(page: Path) -> None:
    text = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    for words in (
        "The paper’s claims",
        "Reliability of the verdicts",
        "C10",
        "Table 6",
        "Training curves",
        "images/s",
        "commit",
        "torch 2",
    ):
        assert words in text
    for name in NAMES:  # names in a title keep their capitals: KL, CKA
        for measure in BENCHMARKS[name].measures:
            assert measure.title[1:] in text
    runs = {path.name for path in (page.parent / "runs").iterdir()}
    assert runs <= set(re.findall(r'id="run-([^"]*)"', text))
    lines = set(re.findall(r'<polyline class="k-\w+ d\d" data-run="([^"]*)"', text))
    assert {run for run in runs if not run.startswith("head-") and "-crd-" not in run} == lines
    assert text.count("data:image/png;base64,") == len(NAMES)
    assert "could not be drawn" not in text
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


def test_links_lead_from_cells_to_runs_and_from_runs_to_curves_and_folder(page: Path) -> None:
    text = page.read_text()
    cells = re.findall(r'<td id="([^"]*)"[^>]*>(.*?)</td>', text, flags=re.DOTALL)
    assert cells
    for anchor, inside in cells:
        assert f'href="#{anchor}"' in inside or "–" in inside
    assert max(len(re.findall(r'href="#run-([^"]*)"', inside)) for _, inside in cells) == 2  # two seeds
    runs = dict(re.findall(r'<details class="run" id="run-([^"]*)">(.*?)</details>', text, flags=re.DOTALL))
    for run, inside in runs.items():
        assert (f'href="runs/{run}/"' in inside) == (page.parent / "runs" / run).exists()
    linked = {(run, plot) for run, inside in runs.items() for plot in re.findall(r'href="#(curve-[^"]*)"', inside)}
    drawn = re.findall(r'<figure class="curve" id="([^"]*)">(.*?)</figure>', text, flags=re.DOTALL)
    assert linked == {(run, plot) for plot, svg in drawn for run in re.findall(r'data-run="([^"]*)"', svg)}


def test_what_was_decided_comes_before_tables_and_runs(page: Path) -> None:
    text = page.read_text()
    marks = ("<h1>", 'id="asked"', 'id="claims"', 'class="trust"', 'id="table3"', 'id="runs"')
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "No claim decided yet; 3 undecided; 7 without a finished run" in text
    assert "Neither control has a finished run here" in text
    shared = "one head: the intervals do not include the variance"
    card, beside = text[text.index('id="claim-C8"') :].split("</li>")[0], text[text.index('class="trust"') :]
    assert shared in card
    assert shared in beside.split("</aside>")[0]
    assert "SSKD above KD, AT and CRD, in 25%, 50%, 75% and 100%." in card
    assert "0 of 12 comparisons decided" in card


def test_a_decided_claim_and_what_it_rests_on(tmp_path: Path) -> None:
    """SSKD far above KD and CRD, and above AT by too little for three seeds; KD again is far from KD, so it errs."""
    profile = read_profile("paper", ["seeds=[0,1,2]", "methods=[none,kd,kd_again]", "fractions=[0.25]"])
    cells = cells_of(profile, "comparison", "fig4a")
    level = {"kd": 60.0, "kd_again": 75.0, "at": 79.0, "crd": 60.0, "sskd": 80.0}
    noise = {"sskd": (0.1, 0.0, -0.1), "at": (3.0, -3.0, 0.0), "kd_again": (0.1, 0.0, 0.0)}

    def reached(spec: RunSpec) -> float:
        name = spec.learns
        return level.get(name, 50.0) + noise.get(name, (0.0, 0.1, 0.05))[spec.seed]

    finish(cells, tmp_path / "runs", reached)
    write_report(profile, cells, tmp_path)
    text = (tmp_path / "index.html").read_text()
    card = text[text.index('id="claim-C8"') :].split("</li>")[0]
    assert "2 of 3 comparisons decided: SSKD - KD, 25% (above); SSKD - CRD, 25% (above)" in card
    assert re.findall(r'<td><span class="badge (\w+)">', card) == ["supported", "undecided", "supported"]
    assert "1 of 1 comparison of KD with itself called a difference" in text
    assert "<b>To decide it:</b> 10 seeds decide it with a predictive probability of " in card
    level["at"], noise["at"] = 60.0, (0.0, 0.1, 0.05)
    for name in ("fig4a", "comparison"):
        for cell in cells[name]:
            (tmp_path / "runs" / cell.spec.id / "result.json").unlink(missing_ok=True)
    finish(cells, tmp_path / "runs", reached)
    write_report(profile, cells, tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "1 of 10 claims decided: 1 supported; 9 without a finished run" in text
    assert '<tr class="decided">' in text
    assert '<td class="decided">' in text
    card = text[text.index('id="claim-C8"') :].split("</li>")[0]
    assert "3 of 3 comparisons decided</summary>" in card
    assert "To decide it" not in card


def test_every_comparison_of_a_claim_leads_to_its_cells_and_curves(page: Path) -> None:
    text = page.read_text()
    card = text[text.index('id="claim-C8"') :].split("</li>")[0]
    rows = card[card.index("<tbody>") :].split("</tbody>")[0].split("<tr>")[1:]
    assert len(rows) == 12
    assert 'href="#cell-fig4a-SSKD-25-last"' in rows[0]
    assert 'href="#cell-fig4a-KD-25-last"' in rows[0]
    assert 'href="#curve-fig4a-1"' in rows[0]
    assert rows[0].count("data-value=") == 3


def test_cells_have_links_that_stay(page: Path) -> None:
    assert 'id="cell-table6-SSKD-vgg13-vgg8-KL"' in page.read_text()


def test_all_numbers_can_be_sorted_by_their_values(page: Path) -> None:
    text = page.read_text()
    assert '<table class="wide sortable">' in text
    for cell in re.findall(r'<td class="num"[^>]*>', text):
        assert re.search(r'data-value="(-?[\d.]+(e-?\d+)?)?"', cell), cell


def test_styles_for_phones_dark_grounds_and_paper(page: Path) -> None:
    style = page.read_text().split("</style>")[0]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    assert "details-content" in style.split("@media print")[1]
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in style


def test_nothing_is_fetched(page: Path) -> None:
    text = without_paper_links(page.read_text())
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|<iframe|<link(?![^>]*href=\"data:,\")", text)
    assert not re.findall(r'(?:src|srcset|href|poster|action)="(?!data:|#|[\w./-]+")[^"]*"', text)


def test_claims_without_a_run_are_one_line(page: Path) -> None:
    text = page.read_text()
    listed = text[text.index('<ol class="claims">') :].split("</ol>")[0]
    assert re.findall(r'<li id="claim-(C\d+)">', listed) == ["C2", "C7", "C8"]
    assert "no run is finished: C1, C3, C4, C5, C6, C9, C10" in text
    claims = (page.parent / "claims.md").read_text()
    assert re.findall(r"^\| (C\d+) ", claims, flags=re.MULTILINE) == ["C2", "C7", "C8"]
    assert "no run is finished: C1 (abstract, Table 4), C3 " in claims


def test_a_method_has_one_colour_in_all_curves(page: Path) -> None:
    pairs = re.findall(r'<li class="(k-\w+ d\d)"><svg[^>]*><line[^>]*/></svg>([^<]*)</li>', page.read_text())
    known = {row: {look for look, name in pairs if name == row} for _, row in pairs}
    assert {len(looks) for looks in known.values()} == {1}
    assert len({next(iter(looks)) for looks in known.values()}) == len(known)


class Balanced(HTMLParser):
    """Counts what is opened and not closed."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "source"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_tags_are_balanced(page: Path) -> None:
    parser = Balanced()
    parser.feed(page.read_text())
    assert (parser.wrong, parser.open) == ([], [])


def test_methods_lead_to_their_papers(page: Path) -> None:
    assert '<a class="to" href="https://arxiv.org/abs/2006.07114">SSKD</a>' in page.read_text()


def in_browser(page: Path, place: Path, *options: str) -> dict[str, Any]:
    """Returns the output of the scripts above in headless Chromium, on a file:// page without network access."""
    copy = place / "copy.html"
    text = page.read_text()
    copy.write_text(text.replace("<head>", f"<head>{BEFORE}", 1).replace("</body>", f"{AFTER}</body>", 1))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *QUIET.split(), *options]
    command += [f"--user-data-dir={place / 'chromium'}", "--virtual-time-budget=4000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<script type="application/json" id="seen">(.*?)</script>', done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")
def test_in_chromium(page: Path, tmp_path: Path) -> None:
    seen = in_browser(page, tmp_path)
    assert seen["errors"] == []
    assert seen["loaded"] == seen["images"] == len(NAMES)
    numbers = [float(value) for value in seen["down"] if value]
    assert sorted(seen["before"]) == sorted(seen["down"]) == sorted(seen["up"])
    assert numbers == sorted(numbers, reverse=True)
    assert [float(value) for value in seen["up"] if value] == numbers[::-1]
    assert seen["down"] != seen["before"]
    assert seen["aria"] == "ascending"
    assert seen["chosen"] == 2  # the first run, a teacher, is in two of the columns
    assert len(seen["cell"]) == 2
    assert seen["shown"] == [f"run-{run}" for run in seen["cell"]]
    assert (seen["folded"], seen["unfolded"]) == ("none", "block")
    assert seen["part"][0] == seen["part"][1]
    assert seen["filtered"] == ["RKD"]
    assert seen["unfiltered"] == seen["closed"] == 0
    assert seen["closed_after"] > 0
    assert seen["curve"] == [True, seen["cell"][0], seen["cell"][0]]
    assert seen["found"]
    assert all("sskd" in run for run in seen["found"])
    assert seen["background"] == "rgb(252, 252, 250)"
    (tmp_path / "dark").mkdir()
    dark = in_browser(page, tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    assert (dark["errors"], dark["background"]) == ([], "rgb(21, 23, 26)")


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")
def test_on_a_phones_width_only_boxes_scroll(page: Path, tmp_path: Path) -> None:
    """Headless windows are 500 px wide at least, so the phone is a frame in one."""
    framed = tmp_path / "framed.html"
    script = "<script>addEventListener('load',()=>{const d=document.querySelector('iframe').contentDocument;"
    script += "const i=[...d.images];const far=Math.max(...[...d.querySelectorAll('nav a')].map("
    script += "x=>x.getBoundingClientRect().right));document.title='width '+d.documentElement.scrollWidth+' of '+far+"
    script += "': '+i.length+' '+Math.min(...i.map(x=>x.clientWidth/x.naturalWidth))})</script>"
    content = html.escape(page.read_text(), quote=True)
    framed.write_text(f'<title></title><iframe width="390" height="800" srcdoc="{content}"></iframe>{script}')
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *QUIET.split(), "--virtual-time-budget=4000"]
    command += [f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", framed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>width (\d+) of ([\d.]+): (\d+) ([\d.]+)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    assert int(found[1]) <= 390
    assert float(found[2]) <= 390  # the menu is not cut
    assert int(found[3]) == len(NAMES)
    assert float(found[4]) > 0.55  # figures' 9 points are 20 pixels in their file: 11 on the phone


def test_of_very_many_runs_each_has_its_line_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = read_profile("paper", ["seeds=[0]", "methods=[none,kd]"])
    cells = cells_of(profile, "comparison")
    finish(cells, tmp_path / "runs", top1)
    monkeypatch.setattr("benchmarks.report.page.MOST_TOLD", 2)
    write_report(profile, cells, tmp_path)
    text = (tmp_path / "index.html").read_text()
    runs = text[text.index('id="run-list"') :]
    assert set(re.findall(r'<p class="run line" id="run-([^"]*)"', runs)) == {
        path.name for path in (tmp_path / "runs").iterdir()
    }
    assert "<details" not in runs
    assert set(re.findall(r'href="#run-([^"]*)"', text)) <= set(re.findall(r'id="run-([^"]*)"', text))
