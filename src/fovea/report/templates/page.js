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
const hue = number => `hsl(${(212 + 137.5 * number) % 360} 65% 52%)`;  // many that are easy to tell apart
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = value => value == null ? "–" : Number(value.toPrecision(4)).toString();

function axis(label, extra) {
  return { label, labelSize: 18, size: 46, labelFont: "12px system-ui", font: "11px system-ui", gap: 2,
           stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, ...extra };
}

function draw(place, chart) {
  place.replaceChildren();
  const labels = chart.labels || Object.keys(chart.curves);  // the keys of an object have an order of their own
  const curves = labels.map(label => [label, chart.curves[label]]);
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
               label, spanGaps: true, width: 2,
               stroke: chart.colors ? hue(chart.colors[i]) : color(SERIES[i % SERIES.length]),
               points: { show: values.filter(value => value != null).length < 25, size: 5 },
               value: (plot, value) => short(value) }))],
  };
  new uPlot(options, [chart.steps, ...curves.map(([, values]) => values)], place);
}

function drawCharts() {
  for (const place of document.querySelectorAll("[data-chart]")) draw(place, data.charts[place.dataset.chart]);
  for (const swatch of document.querySelectorAll("[data-hue]")) swatch.style.background = hue(swatch.dataset.hue);
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

// Drawing: again when the colours or the width change.

const redraws = [drawCharts];

function drawPage() {
  const redraw = () => redraws.forEach(one => one());
  redraw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
}
