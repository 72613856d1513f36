"use strict";
// The loupe enlarges the same point in every pane; with the slider both methods stand beside each other under it.
let aimed = null; // the point, in fractions of the image

function aim(view, event) {
  if (!state.loupe) return;
  const point = event && pointOf(view, event);
  aimed = point && { x: clampTo(point.x, 0, 1), y: clampTo(point.y, 0, 1) };
  drawLoupes();
}

function aimBy(view, dx, dy) {
  const size = view.querySelector(".world").image.size, zoom = fitOf(view, size) * state.scale;
  const from = aimed || { x: state.x, y: state.y };
  aimed = { x: clampTo(from.x + dx / zoom / size[0], 0, 1), y: clampTo(from.y + dy / zoom / size[1], 0, 1) };
  drawLoupes();
}

function toggleLoupe() {
  state.loupe = !state.loupe;
  aimed = state.loupe ? { x: state.x, y: state.y } : null;
  $("loupe").setAttribute("aria-pressed", String(state.loupe));
  draw();
}

function drawLoupes() {
  for (const view of document.querySelectorAll(".view")) {
    const glass = view.querySelector(".glass");
    if (!aimed) { glass?.remove(); continue; }
    drawLenses(view, ...(glass || view.appendChild(glassOf(view))).children);
  }
}

function glassOf(view) {
  const tags = view.querySelectorAll(".tag"), lenses = element("div", { class: "lenses" });
  view.querySelectorAll(".layer").forEach((layer, k) => {
    const name = element("span", { "data-slot": tags[k].dataset.slot }, tags[k].querySelector("b").textContent);
    lenses.append(element("div", { class: "lens" }, worldOf(layer.firstChild.image), name));
  });
  return element("div", { class: "glass", "aria-hidden": "true" }, lenses, element("div", { class: "aim" }));
}

function drawLenses(view, lenses, mark) {
  const { clientWidth: width, clientHeight: height } = view, size = view.querySelector(".world").image.size;
  const zoom = fitOf(view, size) * state.scale, count = lenses.children.length;
  const side = Math.min(count > 1 ? width / 2 - 8 : width * 0.7, height * 0.55, 260);
  const at = { left: width / 2 + (aimed.x - state.x) * size[0] * zoom, top: height / 2 + (aimed.y - state.y) * size[1] * zoom };
  Object.assign(mark.style, { left: `${at.left}px`, top: `${at.top}px` });
  // Above the point where there is room, so that a finger does not cover it.
  const top = at.top - side - 28 > 0 ? at.top - side - 28 : Math.min(at.top + 28, height - side);
  lenses.style.left = `${clampTo(at.left - side * count / 2, 0, Math.max(0, width - side * count))}px`;
  lenses.style.top = `${clampTo(top, 0, Math.max(0, height - side))}px`;
  for (const lens of lenses.children) {
    Object.assign(lens.style, { width: `${side}px`, height: `${side}px` });
    const enlarged = Math.max(zoom * 4, 2 / (window.devicePixelRatio || 1));
    put(lens.firstChild, enlarged, aimed.x, aimed.y, { left: side / 2, top: side / 2 }, { width: side, height: side });
  }
}
