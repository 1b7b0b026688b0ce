"""The page in a real browser: without an error, and narrow enough for a phone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import REPORTED

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
QUIET = "--disable-background-networking --disable-component-update --disable-sync --disable-quic --no-first-run"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium"),
]

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


def rendered(page: Path, *options: str) -> str:
    """Returns the document that headless Chromium makes of a file:// page without network access."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *QUIET.split(), *options]
    command += [f"--user-data-dir={page.parent / 'chromium'}", "--virtual-time-budget=4000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def in_browser(page: Path, place: Path, *options: str) -> dict[str, Any]:
    """Returns the values that the scripts above have written into the document."""
    place.mkdir()
    text = page.read_text().replace("<head>", f"<head>{BEFORE}", 1).replace("</body>", f"{AFTER}</body>", 1)
    (place / "copy.html").write_text(text)
    shown = rendered(place / "copy.html", *options)
    found = re.search(r'<script type="application/json" id="seen">(.*?)</script>', shown, flags=re.DOTALL)
    assert found, shown[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


def test_in_chromium(reported: Path, tmp_path: Path) -> None:
    page = reported / "index.html"
    seen = in_browser(page, tmp_path / "light")
    assert seen["errors"] == []
    assert seen["loaded"] == seen["images"] == len(REPORTED)
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
    dark = in_browser(page, tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    assert (dark["errors"], dark["background"]) == ([], "rgb(21, 23, 26)")


def test_on_a_phones_width_only_boxes_scroll(reported: Path, tmp_path: Path) -> None:
    """Headless windows are 500 px wide at least, so the phone is a frame in one."""
    framed = tmp_path / "framed.html"
    script = "<script>addEventListener('load',()=>{const d=document.querySelector('iframe').contentDocument;"
    script += "const i=[...d.images];const far=Math.max(...[...d.querySelectorAll('nav a')].map("
    script += "x=>x.getBoundingClientRect().right));document.title='width '+d.documentElement.scrollWidth+' of '+far+"
    script += "': '+i.length+' '+Math.min(...i.map(x=>x.clientWidth/x.naturalWidth))})</script>"
    content = html.escape((reported / "index.html").read_text(), quote=True)
    framed.write_text(f'<title></title><iframe width="390" height="800" srcdoc="{content}"></iframe>{script}')
    shown = rendered(framed)
    found = re.search(r"<title>width (\d+) of ([\d.]+): (\d+) ([\d.]+)</title>", shown)
    assert found, shown[-2000:]
    assert int(found[1]) <= 390
    assert float(found[2]) <= 390  # the menu is not cut
    assert int(found[3]) == len(REPORTED)
    assert float(found[4]) > 0.55  # figures' 9 points are 20 pixels in their file: 11 on the phone
