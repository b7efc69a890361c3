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

// A multi-label class's precision-recall curve.

function chooseCurve() {
  const select = document.getElementById("curve-class");
  if (!select) return;
  const place = document.getElementById("curve");
  const show = () => draw(place, data.curves[select.value]);
  select.onchange = show;
  redraws.push(show);
}

showGalleries();
listenToPairs();
makeSortable();
chooseCurve();
redraws.push(drawMatrix);
drawPage();
