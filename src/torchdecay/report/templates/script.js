"use strict";
for (const list of document.querySelectorAll("[data-legend]")) {
  const view = list.closest("[data-view]");
  for (const item of list.querySelectorAll("[data-series]")) {
    const series = view.querySelectorAll(`.charts .series-${item.dataset.series}, .hero .series-${item.dataset.series}`);
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.title = "Show or hide in the charts";
    button.append(...item.childNodes);
    item.append(button);
    const others = () => view.querySelectorAll("svg.chart [class^='series-']");
    const light = (on) => {
      for (const other of others()) other.classList.toggle("faint", on);
      for (const own of series) own.classList.remove("faint");
    };
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const own of series) own.classList.toggle("hidden", !on);
    });
    for (const name of ["mouseenter", "focus"]) button.addEventListener(name, () => light(true));
    for (const name of ["mouseleave", "blur"]) button.addEventListener(name, () => light(false));
  }
}
for (const block of document.querySelectorAll("pre.command")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
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
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll(".plans details")) fold.open = true;
});
