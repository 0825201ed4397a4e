// The figures: lines over phases, tokens or FLOPs, and bars. Colours are those of page.css, so that a
// figure follows the colours of the system.

const PLOT_HEIGHT = 190;
const MAX_MARKED_POINTS = 40;
const NUM_COLOURS = 8;
const drawn = JSON.parse(document.getElementById("figures").textContent);
const plots = new Map();

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${Number((value / (unit === 1e4 ? 1e3 : unit)).toPrecision(3))}${letter}`;
  }
  if (Number.isInteger(value)) return String(value);
  return String(size >= 100 ? Math.round(value) : Number(value.toPrecision(3)));
}

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function styleOf(line, place) {
  return { colour: (line.colour ?? place) % NUM_COLOURS, dashed: line.dashed || (line.colour ?? place) >= NUM_COLOURS };
}

// Places on the axis: of phases, where the run has them; otherwise the values themselves.
function placesOf(line, axis) {
  if (line.run === null || axis === "phase") return line.x;
  const places = drawn.axes[axis].places[line.run] ?? {};
  return line.x.map((phase) => places[phase] ?? null);
}

// Columns for uPlot, x first and then y (and the ends of intervals) of each line; phases by x.
function columnsOf(figure, axis) {
  const tables = figure.lines.map((line) => {
    const places = placesOf(line, axis);
    const kept = [...places.keys()].filter((n) => places[n] !== null).sort((a, b) => places[a] - places[b]);
    const take = (column) => kept.map((n) => column[n]);
    const columns = [line.y, ...(line.low.length ? [line.low, line.high] : [])];
    return { table: [take(places), ...columns.map(take)], phases: line.run === null ? [] : take(line.x) };
  });
  const phases = new Map();
  for (const { table, phases: of } of tables) of.forEach((phase, n) => phases.set(table[0][n], phase));
  return { data: uPlot.join(tables.map(({ table }) => table)), phases };
}

// Labels of an axis: as short as they can be and still differ.
function labelsOf(splits) {
  const labels = splits.map((value) => (value === null ? "" : short(value)));
  const shown = labels.filter((label) => label !== "");
  if (new Set(shown).size === shown.length) return labels;
  const known = splits.filter((value) => value !== null);
  const digits = Math.min(8, Math.max(0, Math.ceil(1 - Math.log10(Math.abs(known[1] - known[0])))));
  return splits.map((value) => (value === null ? "" : String(Number(value.toFixed(digits)))));
}

function axesOf(label) {
  const common = {
    stroke: () => colourOf("--quiet"), font: "11px system-ui, sans-serif",
    grid: { stroke: () => colourOf("--rule"), width: 1 }, ticks: { show: false },
  };
  const values = (plot, splits) => labelsOf(splits);
  return [
    { ...common, label, labelFont: "11px system-ui, sans-serif", labelSize: 16, size: 24, space: 50, values },
    { ...common, size: 46, space: 28, values },
  ];
}

// One series per line, with two unseen ones for the ends of its interval, and a band between them.
function seriesOf(figure) {
  const series = [{}], bands = [], places = [];
  figure.lines.forEach((line, place) => {
    const { colour, dashed } = styleOf(line, place);
    const stroke = () => colourOf(`--s${colour}`);
    places.push(series.length);
    if (figure.kind === "bars") {
      const paths = uPlot.paths.bars({ size: [0.45, 60], align: place ? 1 : -1, gap: 1 });
      series.push({ stroke, fill: stroke, width: 0, paths, points: { show: false } });
      return;
    }
    const points = { show: line.x.length <= MAX_MARKED_POINTS, size: 5, fill: stroke };
    series.push({ stroke, width: 1.8, dash: dashed ? [5, 3] : undefined, points, spanGaps: true });
    if (!line.low.length) return;
    for (let end = 0; end < 2; end += 1) series.push({ stroke: "transparent", width: 0, points: { show: false }, spanGaps: true });
    bands.push({ series: [series.length - 1, series.length - 2], fill: () => colourOf(`--s${colour}`) + "26" });
  });
  return { series, bands, places };
}

// The legend says where each line begins and ends, and the values under the mouse.
function legendOf(figure, data, places) {
  const legend = element("ul", "legend");
  const values = figure.lines.map((line, place) => {
    const { colour, dashed } = styleOf(line, place);
    const entry = element("li");
    const value = element("output");
    entry.append(element("i", `s${colour}${dashed ? " dashed" : ""}`), line.name, " ", value);
    legend.append(entry);
    return value;
  });
  function show(at) {
    figure.lines.forEach((line, place) => {
      const column = data[places[place]].filter((value) => value !== null && value !== undefined);
      const ends = column.length > 1 ? `${short(column[0])} → ${short(column.at(-1))}` : short(column[0]);
      const total = () => `${short(column.reduce((sum, value) => sum + value, 0))} in all`;
      const whole = figure.kind === "bars" ? total() : line.run === null ? "" : ends;
      values[place].textContent = at === null ? whole : short(data[places[place]][at]);
    });
  }
  show(null);
  return { legend, show };
}

function positionText(figure, x, phase) {
  if (figure.kind === "bars") return `${short(x - figure.width / 2)} to ${short(x + figure.width / 2 - 1)} ${figure.x_label}`;
  if (phase !== undefined) return `phase ${phase}`;
  return `${figure.x_label} ${short(x)}`;
}

// A link to the answers of the phase nearest to one, where the run kept any.
function linkToAnswers(phase) {
  const kept = document.getElementById("answers") ? sets.filter((set) => set.phase !== null) : [];
  if (!kept.length || phase === undefined) return null;
  const nearest = kept.reduce((best, set) => (Math.abs(set.phase - phase) < Math.abs(best.phase - phase) ? set : best));
  const link = element("a", "", `answers of phase ${nearest.phase}`);
  link.href = addressWith({ set: nearest.label, page: "", text: "", id: "" }, "answers");
  return link;
}

function draw(place) {
  const figure = drawn.figures[place];
  const card = document.getElementById(`figure-${place}`);
  const overPhases = figure.x_label === "phase";
  const axis = overPhases ? currentAxis() : "phase";
  const { data, phases } = columnsOf(figure, axis);
  const { series, bands, places } = seriesOf(figure);
  const { legend, show } = legendOf(figure, data, places);
  const area = card.querySelector(".plot");
  const position = element("span"), pinned = element("span");
  card.querySelector(".under").replaceChildren(position, " ", pinned);
  const say = (at) => {
    show(at);
    position.textContent = at === null ? "" : positionText(figure, data[0][at], phases.get(data[0][at]));
  };
  const options = {
    width: area.clientWidth, height: PLOT_HEIGHT, legend: { show: false }, series, bands,
    axes: axesOf(overPhases ? drawn.axes[axis]?.label ?? "phase" : figure.x_label),
    scales: { x: { time: false }, y: { range: (plot, low, high) => rangeOf(figure, low, high) } },
    cursor: { sync: overPhases ? { key: "phases" } : undefined, y: false, points: { size: 6 } },
    hooks: { setCursor: [(plot) => say(plot.cursor.idx ?? null)] },
  };
  plots.get(place)?.destroy();
  area.replaceChildren();
  card.querySelector(".legend")?.remove();
  area.before(legend);
  const plot = new uPlot(options, data, area);
  plot.over.addEventListener("click", () => {
    const link = linkToAnswers(phases.get(data[0][plot.cursor.idx]));
    if (link) pinned.replaceChildren(link);
  });
  plots.set(place, plot);
}

function rangeOf(figure, low, high) {
  if (figure.kind === "bars") return [0, high * 1.05];
  if (low === high) return low === 0 ? [0, 1] : [low - Math.abs(low) / 10, high + Math.abs(high) / 10];
  const space = (high - low) / 20;
  return [low >= 0 && low - space < 0 ? 0 : low - space, high + space];
}

function currentAxis() {
  const wanted = readAddress().params.get("x");
  return drawn.axes[wanted] ? wanted : drawn.axis;
}

let axisDrawn;
function drawAll({ again = false } = {}) {
  if (!again && axisDrawn === currentAxis()) return;
  axisDrawn = currentAxis();
  drawn.figures.forEach((figure, place) => draw(place));
  const chosen = document.querySelector(`#axis input[value="${axisDrawn}"]`);
  if (chosen) chosen.checked = true;
}

document.getElementById("axis")?.addEventListener("change", (event) => {
  changeAddress({ x: event.target.value === drawn.axis ? "" : event.target.value }, "training");
  drawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll({ again: true }));
new ResizeObserver(() => {
  for (const plot of plots.values()) {
    const width = plot.root.parentElement.clientWidth;
    if (width !== plot.width) plot.setSize({ width, height: PLOT_HEIGHT });
  }
}).observe(document.body);
