// Charts answer: values under the pointer in all charts of an axis at once, zoom, log scale, smoothing, files to save.
// The picture that stands there stays for whoever has no script; what is changed is drawn anew beside it.
const SVG = "http://www.w3.org/2000/svg";
const SMOOTHING = {off: 0, light: 0.6, strong: 0.9};
const make = (tag, attributes, text) => filled(document.createElementNS(SVG, tag), attributes, text);
const say = (value) => {
  if (value === null || !Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  const text = size && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return (Number.isInteger(value) && size < 1e9 ? value.toLocaleString("en") : text).replace("-", "−");
};
const colorOf = (line) => `var(--${line.color})`;
const ticks = (low, high, log) => {
  if (log && Math.log10(high / low) >= 1) {
    const tens = Math.log10(high / low), parts = tens > 2.5 ? [1] : [1, 2, 5];
    const found = [];
    for (let ten = Math.floor(Math.log10(low)); ten <= Math.ceil(Math.log10(high)); ten += Math.ceil(tens / 8))
      for (const part of parts) found.push(part * 10 ** ten);
    return found.filter((at) => at >= low && at <= high);
  }
  const rough = (high - low) / 4, ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * ten).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
};
const smoothed = (values, share) => {
  if (!share) return values;
  // An exponential mean, without the pull toward 0 that it begins with; gaps stay gaps.
  let sum = 0, weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = share * sum + (1 - share) * value;
    weight = share * weight + 1 - share;
    return sum / weight;
  });
};

class Chart {
  constructor(figure, view, number) {
    Object.assign(this, JSON.parse(figure.dataset.curves), {figure, view, number});
    for (const line of this.lines) line.x ??= this.xs;
    this.svg = figure.querySelector("svg.chart");
    this.svg.classList.add("answers");
    this.svg.setAttribute("tabindex", "0");
    this.drawn = this.svg.appendChild(make("g", {class: "anew"}));
    this.cross = this.svg.appendChild(make("g", {class: "cross", hidden: ""}));
    this.readout = figure.appendChild(html("div", {class: "readout", hidden: ""}));
    this.range = [this.x[0], this.x[1]];
    this.height = this.y;
    for (const line of this.lines) if (line.quiet) this.svg.prepend(this.band(line, line.x.map(() => true), "quiet"));
    this.listen();
    this.offerFiles();
  }

  get shown() {
    return this.lines.filter((line) => !this.view.hidden.has(String(line.series)));
  }

  toX(at) {
    const [left, , width] = this.box, [low, high] = this.x[2] ? this.range.map(Math.log) : this.range;
    return left + width * ((this.x[2] ? Math.log(at) : at) - low) / (high - low);
  }

  fromX(place) {
    const [left, , width] = this.box, [low, high] = this.x[2] ? this.range.map(Math.log) : this.range;
    const at = low + (high - low) * (place - left) / width;
    return this.x[2] ? Math.exp(at) : at;
  }

  toY(at) {
    const [, top, , height] = this.box, [low, high, log] = this.height;
    const share = log ? Math.log(at / low) / Math.log(high / low) : (at - low) / (high - low);
    return top + height * (1 - share);
  }

  place(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const [left, , width] = this.box;
    return Math.min(Math.max(point.x, left), left + width);
  }

  listen() {
    let from = null;
    this.svg.addEventListener("pointermove", (event) => {
      const at = this.place(event);
      if (from !== null) this.select(from, at);
      this.view.point(this, this.fromX(at));
    });
    this.svg.addEventListener("pointerleave", () => {
      if (from === null) this.view.point(this, null);
    });
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button) return;
      from = this.place(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const ends = [from, this.place(event)].sort((one, other) => one - other);
      from = null;
      this.mark?.remove();
      if (ends[1] - ends[0] > 8) this.view.zoom(this, ends.map((end) => this.fromX(end)));
    });
    this.svg.addEventListener("dblclick", () => this.view.zoom(this, null));
    this.svg.addEventListener("blur", () => this.view.point(this, null));
    this.svg.addEventListener("keydown", (event) => {
      const places = this.places();
      const here = this.at === undefined || this.at === null ? -1 : this.nearest(places, this.at);
      const to = {ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: places.length - 1}[event.key];
      if (to !== undefined) {
        event.preventDefault();
        this.view.point(this, places[Math.min(Math.max(to, 0), places.length - 1)]);
      } else if (event.key === "+" || event.key === "-") {
        const [low, high] = this.range, middle = this.at ?? (low + high) / 2, reach = (high - low) * (event.key === "+" ? 0.25 : 1);
        this.view.zoom(this, reach < this.x[1] - this.x[0] ? [middle - reach, middle + reach] : null);
      } else if (event.key === "Escape") {
        this.view.point(this, null);
        this.view.zoom(this, null);
      }
    });
  }

  // Along the axis one step is a step, or a part of an epoch.
  get scale() {
    return this.unit === "step" && this.view.perEpoch ? this.view.perEpoch : 1;
  }

  told(at) {
    return this.scale === 1 ? `${this.unit} ${say(at)}` : `epoch ${say(at / this.scale)}`;
  }

  places() {
    const longest = this.lines.reduce((one, other) => (other.x.length > one.x.length ? other : one));
    return longest.x.filter((at) => at >= this.range[0] && at <= this.range[1]);
  }

  nearest(places, at) {
    return places.reduce((best, one, index) => (Math.abs(one - at) < Math.abs(places[best] - at) ? index : best), 0);
  }

  select(from, to) {
    const [, top, , height] = this.box;
    this.mark?.remove();
    this.mark = make("rect", {class: "selection", x: Math.min(from, to), y: top, width: Math.abs(to - from), height});
    this.svg.append(this.mark);
  }

  point(at, own) {
    this.at = at;
    const nothing = at === null || at < this.range[0] || at > this.range[1] || !this.shown.length;
    this.cross.toggleAttribute("hidden", nothing);
    this.readout.hidden = nothing;
    if (nothing) return;
    const [, top, , height] = this.box;
    // Where each line stands at its point nearest to `at`, and what its seeds reach from and to there.
    const all = this.shown.map((line) => {
      const index = this.nearest(line.x, at), y = smoothed(line.y, this.view.smoothing)[index];
      return {line, x: line.x[index], y, low: line.low?.[index], high: line.high?.[index]};
    });
    // The line stands where there is a value.
    const there = all.reduce((one, other) => (Math.abs(other.x - at) < Math.abs(one.x - at) ? other : one)).x;
    const x = this.toX(there);
    this.cross.replaceChildren(make("line", {x1: x, x2: x, y1: top, y2: top + height}));
    for (const one of all) {
      const cy = one.y === null ? NaN : this.toY(one.y);
      if (cy >= top - 1 && cy <= top + height + 1)
        this.cross.append(make("circle", {cx: this.toX(one.x), cy, r: 3, style: `fill: ${colorOf(one.line)}`}));
    }
    const rows = [...all].sort((one, other) => (other.y ?? -Infinity) - (one.y ?? -Infinity)).map((one) => {
      const row = html("div"), swatch = html("i", {style: `background: ${colorOf(one.line)}`});
      const spread = one.low === undefined || this.view.smoothing ? "" : ` (${say(one.low)} to ${say(one.high)})`;
      row.append(swatch, html("bdi", {}, one.line.label), html("b", {}, say(one.y) + spread));
      return row;
    });
    this.readout.replaceChildren(html("strong", {}, this.told(there)), ...rows);
    this.readout.setAttribute("role", own ? "status" : "presentation");
    const right = x > this.box[0] + this.box[2] / 2;
    const edge = this.svg.getBoundingClientRect(), frame = this.figure.getBoundingClientRect();
    const scale = edge.width / this.svg.viewBox.baseVal.width;
    this.readout.style.top = `${edge.top - frame.top + top * scale}px`;
    const beside = edge.left - frame.left + (right ? x - 8 : x + 8) * scale - (right ? this.readout.offsetWidth : 0);
    this.readout.style.left = `${Math.max(4, Math.min(beside, frame.width - this.readout.offsetWidth - 4))}px`;
  }

  // Draw anew what the settings change; nothing changed, the picture as it was.
  draw(zoomed) {
    const {smoothing, log} = this.view;
    this.range = zoomed ? [Math.max(zoomed[0], this.x[0]), Math.min(zoomed[1], this.x[1])] : [this.x[0], this.x[1]];
    const seen = this.shown.map((line) => ({
      ...line,
      y: smoothed(line.y, smoothing),
      within: line.x.map((at) => at >= this.range[0] && at <= this.range[1]),
    }));
    const values = seen.flatMap((line) => line.y.filter((value, index) => value !== null && line.within[index]));
    const can = values.length > 0 && Math.min(...values) > 0;
    const asLog = (log ?? this.y[2]) && can;
    const each = this.view.seeds && seen.some((line) => line.seeds), more = seen.some((line) => line.more);
    const same = !smoothing && !zoomed && !each && !more && this.scale === 1 && asLog === this.y[2];
    this.svg.classList.toggle("redrawn", !same);
    this.drawn.replaceChildren();
    this.height = this.y;
    if (same || !values.length) return;
    const low = Math.min(...values), high = Math.max(...values), air = 0.06 * (high - low || Math.abs(high) || 1);
    if (asLog) this.height = [low / 1.25, high * 1.25, true];
    else if (zoomed || this.y[2]) this.height = [low - air, high + air, false];
    else this.height = more ? [Math.min(this.y[0], low), Math.max(this.y[1], high), false] : this.y;
    this.axes();
    for (const line of seen) this.line(line, smoothing);
  }

  axes() {
    const [left, top, width, height] = this.box, bottom = top + height;
    const text = (x, y, anchor, words) => this.drawn.append(make("text", {x, y, "text-anchor": anchor}, words));
    for (const at of ticks(...this.height)) {
      const y = this.toY(at);
      this.drawn.append(make("line", {class: "grid", x1: left, x2: left + width, y1: y, y2: y}));
      text(left - 6, y + 3.5, "end", say(at));
    }
    this.drawn.append(make("line", {class: "axis", x1: left, x2: left + width, y1: bottom, y2: bottom}));
    const ends = this.range.map((end) => end / this.scale);
    for (const at of ticks(...ends, this.x[2])) text(this.toX(at * this.scale), bottom + 15, "middle", say(at));
    text(left + width, bottom + 31, "end", this.scale === 1 ? this.unit : "epoch");
    if (this.height[2]) text(left, bottom + 31, "start", "↑ log scale");
  }

  // A line of these values; what the scale can't show breaks it.
  path(line, values, within = () => true) {
    let text = "", pen = "M";
    values.forEach((value, index) => {
      if (value === null || !within(index) || (this.height[2] && value <= 0)) return void (pen = "M");
      text += `${pen}${this.toX(line.x[index]).toFixed(1)} ${this.toY(value).toFixed(1)}`;
      pen = "L";
    });
    return text;
  }

  band(line, wanted, kind) {
    const shown = (index) => wanted[index] && line.low[index] !== null && !(this.height[2] && line.low[index] <= 0);
    const places = line.x.map((_, index) => index).filter(shown);
    const corner = (values) => (index) => `${this.toX(line.x[index]).toFixed(1)} ${this.toY(values[index]).toFixed(1)}`;
    const around = [...places.map(corner(line.high)), ...places.reverse().map(corner(line.low))];
    const outer = make("g", {class: `series-${line.series} ${kind}`});
    outer.append(make("path", {class: "shade", d: around.length ? `M${around.join("L")}Z` : "", style: `fill: ${colorOf(line)}`}));
    return outer;
  }

  line(line, smoothing) {
    const [left, top, width, height] = this.box, name = `clip-${this.view.number}-${this.number}`;
    // One point beyond each end, so that lines reach the edge; the clip takes the rest.
    const wanted = line.x.map((_, index) => line.within[index] || line.within[index - 1] || line.within[index + 1]);
    const clip = make("clipPath", {id: name});
    clip.append(make("rect", {x: left, y: top - 4, width, height: height + 8}));
    this.drawn.querySelector("clipPath") ?? this.drawn.append(clip);
    const group = make("g", {class: `series-${line.series} line`, "clip-path": `url(#${name})`});
    const add = (values, attributes, of = line) => {
      const d = this.path(of, values, of === line ? (index) => wanted[index] : undefined);
      group.append(make("path", {d, style: `stroke: ${colorOf(line)}`, ...attributes}));
    };
    if (!smoothing && line.low) {
      const band = this.band(line, wanted, line.quiet ? "quiet" : "band");
      band.setAttribute("clip-path", `url(#${name})`);
      this.drawn.append(band);
    }
    if (smoothing) add(this.lines.find((one) => one.series === line.series).y, {class: "raw"});
    if (this.view.seeds)
      for (const seed of line.seeds ?? []) add(seed, {class: "raw"}, {x: line.x.filter((_, index) => index % line.every === 0)});
    add(line.y, {"stroke-width": 2, "stroke-dasharray": line.dashes?.map((one) => 2 * one).join(" ") ?? ""});
    this.drawn.append(group);
  }

  offerFiles() {
    const save = (name, kind, content) => {
      const link = html("a", {href: URL.createObjectURL(new Blob([content], {type: kind})), download: name});
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    };
    const title = this.figure.querySelector(".chart-title").textContent.trim();
    const name = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
    const tools = html("p", {class: "save"}, "Save: ");
    for (const [kind, write] of [["SVG", () => save(`${name}.svg`, "image/svg+xml", this.asFile(title))], ["CSV", () => save(`${name}.csv`, "text/csv", this.asTable())]]) {
      const button = html("button", {type: "button", "aria-label": `Save ${title} as ${kind}`}, kind);
      button.addEventListener("click", write);
      tools.append(button, " ");
    }
    this.figure.append(tools);
  }

  asTable() {
    // A spreadsheet would run a label that begins like a formula.
    const cell = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
    const rows = [["series", this.unit, "value", "low", "high"].map(cell).join(",")];
    for (const line of this.lines)
      line.x.forEach((at, index) => {
        const cells = [line.y, line.low, line.high].map((values) => values?.[index] ?? "");
        rows.push([cell(line.label), at, ...cells].join(","));
      });
    return rows.join("\n") + "\n";
  }

  asFile(title) {
    const copy = this.svg.cloneNode(true), style = getComputedStyle(document.documentElement);
    for (const gone of copy.querySelectorAll(".cross, .selection, .hidden, .quiet")) gone.remove();
    if (!this.svg.classList.contains("redrawn")) copy.querySelector(".anew").remove();
    else for (const old of [...copy.children]) if (!old.matches(".anew, defs")) old.remove();
    // What the page's style sheet says of what is drawn anew goes along.
    const rules = [...document.styleSheets[0].cssRules].filter((rule) => rule.selectorText?.startsWith(".chart "));
    copy.append(make("style", {}, rules.map((rule) => rule.cssText.replaceAll(".chart ", "")).join("")));
    copy.setAttribute("width", this.svg.viewBox.baseVal.width);
    copy.setAttribute("height", this.svg.viewBox.baseVal.height);
    copy.setAttribute("font-family", style.fontFamily || "sans-serif");
    copy.style.background = style.getPropertyValue("--card");
    copy.prepend(make("title", {}, title));
    const text = new XMLSerializer().serializeToString(copy);
    return text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
  }
}

class View {
  constructor(root, number) {
    Object.assign(this, {root, number, smoothing: 0, log: null, zoomed: null, seeds: false, perEpoch: 0});
    this.charts = [...root.querySelectorAll("figure[data-curves]")].map((figure, index) => new Chart(figure, this, index));
    const more = this.charts.flatMap((chart) => chart.lines.filter((line) => line.more));
    this.hidden = new Set(more.map((line) => String(line.series)));
    this.more = new Map(more.map((line) => [String(line.series), line]));
    if (this.charts.length) this.offer();
  }

  // All charts of this axis show what they have there.
  point(from, at) {
    for (const chart of this.charts) if (chart.unit === from.unit) chart.point(at, chart === from);
  }

  zoom(from, range) {
    this.zoomed = range;
    this.unit = from?.unit;
    this.draw();
  }

  show(series, on) {
    this.hidden[on ? "delete" : "add"](series);
    for (const box of this.root.querySelectorAll(`tr[data-series="${series}"] input`)) box.checked = on;
    if (this.charts.length) this.draw();
  }

  draw() {
    for (const chart of this.charts) chart.draw(chart.unit === this.unit ? this.zoomed : null);
    this.reset.hidden = !this.zoomed;
  }

  offer() {
    const tools = html("div", {class: "tools", role: "group", "aria-label": "All charts of this part"});
    const button = (text, press) => {
      const made = html("button", {type: "button"}, text);
      made.addEventListener("click", () => press(made));
      tools.append(made);
      return made;
    };
    const toggle = (text, press) =>
      button(text, (own) => {
        const on = own.getAttribute("aria-pressed") !== "true";
        own.setAttribute("aria-pressed", String(on));
        press(on);
        this.draw();
      }).setAttribute("aria-pressed", "false");
    const field = (text, made) => tools.appendChild(html("label", {}, text)).appendChild(made);
    toggle("Log scale", (on) => (this.log = on || null));
    if (this.charts.some((chart) => chart.lines.some((line) => line.seeds))) toggle("Each seed", (on) => (this.seeds = on));
    if (this.charts.some((chart) => chart.unit === "step")) {
      const known = Number(this.root.dataset.epoch);
      const count = html("input", {type: "number", min: 1, step: "any", value: known || ""});
      toggle("Epochs", (on) => {
        count.parentElement.hidden = !on;
        this.perEpoch = on ? Number(count.value) : 0;
      });
      count.addEventListener("input", () => {
        this.perEpoch = Number(count.value);
        this.draw();
      });
      field("Steps in an epoch ", count).parentElement.hidden = true;
    }
    const select = field("Smoothing ", html("select"));
    for (const name of Object.keys(SMOOTHING)) select.append(html("option", {value: name}, name));
    select.addEventListener("change", () => {
      this.smoothing = SMOOTHING[select.value];
      this.draw();
    });
    this.reset = button("Whole range", () => this.zoom(null, null));
    this.reset.hidden = true;
    const legend = this.root.querySelector(".legend-bar");
    const clickable = legend ? "Click a name to hide its line. " : "";
    const keys = "Point at a chart for values, drag across it to zoom; or use the keys ← → + −.";
    tools.append(html("span", {class: "hint"}, clickable + keys));
    if (legend) legend.append(tools);
    else (this.charts[0].figure.closest(".opening") ?? this.charts[0].figure).after(tools);
    for (const row of this.root.querySelectorAll("tr[data-series]")) this.choose(row);
  }

  // A box in the row of a group: whether its line is drawn.
  choose(row) {
    const series = row.dataset.series, name = row.cells[0].textContent, line = this.more.get(series);
    const box = html("input", {type: "checkbox", "aria-label": `Draw ${name}`});
    box.checked = !this.hidden.has(series);
    row.cells[0].prepend(box, " ");
    box.addEventListener("change", () => {
      const item = this.root.querySelector(`[data-legend] [data-series="${series}"] button`);
      if (item) return item.click();
      const made = this.root.querySelector("[data-legend]").appendChild(html("li", {"data-series": series}));
      made.append(html("i", {style: `background: ${colorOf(line)}`}), html("bdi", {}, name));
      press(made, this.root);
      this.show(series, true);
    });
  }
}
for (const [number, root] of [...document.querySelectorAll("[data-view]")].entries()) views.set(root, new View(root, number));
