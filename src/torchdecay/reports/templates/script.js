"use strict";
const views = new Map();
const filled = (made, attributes = {}, text = "") => {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
};
const html = (tag, attributes, text) => filled(document.createElement(tag), attributes, text);
// Make a name in a legend a button that hides and shows its line, and that points at it.
const press = (item, view) => {
  // Looked for at each press: charts may have been drawn anew.
  const series = () => view.querySelectorAll(`.charts .series-${item.dataset.series}, .hero .series-${item.dataset.series}`);
  const button = html("button", {type: "button", "aria-pressed": true, title: "Show or hide in the charts"});
  button.append(...item.childNodes);
  item.append(button);
  const others = () => view.querySelectorAll("svg.chart [class^='series-']");
  const light = (on) => {
    for (const other of others()) other.classList.toggle("faint", on);
    for (const own of series()) {
      own.classList.remove("faint");
      own.classList.toggle("lit", on);
    }
  };
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    for (const own of series()) own.classList.toggle("hidden", !on);
    views.get(view)?.show(item.dataset.series, on);
  });
  for (const name of ["mouseenter", "focus"]) button.addEventListener(name, () => light(true));
  for (const name of ["mouseleave", "blur"]) button.addEventListener(name, () => light(false));
};
for (const item of document.querySelectorAll("[data-legend] [data-series]")) press(item, item.closest("[data-view]"));
for (const block of document.querySelectorAll("pre.command")) {
  if (!navigator.clipboard) break;
  const button = html("button", {type: "button", class: "copy"}, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Press Ctrl+C";
    }
  });
  block.after(button);
}
// Tables are sorted by a press on a head; long ones are filtered by what is typed.
for (const table of document.querySelectorAll("table.sortable, table.finals")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) continue;
  const key = (row, column) => {
    const {dataset, textContent} = row.cells[column];
    const text = dataset.key ?? textContent.replaceAll(",", "").replace("−", "-").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/)?.[0] ?? "";
    return text === "" ? NaN : text === "inf" ? Infinity : Number(text);
  };
  heads.forEach((head, column) => {
    const button = html("button", {type: "button"});
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
      const rows = [...body.rows], words = column === 0 && !rows[0].cells[0].dataset.key;
      rows.sort((one, other) => {
        if (words) return way * one.cells[0].textContent.localeCompare(other.cells[0].textContent, "en", {numeric: true});
        const [a, b] = [key(one, column), key(other, column)];
        // What has no number stays below, whichever way it is sorted.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return a === b ? 0 : (a < b ? -1 : 1) * way;
      });
      body.append(...rows);
    });
  });
  if (body.rows.length > 12) {
    const label = `Filter ${table.caption.textContent}`;
    const field = html("input", {type: "search", class: "filter", placeholder: "Filter rows", "aria-label": label});
    field.addEventListener("input", () => {
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
    });
    table.closest(".scroll").before(field);
  }
}
// The page of a training that goes on is written again while it is looked at; what nobody writes any more is left alone.
if ("grows" in document.body.dataset && Date.now() - Date.parse(document.lastModified) < 3600e3) {
  setInterval(() => {
    if (!document.hidden && !document.querySelector(".readout:not([hidden]), .redrawn")) location.reload();
  }, 60e3);
}
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll(".plans details")) fold.open = true;
});
