// Sorting and filtering of tables, and figures that are drawn when they come into sight. Without it the page is tables.
"use strict";
document.documentElement.classList.add("js");

// --- tables ---

// what a cell counts as: its data-value, else the number it begins with, else its text
function value(cell) {
  const text = (cell?.dataset.value ?? cell?.textContent ?? "").trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? -1 : 1;
}

function sort(table, column, down) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [row, value(row.cells[column])]);
  const empty = (v) => v === "" || v === "–";
  rows.sort(([, a], [, b]) => (empty(a) - empty(b)) || (down ? compare(b, a) : compare(a, b)));
  rows.forEach(([row]) => body.append(row));
  [...table.tHead.rows[0].cells].forEach((head, i) =>
    i === column ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
}

document.querySelectorAll("table").forEach((table) => {
  [...(table.tHead?.rows[0].cells ?? [])].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column, head.getAttribute("aria-sort") === "ascending"));
    head.append(button);
  });
});

const filter = document.getElementById("filter");
if (filter) {
  const rows = [...document.querySelectorAll("#ranking tbody tr")];
  const apply = () => {
    const words = filter.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      const kind = filter.elements[row.dataset.kind];
      row.hidden = !words.every((word) => text.includes(word)) || (kind !== undefined && !kind.checked);
    });
    filter.querySelector(".count").textContent = `${rows.filter((r) => !r.hidden).length} of ${rows.length} rows`;
  };
  filter.addEventListener("input", apply);
  filter.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// --- figures ---

// which traces are shown where one generator is picked ("*": all of them; of a figure that shows one, the first)
function shown(spec, picked) {
  const names = [...new Set(spec.data.map((trace) => trace.meta).filter(Boolean))];
  const one = picked !== "*" && names.includes(picked) ? picked : names[0];
  return spec.data.map((trace) =>
    !trace.meta || (picked === "*" && !spec.single ? true : trace.meta === (spec.single ? one : picked)));
}

function draw(plot) {
  if (plot.dataset.drawn) return;
  const spec = JSON.parse(plot.parentElement.querySelector("script").textContent);
  const select = plot.closest("section")?.querySelector("select");
  const visible = shown(spec, select ? select.value : "*");
  spec.data.forEach((trace, i) => { trace.visible = visible[i]; });
  plot.dataset.drawn = "yes";
  plot.style.minHeight = "";
  Plotly.newPlot(plot, spec.data, spec.layout, spec.config);
  plot.spec = spec;
}

const plots = [...document.querySelectorAll(".plot")];
const eye = new IntersectionObserver((seen) => seen.filter((s) => s.isIntersecting).forEach((s) => draw(s.target)),
  { rootMargin: "400px" });
plots.forEach((plot) => {
  plot.style.minHeight = `${plot.dataset.height}px`;
  eye.observe(plot);
});
window.addEventListener("beforeprint", () => plots.forEach(draw));
document.querySelectorAll("section select").forEach((select) =>
  select.addEventListener("change", () => select.closest("section").querySelectorAll(".plot").forEach((plot) => {
    if (plot.spec) Plotly.restyle(plot, { visible: shown(plot.spec, select.value) });
  })));
