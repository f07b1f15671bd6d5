// Charts: plain SVG at the width that there is, drawn again when that changes.

// — words and elements

const digits = (value, count) => value.toPrecision(count).replace(/\.$/, "");
function count(value) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "K"]])
    if (value >= 0.9995 * size) return digits(value / size, 3) + unit;
  return String(Math.round(value));
}
const short = (value) => count(value).replace(/\.0+(?=\D|$)|(\.\d*?)0+(?=\D)/, "$1");
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const trimmed = (value) => String(Number(value.toPrecision(6)));

function element(space, name, attributes, children) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...[children ?? []].flat());
  return made;
}
const html = (name, attributes, children) => element(null, name, attributes, children);
const svg = (name, attributes, children) =>
  element("http://www.w3.org/2000/svg", name, attributes, children);

// — scales

function niceTicks(low, high, most) {
  const raw = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high, most) {
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const factor of factors) {
        const tick = factor * 10 ** power;
        if (tick >= low * 0.9999 && tick <= high * 1.0001) ticks.push(tick);
      }
    if (ticks.length <= most) return ticks.length < 3 ? niceTicks(low, high, most) : ticks;
  }
  return niceTicks(low, high, most);
}

function scale(log, [low, high], [from, to]) {
  const bend = log ? Math.log : (value) => value;
  const unbend = log ? Math.exp : (value) => value;
  const [a, b] = [bend(low), bend(high)];
  const place = (value) => from + ((bend(value) - a) / (b - a)) * (to - from);
  place.invert = (pixel) => unbend(a + ((pixel - from) / (to - from)) * (b - a));
  return place;
}

function span(values, log, margin) {
  let [low, high] = [Math.min(...extent(values)), Math.max(...extent(values))];
  if (!Number.isFinite(low)) return log ? [1, 10] : [0, 1];
  if (low === high) [low, high] = log ? [low / 1.5, high * 1.5] : [low - 0.05, high + 0.05];
  const pad = log ? (high / low) ** margin : (high - low) * margin;
  return log ? [low / pad, high * pad] : [low - pad, high + pad];
}
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

// — one chart: axes, layers that can be hidden, hover, pin, zoom

// Outlines of marks around a point: no two series of a chart share one.
const MARKS = {
  crosses: "m-3 -3l6 6m0 -6l-6 6",
  squares: "m-2.8 -2.8h5.6v5.6h-5.6z",
  triangles: "m0 -4l3.8 6.6h-7.6z",
  pluses: "m-1.1 -3.4h2.2v2.3h2.3v2.2h-2.3v2.3h-2.2v-2.3h-2.3v-2.2h2.3z",
  lozenges: "m0 -4.2l2.6 4.2l-2.6 4.2l-2.6 -4.2z",
  circle: "m-4.75 0a4.75 4.75 0 1 0 9.5 0a4.75 4.75 0 1 0 -9.5 0z",
  square: "m-4.3 -4.3h8.6v8.6h-8.6z",
  triangle: "m0 -5.8l5.4 9.4h-10.8z",
  wedge: "m0 5.8l5.4 -9.4h-10.8z",
  plus: "m-1.8 -5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z",
  lozenge: "m0 -7l4 7l-4 7l-4 -7z",
  diamond: "m0 -9.5l9.5 9.5l-9.5 9.5l-9.5 -9.5z",
};
const LINE_MARKS = ["circle", "square", "triangle", "wedge", "plus", "lozenge"];
const NEAR = 26; // pixels within which the pointer finds a point
const charts = [];

class Chart {
  constructor(figure, spec) {
    Object.assign(this, { figure, spec, zoomed: null, pinned: null });
    this.layers = spec.layers.filter((layer) => layer.points.length);
    for (const layer of this.layers) layer.shown ??= true;
    this.head = html("div", { class: "chart-head" });
    this.plot = svg("svg", { class: "plot", role: "img", tabindex: 0, "aria-label": spec.title });
    this.tip = html("div", { class: "tip", role: "status" });
    this.tip.hidden = true;
    this.frame = html("div", { class: "frame" }, [this.plot, this.tip]);
    const caption = figure.querySelector("figcaption");
    for (const part of [this.head, this.frame]) figure.insertBefore(part, caption);
    this.legend();
    this.listen();
    new ResizeObserver(() => this.figure.clientWidth !== this.drawnWidth && this.draw()).observe(figure);
    this.draw();
    charts.push(this);
  }

  legend() {
    for (const layer of this.layers.filter((layer) => layer.name)) {
      const swatch = svg("svg", { class: `tone-${layer.tone}`, "aria-hidden": "true" }, swatchOf(layer));
      const key = html("button", { class: "key", type: "button", "aria-pressed": layer.shown }, [swatch, layer.name]);
      key.addEventListener("click", () => {
        layer.shown = !layer.shown;
        key.setAttribute("aria-pressed", layer.shown);
        this.draw();
      });
      this.head.append(key);
    }
    if (!this.spec.zoom) return;
    const tool = (label, text, act) => {
      const button = html("button", { class: "tool", type: "button", "aria-label": label, title: label }, text);
      button.addEventListener("click", act);
      return button;
    };
    this.reset = tool("Show everything", "Reset", () => this.show(null));
    this.frame.append(html("div", { class: "tools" }, [
      tool("Zoom in", "+", () => this.magnify(0.6)),
      tool("Zoom out", "−", () => this.magnify(1 / 0.6)),
      this.reset,
    ]));
  }

  domains() {
    const visible = this.layers.filter((layer) => layer.shown);
    const shown = visible.length ? visible : this.layers;
    const all = shown.flatMap((layer) => layer.points);
    // Layers that stand aside (pruned trials) do not squash the others: what lies outside is cut off.
    const main = shown.filter((layer) => !layer.aside).flatMap((layer) => layer.points);
    const { x, y } = this.spec;
    return {
      x: span(all.map((point) => point.x), x.log, x.margin ?? 0.05),
      y: span((main.length ? main : all).flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]), y.log, 0.07),
    };
  }

  draw() {
    const { x, y } = this.spec;
    const width = (this.drawnWidth = this.paper ?? this.figure.clientWidth);
    if (!width) return; // not laid out: the observer tells when it is
    const height = this.spec.height(width);
    const box = { left: 50, right: width - (this.spec.right ?? 12), top: 28, bottom: height - 44 };
    const domain = this.zoomed ?? this.domains();
    this.x = scale(x.log, domain.x, [box.left, box.right]);
    this.y = scale(y.log, domain.y, [box.bottom, box.top]);
    this.box = box;
    const clip = `clip-${this.figure.id}`;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.setAttribute("height", height);
    this.content = svg("g", { "clip-path": `url(#${clip})` });
    this.labels = svg("g");
    this.overlay = svg("g", { "pointer-events": "none" });
    this.plot.replaceChildren(
      svg("clipPath", { id: clip }, svg("rect", {
        x: box.left - 4, y: box.top - 22, width: width - box.left + 4, height: box.bottom - box.top + 26,
      })),
      this.axes(domain),
      this.content,
      svg("rect", { class: "hit", x: box.left, y: box.top - 10, width: box.right - box.left, height: box.bottom - box.top + 10 }),
      this.overlay,
    );
    for (const layer of this.layers) if (layer.shown) this.content.append(this.layer(layer));
    if (this.reset) this.reset.disabled = !this.zoomed;
    this.mark();
  }

  axes(domain) {
    const { x, y } = this.spec;
    const { left, right, top, bottom } = this.box;
    const group = svg("g");
    const format = (axis) => axis.format ?? trimmed;
    for (const tick of (y.log ? logTicks : niceTicks)(...domain.y, Math.max(3, (bottom - top) / 52))) {
      const at = this.y(tick);
      group.append(
        svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
        svg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, format(y)(tick)),
      );
    }
    group.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    let ticks = (x.log ? logTicks : niceTicks)(...domain.x, Math.max(3, (right - left) / 62));
    if (x.whole) ticks = ticks.filter(Number.isInteger);
    for (const tick of ticks) {
      const at = this.x(tick);
      group.append(
        svg("line", { class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }),
        at > this.drawnWidth - 18
          ? svg("text", { x: this.drawnWidth, y: bottom + 18, "text-anchor": "end" }, format(x)(tick))
          : svg("text", { x: at, y: bottom + 18, "text-anchor": "middle" }, format(x)(tick)),
      );
    }
    group.append(
      svg("text", { class: "title", x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, x.label),
      svg("text", { class: "title", x: 0, y: 13 }, y.label),
    );
    return group;
  }

  layer(layer) {
    const at = (point) => `${this.x(point.x).toFixed(1)} ${this.y(point.y).toFixed(1)}`;
    const marks = (layer.lines ?? layer.points).length;
    const group = svg("g", { class: `tone-${layer.tone}${marks > 300 ? " many" : ""}` });
    const path = (name, d) => group.append(svg("path", { class: name, d }));
    if (layer.kind === "dots" || layer.kind === "rings") {
      // One path for all: a stroke without length is a round dot.
      const d = layer.points.map((point) => `M${at(point)}h0`).join("");
      path(layer.kind, d);
      if (layer.kind === "rings") path("rings-inside", d);
    } else if (MARKS[layer.kind]) {
      path(layer.kind, layer.points.map((point) => `M${at(point)}${MARKS[layer.kind]}`).join(""));
    } else if (layer.kind === "steps") {
      path("curve", layer.points.map((point, i) =>
        i ? `H${this.x(point.x).toFixed(1)}V${this.y(point.y).toFixed(1)}` : `M${at(point)}`).join(""));
    } else if (layer.kind === "curves") {
      path(layer.faint ? "curves" : "curve", layer.lines.map((line) => "M" + line.map(at).join("L")).join(""));
    } else {
      group.classList.add("marks");
      if (layer.kind === "family") path("curve interval", "M" + layer.points.map(at).join("L"));
      for (const point of layer.points) {
        const [px, py] = [this.x(point.x), this.y(point.y)];
        if (point.low != null) path("interval",
          `M${px} ${this.y(point.low)}V${this.y(point.high)}M${px - 4} ${this.y(point.low)}h8M${px - 4} ${this.y(point.high)}h8`);
        path("mark", `M${px} ${py}${MARKS[layer.mark]}`);
      }
      const named = layer.label ? layer.points.slice(-1) : layer.points;
      for (const point of layer.kind === "family" ? named : []) {
        const top = this.y(point.high ?? point.y) - 8;
        group.append(svg("text", { x: this.x(point.x), y: top, "text-anchor": layer.label ? "end" : "middle" }, layer.label ?? point.label));
      }
    }
    return group;
  }

  // — finding and showing points

  pickable() {
    const { left, right, top, bottom } = this.box;
    return this.layers.filter((layer) => layer.shown && !layer.mute).flatMap((layer) => layer.points)
      .filter((point) => {
        const [px, py] = [this.x(point.x), this.y(point.y)];
        return px >= left - 1 && px <= right + 1 && py >= top - 20 && py <= bottom + 1;
      });
  }

  nearest(px, py) {
    let best = null;
    let least = NEAR ** 2;
    for (const point of this.pickable()) {
      const distance = (this.x(point.x) - px) ** 2 + (this.y(point.y) - py) ** 2;
      if (distance <= least) [best, least] = [point, distance];
    }
    return best;
  }

  mark(point) {
    this.hovered = point ?? null;
    const ring = (name, { x, y }, r) => svg("circle", { class: name, cx: this.x(x), cy: this.y(y), r });
    this.overlay.replaceChildren(
      ...(this.pinned ? [ring("pin", this.pinned, 9)] : []),
      ...(point ? [ring("focus", point, 7)] : []),
    );
    this.tip.hidden = !point;
    if (!point) return;
    const lines = this.spec.describe(point);
    this.tip.replaceChildren(html("b", {}, lines[0]), ...lines.slice(1).map((line) => html("span", {}, line)));
    const [px, py] = [this.x(point.x), this.y(point.y)];
    const [w, h] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left = px + 14 + w <= this.figure.clientWidth ? px + 14 : Math.max(0, px - 14 - w);
    const above = py - h - 12;
    this.tip.style.translate = `${left}px ${above < -30 ? py + 16 : above}px`;
  }

  pin(point) {
    if (!this.spec.pin || (point && point.network == null)) return;
    this.pinned = point && point !== this.pinned ? point : null;
    this.spec.pin(this.pinned, () => this.pin(null));
    this.mark(this.hovered);
  }

  // — zoom

  show(domain) {
    this.zoomed = domain;
    this.draw();
  }

  magnify(factor) {
    const { left, right, top, bottom } = this.box;
    const [cx, cy] = [(left + right) / 2, (top + bottom) / 2];
    const [w, h] = [((right - left) / 2) * factor, ((bottom - top) / 2) * factor];
    this.window(cx - w, cx + w, cy - h, cy + h);
  }

  window(left, right, top, bottom) {
    this.show({
      x: [this.x.invert(left), this.x.invert(right)],
      y: [this.y.invert(bottom), this.y.invert(top)],
    });
  }

  listen() {
    let start = null;
    const place = (event) => {
      const frame = this.plot.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    const inside = ([px, py]) => {
      const { left, right, top, bottom } = this.box;
      return [Math.min(Math.max(px, left), right), Math.min(Math.max(py, top - 10), bottom)];
    };
    const moved = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) > 6;
    this.plot.addEventListener("pointerdown", (event) => {
      if (!this.spec.zoom || event.pointerType === "touch" || event.button) return;
      event.preventDefault();
      start = inside(place(event));
      this.plot.setPointerCapture(event.pointerId);
    });
    this.plot.addEventListener("pointermove", (event) => {
      const here = place(event);
      if (!start || !moved(start, here)) return this.mark(this.nearest(...here));
      this.mark();
      const [[x0, y0], [x1, y1]] = [start, inside(here)];
      this.overlay.append(svg("rect", {
        class: "zoom", x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0),
      }));
    });
    this.plot.addEventListener("pointerup", (event) => {
      const [from, here] = [start, inside(place(event))];
      start = null;
      if (from && moved(from, here) && Math.abs(from[0] - here[0]) > 6 && Math.abs(from[1] - here[1]) > 6)
        return this.window(Math.min(from[0], here[0]), Math.max(from[0], here[0]), Math.min(from[1], here[1]), Math.max(from[1], here[1]));
      const point = this.nearest(...place(event));
      this.mark(point);
      if (point) this.pin(point);
    });
    this.plot.addEventListener("pointercancel", () => { start = null; this.mark(); });
    this.plot.addEventListener("pointerleave", () => { if (!start) this.mark(); });
    this.plot.addEventListener("dblclick", () => this.spec.zoom && this.show(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.mark());
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const order = this.pickable().sort((a, b) => a.x - b.x || a.y - b.y);
      const from = order.indexOf(this.hovered);
      const next = from < 0 ? (step > 0 ? 0 : order.length - 1) : from + step;
      if (order[next]) this.mark(order[next]);
    } else if (event.key === "Enter" && this.hovered) this.pin(this.hovered);
    else if (event.key === "Escape") this.pinned ? this.pin(null) : this.mark();
    else return;
    event.preventDefault();
  }
}

function swatchOf(layer) {
  const dot = { d: "M9 6h0" };
  switch (layer.kind) {
    case "dots": return svg("path", { class: "dots", ...dot });
    case "rings": return [svg("path", { class: "rings", ...dot }), svg("path", { class: "rings-inside", ...dot })];
    case "steps": return svg("path", { class: "curve", d: "M0 9h6V3h12" });
    case "curves": return svg("path", { class: "curve", d: "M0 10C4 4 10 3 18 3" });
    default: break;
  }
  if (MARKS[layer.kind]) return svg("path", { class: layer.kind, d: `M9 6${MARKS[layer.kind]}` });
  const mark = svg("path", { class: "mark", d: `M9 6${MARKS[layer.mark === "diamond" ? "lozenge" : layer.mark]}` });
  const line = layer.kind === "family" ? [svg("path", { class: "curve interval", d: "M0 6h18" })] : [];
  return svg("g", { class: "marks" }, [...line, mark]);
}
