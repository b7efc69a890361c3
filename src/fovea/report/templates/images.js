// Images: a figure for each, from data.images and data.thumbnails.

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
