// Networks of the page's `data`: a drawing and a table of the stages.

const stagesOf = (network) => data.networks[network].map((index) =>
  Object.fromEntries(data.stage_columns.map((name, i) => [name, data.stage_rows[index][i]])));

const kernels = (stage, and) => [stage.start_kernel, stage.kernel].filter((side) => side != null)
  .map((side) => `${side}×${side}`).join(and);

// A bar a block: its height rises with resolution, its width with channels.
function drawing(stages, most) {
  const body = stages.filter((stage) => stage.stage !== "head");
  const side = (stage) => 6 + 58 * (stage.resolution / most.resolution);
  const thick = (stage) => 3 + 15 * (stage.channels / most.channels);
  const parts = [];
  let x = 6;
  for (const stage of body) {
    const begin = x;
    for (let i = 0; i < (stage.repeats ?? 1); i++, x += thick(stage) + 1.5)
      parts.push(svg("rect", {
        class: stage.stage === "stem" ? "stem" : stage.operator,
        x: x.toFixed(1), y: (36 - side(stage) / 2).toFixed(1), width: thick(stage).toFixed(1), height: side(stage).toFixed(1), rx: 1.5,
      }));
    x = Math.max(x, begin + 22);
    parts.push(svg("text", { x: ((begin + x - 1.5) / 2).toFixed(1), y: 82 }, String(stage.channels)));
    parts.push(svg("text", { x: ((begin + x - 1.5) / 2).toFixed(1), y: 93 }, stage.stage === "stem" ? "stem" : kernels(stage, "+")));
    x += 8;
  }
  return { parts, width: x };
}
function drawn(stages, most, width) {
  const { parts, width: own } = drawing(stages, most);
  const whole = Math.max(width ?? own, 300);
  return svg("svg", { class: "network", viewBox: `0 0 ${whole} 98`, width: whole * 1.25, role: "img", "aria-label": "blocks of the network, left to right; height: resolution, width: channels" }, parts);
}
const largest = (networks) => ({
  resolution: Math.max(...networks.flat().map((stage) => stage.resolution)),
  channels: Math.max(...networks.flat().filter((stage) => stage.stage !== "head").map((stage) => stage.channels)),
});

function table(stages) {
  const total = stages.reduce((sum, stage) => sum + stage.macs, 0);
  const cells = (stage) => [
    stage.stage, stage.operator + (stage.expansion != null ? ` e${trimmed(stage.expansion)}` : ""),
    kernels(stage, " + "), stage.stride ?? "", stage.se ? trimmed(stage.se) : "",
    stage.skip ?? "", stage.channels, stage.repeats ?? "", `${stage.resolution}`, count(stage.macs), percent(stage.macs / total), count(stage.params),
  ];
  const heads = ["Stage", "Operator", "Kernel", "Stride", "SE", "Skip", "Channels", "Repeats", "Resolution", "MACs", "Share", "Parameters"];
  const text = (i) => (i === 0 || i === 1 || i === 5 ? { class: "text" } : {});
  return html("div", { class: "scroll" }, html("table", { class: "stack" }, [
    html("thead", {}, html("tr", {}, heads.map((name, i) => html("th", text(i), name)))),
    html("tbody", {}, stages.map((stage) => html("tr", {}, cells(stage).map((cell, i) => html(i ? "td" : "th", { "data-label": heads[i], ...text(i) }, String(cell)))))),
  ]));
}

function describe(point) {
  const spread = point.low != null ? ` ± ${(50 * (point.high - point.low)).toFixed(1)}` : "";
  const lines = [point.name, `${percent(point.accuracy)}${spread} · ${point.note}`];
  const pixels = point.resolution ? ` · ${point.resolution} px` : "";
  lines.push(`${count(point.macs)} MACs · ${count(point.params)} parameters${pixels}`);
  if (point.reward != null) lines.push(`reward ${point.reward.toFixed(4)}`);
  return lines;
}
