// What is on this page: its data, its charts, its switches.

const data = JSON.parse(document.getElementById("run-data").textContent);
const points = data.points.rows.map((row) =>
  Object.fromEntries(data.points.columns.map((name, i) => [name, row[i]])));

// — this page's charts

const percents = { label: "accuracy", format: (value) => `${trimmed(100 * value)} %` };
const layerOf = (id) => points.filter((point) => point.layer === id && point.accuracy != null)
  .map((point) => Object.assign(point, { x: point.macs, y: point.accuracy, label: point.name }));

// A pinned point fills the panel with its network.
function pin(point, close) {
  const panel = document.getElementById("pinned");
  panel.hidden = !point;
  if (!point) return;
  const stages = stagesOf(point.network);
  const button = html("button", { class: "tool", type: "button" }, "Close");
  button.addEventListener("click", close);
  const [name, ...facts] = describe(point);
  panel.replaceChildren(
    html("header", {}, [html("h3", {}, name), button]),
    html("p", { class: "note" }, facts.join(" · ")),
    drawn(stages, largest([stages])), table(stages),
  );
}

// What others would have made: a line each, which begins at the smallest member without a rival there.
function rivals() {
  const made = layerOf("rivals");
  const [first] = layerOf("family").sort((a, b) => a.x - b.x);
  return [...new Set(made.map((point) => point.rule))].map((rule, i) => {
    const own = made.filter((point) => point.rule === rule).sort((a, b) => a.x - b.x);
    const points = first && own[0].name !== `${rule} ${first.name}` ? [first, ...own] : own;
    return { name: rule, label: rule, kind: "family", mark: LINE_MARKS[1 + (i % 5)], tone: `rival${i % 4}`, points, shown: false };
  });
}

// Studies that the page does not know by name (growth, coefficients to compare …).
const KNOWN = ["pruned", "complete", "finalists", "coefficients", "published", "rivals", "baseline", "family"];
const others = () => [...new Set(points.map((point) => point.layer))].filter((id) => !KNOWN.includes(id))
  .map((id, i) => ({ name: id, kind: ["pluses", "lozenges"][i % 2], tone: `rival${(2 + i) % 4}`, points: layerOf(id), shown: false }));

function accuracyChart(figure) {
  new Chart(figure, {
    title: "Accuracy against MACs", zoom: true,
    height: (width) => Math.round(Math.min(500, Math.max(320, width * 0.62))),
    x: { log: true, label: "MACs (multiply–adds), log scale", format: short },
    y: percents,
    layers: [
      { name: "pruned", kind: "crosses", tone: "pruned", aside: true, points: layerOf("pruned") },
      { name: "trials", kind: "dots", tone: "complete", points: layerOf("complete") },
      { name: "Pareto front", kind: "steps", tone: "front", mute: true, points: data.front.map(([x, y]) => ({ x, y })) },
      { name: "finalists", kind: "rings", tone: "finalists", points: layerOf("finalists") },
      { name: "α β γ candidates", kind: "squares", tone: "coefficients", points: layerOf("coefficients"), shown: false },
      ...others(),
      { name: "published", kind: "triangles", tone: "published", points: layerOf("published"), shown: false },
      ...rivals(),
      { name: "baseline", kind: "marks", mark: "diamond", tone: "baseline", points: layerOf("baseline") },
      { name: "family", kind: "family", mark: "circle", tone: "family", points: layerOf("family") },
    ],
    describe,
    pin,
  });
}

function progressChart(figure) {
  const made = data.progress.map(([trial, best, point]) => ({ ...points[point], best, x: trial, y: points[point].reward }));
  const some = (state) => made.filter((each) => each.layer === state && each.y != null);
  new Chart(figure, {
    title: "Reward of each trial", zoom: true,
    height: (width) => Math.round(Math.min(340, Math.max(260, width * 0.42))),
    x: { label: "trial", margin: 0.02, whole: true },
    y: { label: "reward" },
    layers: [
      { name: "pruned", kind: "crosses", tone: "pruned", aside: true, points: some("pruned") },
      { name: "complete", kind: "dots", tone: "complete", points: some("complete") },
      { name: "best so far", kind: "steps", tone: "best", mute: true, points: made.filter((each) => each.best != null).map((each) => ({ x: each.x, y: each.best })) },
    ],
    describe,
  });
}

const curve = ([index, accuracies]) => accuracies.map((accuracy, i) =>
  ({ ...points[index], x: i + 1, y: accuracy, accuracy, low: null, high: null, reward: null, note: `epoch ${i + 1}` }));
const curvesOf = (ids) => data.curves.filter(([index]) => ids.includes(points[index].layer));
const curvesLayer = (name, tone, curves, more) => {
  const lines = curves.map(curve);
  return { name, kind: "curves", tone, lines, points: lines.flat(), ...more };
};

function curvesChart(figure) {
  const rank = ([index]) => points[index].reward ?? -Infinity;
  const complete = curvesOf(["complete"]).sort((a, b) => rank(b) - rank(a));
  const best = Math.min(5, Math.ceil(complete.length / 8));
  new Chart(figure, {
    title: "Accuracy after each epoch", zoom: true,
    height: (width) => Math.round(Math.min(380, Math.max(280, width * 0.45))),
    x: { label: "epoch", margin: 0.02, whole: true },
    y: percents,
    layers: [
      curvesLayer("pruned", "pruned", curvesOf(["pruned"]), { faint: true, aside: true }),
      curvesLayer("complete", "complete", complete.slice(best), { faint: true }),
      curvesLayer("best by reward", "best", complete.slice(0, best)),
      curvesLayer("finalists", "finalists", curvesOf(["finalists"]), { shown: false }),
    ],
    describe,
  });
}

function familyChart(figure, field, label, format, unit = 1) {
  const members = layerOf("family").filter((point) => point[field] > 0)
    .map((point) => ({ ...point, x: point[field] / unit }));
  new Chart(figure, {
    title: `Accuracy against ${label}`,
    height: () => 230,
    x: { log: true, label, format, margin: 0.12 },
    y: percents,
    layers: [{ kind: "family", mark: "circle", tone: "family", points: members }],
    describe,
  });
}

function latencyChart(figure) {
  const members = new Map(layerOf("family").map((point) => [point.name, point]));
  const layers = data.latency.map(({ name, calls }, i) => ({
    name, kind: "family", mark: LINE_MARKS[i % 6], tone: `run${i % 6}`, shown: i === 0,
    points: calls.filter(([member]) => members.has(member)).map(([member, median, low, high]) =>
      ({ ...members.get(member), x: median, spread: `${trimmed(low)} to ${trimmed(high)} ms`, setting: name })),
  }));
  new Chart(figure, {
    title: "Accuracy against latency",
    height: (width) => Math.round(Math.min(340, Math.max(260, width * 0.4))),
    x: { log: true, label: "milliseconds of one call, log scale", format: trimmed, margin: 0.12 },
    y: percents,
    layers,
    describe: (point) => [...describe(point), `${trimmed(point.x)} ms, quartiles ${point.spread}`, point.setting],
  });
}

function secondsChart(figure) {
  const longest = Math.max(...points.map((point) => point.seconds ?? 0));
  const [unit, name] = longest < 120 ? [1, "seconds"] : longest < 7200 ? [60, "minutes"] : [3600, "hours"];
  familyChart(figure, "seconds", `training time, ${name}`, trimmed, unit);
}

function compareChart(figure) {
  const family = layerOf("family");
  new Chart(figure, {
    title: "Accuracy of the families against MACs", zoom: true,
    height: (width) => Math.round(Math.min(540, Math.max(320, width * 0.5))),
    x: { log: true, label: "MACs (multiply–adds), log scale", format: short },
    y: percents,
    layers: data.runs.flatMap((name, i) => [
      { name: `front of ${name}`, kind: "steps", tone: `run${i % 6}`, mute: true, shown: false, points: data.fronts[i].map(([x, y]) => ({ x, y })) },
      { name, label: name, kind: "family", mark: LINE_MARKS[i % 6], tone: `run${i % 6}`, points: family.filter((point) => point.run === i) },
    ]),
    describe: (point) => { const [name, ...facts] = describe(point); return [`${data.runs[point.run]} · ${name}`, ...facts]; },
    pin,
  });
}

const drawers = {
  "chart-compare": compareChart,
  "chart-accuracy": accuracyChart,
  "chart-progress": progressChart,
  "chart-curves": curvesChart,
  "chart-params": (figure) => familyChart(figure, "params", "parameters", short),
  "chart-activations": (figure) => familyChart(figure, "activations", "activations", short),
  "chart-seconds": secondsChart,
  "chart-latency": latencyChart,
};
for (const [id, draw] of Object.entries(drawers)) {
  const figure = document.getElementById(id);
  if (figure) draw(figure);
}

const shown = [...document.querySelectorAll("[data-network]")];
const all = shown.map((place) => stagesOf(place.dataset.network));
if (shown.length) {
  const most = largest(all);
  const widest = Math.max(...all.map((stages) => drawing(stages, most).width));
  shown.forEach((place, i) => place.append(drawn(all[i], most, widest)));
}

// — on a narrow screen rows of tables become blocks, each value under its column's name

for (const table of document.querySelectorAll(".scroll table")) {
  const heads = [...table.querySelectorAll("thead th, thead td")].map((head) => (head.firstElementChild ? "" : head.textContent.trim()));
  for (const row of table.querySelectorAll("tbody tr"))
    [...row.children].forEach((cell, i) => { if (heads[i]) cell.dataset.label = heads[i]; });
}

// — one member's mistakes at a time

const choices = [...document.querySelectorAll(".choice")];
const choose = (chosen) => {
  for (const choice of choices) choice.setAttribute("aria-pressed", choice.dataset.panel === chosen);
  for (const panel of document.querySelectorAll(".panel")) panel.hidden = panel.dataset.panel !== chosen;
};
for (const choice of choices) choice.addEventListener("click", () => choose(choice.dataset.panel));
if (choices.length) choose(choices.at(-1).dataset.panel);

// — theme and print

const root = document.documentElement;
const store = (act) => { try { return act(localStorage); } catch { return null; } };
root.dataset.theme = store((storage) => storage.getItem("phiscale-theme")) ?? "";
document.querySelector(".theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  store((storage) => storage.setItem("phiscale-theme", root.dataset.theme));
});
const PAPER = 688; // pixels between the margins of a sheet of A4
const closed = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) closed.push(part), (part.open = true);
  const page = document.querySelector("main").clientWidth - 40;
  for (const chart of charts) {
    const part = chart.figure.closest(".split") ? 1 : chart.figure.clientWidth / page;
    chart.paper = Math.round(PAPER * Math.min(1, part));
    chart.draw();
  }
});
addEventListener("afterprint", () => {
  while (closed.length) closed.pop().open = false;
  for (const chart of charts) chart.paper = null, chart.draw();
});
