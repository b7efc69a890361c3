"use strict";
// The page's data are in one JSON element; texts from it are only ever set as textContent.
const data = JSON.parse(document.getElementById("data").textContent);

function make(tag, options = {}, ...children) {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
}

// Charts

const SERIES = ["--series-1", "--series-2", "--series-3", "--series-4", "--muted"];
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = value => value == null ? "–" : Number(value.toPrecision(4)).toString();

function axis(label, extra) {
  return { label, labelSize: 18, size: 46, labelFont: "12px system-ui", font: "11px system-ui", gap: 2,
           stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, ...extra };
}

function draw(place, chart) {
  place.replaceChildren();
  const curves = Object.entries(chart.curves);
  const mark = {
    hooks: { draw: [plot => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = color("--muted");
      ctx.setLineDash([4, 4]);
      for (const { at, text, diagonal } of chart.marks || []) {
        ctx.beginPath();
        if (diagonal) {
          ctx.moveTo(plot.valToPos(0, "x", true), plot.valToPos(0, "y", true));
          ctx.lineTo(plot.valToPos(1, "x", true), plot.valToPos(1, "y", true));
        } else {
          const x = plot.valToPos(at, "x", true);
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.font = `${11 * devicePixelRatio}px system-ui`;
          const right = x > bbox.left + bbox.width / 2;
          ctx.textAlign = right ? "right" : "left";
          ctx.fillText(text, x + (right ? -5 : 5) * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
        }
        ctx.stroke();
      }
      ctx.restore();
    }] },
  };
  const options = {
    width: place.clientWidth, height: 230, plugins: [mark], cursor: { y: false, drag: { x: true, y: false } },
    scales: { x: { time: false, range: chart.range_x }, y: { range: chart.range_y } },
    axes: [axis(chart.x, { size: 34 }), axis(undefined, { values: (plot, ticks) => ticks.map(short) })],
    series: [{ label: chart.x, value: (plot, value) => short(value) },
             ...curves.map(([label, values], i) => ({
               label, spanGaps: true, stroke: color(SERIES[i % SERIES.length]), width: 2,
               points: { show: values.filter(value => value != null).length < 25, size: 5 },
               value: (plot, value) => short(value) }))],
  };
  new uPlot(options, [chart.steps, ...curves.map(([, values]) => values)], place);
}

function drawCharts() {
  for (const place of document.querySelectorAll("[data-chart]")) draw(place, data.charts[place.dataset.chart]);
}

// Images

function figure(row) {
  const image = data.images[row];
  const picture = make("img", { alt: "", loading: "lazy" });
  const caption = make("figcaption");
  if (image.thumbnail) picture.src = "data:image/jpeg;base64," + data.thumbnails[image.thumbnail];
  for (const [text, kind] of image.lines) caption.append(make("div", { textContent: text, className: kind }));
  caption.append(make("div", { className: "muted", textContent: image.path, title: image.path }));
  const element = make("figure", {}, ...(image.thumbnail ? [picture] : []), caption);
  if (image.heat) {
    const heat = "data:image/jpeg;base64," + data.thumbnails[image.heat], plain = picture.src;
    const button = make("button", { type: "button", textContent: "where it looked", className: "heat" });
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      const shown = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!shown));
      picture.src = shown ? plain : heat;
    };
    element.insertBefore(button, caption);
  }
  return element;
}

function showGalleries() {
  for (const place of document.querySelectorAll("[data-rows]")) {
    place.append(...JSON.parse(place.dataset.rows).map(figure));
  }
}

// Confusion: a matrix of buttons for few classes, a picture for many; both show a pair's images.

const pairs = new Map((data.pairs || []).map(pair => [pair.label + "," + pair.predicted, pair]));

function showPair(label, predicted) {
  const place = document.getElementById("pair"), pair = pairs.get(label + "," + predicted);
  if (!place || !pair) return;
  const files = make("ul", { className: "files" }, ...pair.files.map(name => make("li", { textContent: name })));
  const rest = pair.count - pair.files.length;
  if (rest > 0) files.append(make("li", { className: "muted", textContent: `and ${rest} more in errors.csv` }));
  place.replaceChildren(
    make("h3", { textContent: pair.title }),
    make("div", { className: "thumbnails" }, ...pair.rows.map(figure)),
    make("details", { open: !pair.rows.length }, make("summary", { textContent: pair.count === 1 ? "1 file" : `${pair.count} files` }), files),
  );
  place.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function listenToPairs() {
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-pair]");
    if (button) showPair(...button.dataset.pair.split(","));
  });
}

function drawMatrix() {
  const canvas = document.getElementById("matrix");
  if (!canvas) return;
  const classes = data.names.length, scale = Math.max(1, Math.round(1000 / classes)), side = classes * scale;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.fillStyle = color("--panel");
  context.fillRect(0, 0, side, side);
  const dot = Math.max(scale, 3), inset = (dot - scale) / 2;
  for (const [label, predicted, share] of data.cells) {
    context.fillStyle = color(label === predicted ? "--accent" : "--bad");
    context.globalAlpha = 0.35 + 0.65 * Math.sqrt(share);
    context.fillRect(predicted * scale - inset, label * scale - inset, dot, dot);
  }
  const counts = new Map(data.cells.map(([label, predicted, , count]) => [label + "," + predicted, count]));
  const tip = document.getElementById("matrix-tip");
  const at = event => {
    const box = canvas.getBoundingClientRect();
    const cell = (position, size) => Math.min(classes - 1, Math.max(0, Math.floor(position / size * classes)));
    return [cell(event.clientY - box.top, box.height), cell(event.clientX - box.left, box.width)];
  };
  const nearest = (label, predicted) => {  // a cell may be smaller than a finger
    const near = data.cells.filter(([a, b]) => a !== b && Math.max(Math.abs(a - label), Math.abs(b - predicted)) <= classes / 100);
    const distance = ([a, b]) => Math.abs(a - label) + Math.abs(b - predicted);
    return near.sort((one, other) => distance(one) - distance(other))[0] || [label, predicted];
  };
  canvas.onmousemove = event => {
    const [label, predicted] = at(event);
    const count = counts.get(label + "," + predicted) || 0;
    tip.textContent = `${data.names[label]} predicted as ${data.names[predicted]}: ${count}`;
  };
  canvas.onclick = event => {
    const [label, predicted] = at(event);
    const [a, b] = pairs.has(label + "," + predicted) ? [label, predicted] : nearest(label, predicted);
    showPair(a, b);
  };
}

// Tables: a click on a header sorts; cells without a value stay last.

function sortTable(header) {
  const table = header.closest("table"), column = header.cellIndex;
  const falling = header.getAttribute("aria-sort") !== "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const numeric = header.classList.contains("number");
  const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return falling ? -order : order;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function makeSortable() {
  for (const header of document.querySelectorAll("table.sortable th")) {
    header.append(make("button", { type: "button", textContent: header.textContent, onclick: () => sortTable(header) }));
    header.firstChild.remove();
  }
  for (const filter of document.querySelectorAll("input[data-filters]")) {
    filter.oninput = () => {
      const text = filter.value.toLowerCase();
      for (const row of document.getElementById(filter.dataset.filters).tBodies[0].rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(text);
      }
    };
  }
}

// A multi-label class's precision-recall curve.

function chooseCurve() {
  const select = document.getElementById("curve-class");
  if (!select) return;
  const place = document.getElementById("curve");
  const show = () => draw(place, data.curves[select.value]);
  select.onchange = show;
  redraws.push(show);
}

const redraws = [drawCharts, drawMatrix];
showGalleries();
listenToPairs();
makeSortable();
chooseCurve();
const redraw = () => redraws.forEach(one => one());
redraw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
