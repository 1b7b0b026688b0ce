"use strict";
// Only sorting, filtering, choosing and finding need this: all else shows without it. A cell that a link leads to shows
// its runs by the style alone.

// --- tables: a click on a column's head sorts by it, largest first, and the other way on the next click
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.querySelectorAll(".leaf th")].forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const known = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim();
      const rows = [...body.rows].map((row) => [known(row), row]);
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays below
        const order = isNaN(a) || isNaN(b) ? b.localeCompare(a) : b - a;
        return down ? order : -order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// --- long tables: only the rows that have all the words
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 10) continue;
  const input = document.createElement("input");
  input.type = "search";
  input.className = "filter";
  input.placeholder = "Filter rows: sskd 25%";
  input.setAttribute("aria-label", "Show only rows with these words");
  table.closest(".scroll").before(input);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
}

// --- training curves: choose a run, and the others of its group step back
for (const group of document.querySelectorAll("details.curves")) {
  const lines = [...group.querySelectorAll("polyline[data-run]")];
  group.choose = () => {};
  if (!lines.length) continue;
  const label = document.createElement("label");
  label.className = "chooser";
  label.append("Show one run against the others ");
  const select = document.createElement("select");
  select.append(new Option("all alike", ""));
  for (const run of new Set(lines.map((line) => line.dataset.run))) select.append(new Option(run, run));
  label.append(select);
  group.querySelector(".caption").after(label);
  group.choose = (run) => {
    select.value = run;
    select.dispatchEvent(new Event("change"));
  };
  select.addEventListener("change", () => {
    for (const figure of group.querySelectorAll(".curve")) {
      const on = [...figure.querySelectorAll("polyline")].filter((line) => line.dataset.run === select.value);
      figure.classList.toggle("chosen", on.length > 0);
      for (const line of figure.querySelectorAll(".on")) line.classList.remove("on");
      for (const line of on) {
        line.classList.add("on");
        line.parentNode.append(line); // drawn last, so on top
      }
      figure.hidden = select.value !== "" && on.length === 0;
    }
  });
}

// --- runs: find by words of the id; a link to a run opens it, and a table's cell shows the runs that it is the mean of
const list = document.getElementById("run-list");
const search = document.createElement("input");
search.type = "search";
search.placeholder = "Find runs: crd vgg8 s0";
search.setAttribute("aria-label", "Find runs by words of their id");
list.before(search);
const show = (wanted) => {
  for (const run of list.querySelectorAll(".run[id]")) run.hidden = !wanted(run.id);
};
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/);
  show((id) => words.every((word) => id.toLowerCase().includes(word)));
});
const every = document.createElement("button");
every.type = "button";
every.textContent = "Show all runs";
every.hidden = true;
search.after(every);
every.addEventListener("click", () => {
  every.hidden = true;
  search.value = "";
  show(() => true);
});
const showCell = (cell) => {
  const ids = [...cell.querySelectorAll('.of a[href^="#run-"]')].map((link) => link.getAttribute("href").slice(1));
  show((id) => ids.includes(id));
  for (const id of ids) document.getElementById(id).open = true;
  every.hidden = false;
};
for (const link of document.querySelectorAll("a[data-run]"))
  link.addEventListener("click", () => {
    const group = document.querySelector(link.getAttribute("href")).closest("details");
    group.open = true;
    group.choose(link.dataset.run);
  });
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let box = target.parentElement?.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  if (target.matches("td[id]")) showCell(target);
  if (target.hidden) every.click();
  if (target.matches("details")) target.open = true;
  target.scrollIntoView({ block: target.matches("td") ? "center" : "start", inline: "nearest" });
};
addEventListener("hashchange", open);
open();

// --- printing: everything is open, and afterwards as it was
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const box of closed) box.open = true;
});
addEventListener("afterprint", () => {
  for (const box of closed) box.open = false;
});
