"use strict";
// The panes: one view with a slider, or up to four side by side. All show the same place at the same scale.
const MAXIMUM = 64, TAP = 6, SWIPE = 40;
const clampTo = (value, low, high) => Math.min(high, Math.max(low, value));

function showPanes() {
  const runs = shownRuns(), pairs = runs.map((run, slot) => ({ run, slot, image: imageOf(run, state.prompt) }));
  const present = pairs.filter((p) => p.image);
  const slider = state.slider && present.length === 2;
  const focused = document.activeElement?.closest?.("#panes") ? document.activeElement.className : "";
  $("panes").replaceChildren(...(slider ? [view(present, true)] : pairs.map((p) => (p.image ? view([p], false) : empty(p)))));
  $("panes").style.setProperty("--ratio", (() => { const [w, h] = state.size.split("x"); return h / w; })());
  $("panes").classList.toggle("slider", slider || runs.length < 2);
  if (focused) ($("panes").querySelector(`.${focused.split(" ")[0]}`) || $("panes").querySelector(".view"))?.focus();
  draw();
}

function empty({ run }) {
  return element("div", { class: "pane" }, element("p", { class: "empty" }, `${run.label} has no image of this prompt.`));
}

function view(parts, slider) {
  const names = parts.map(({ run }) => run.label).join(" and ");
  const made = element("div", {
    class: "view", tabindex: "0", role: "group",
    "aria-label": `${names}. Plus and minus zoom, arrows move`,
  });
  for (const [k, part] of parts.entries()) {
    const layer = element("div", { class: k ? "layer over" : "layer" }, worldOf(part.image));
    made.append(layer);
  }
  made.append(...parts.map((part, k) => tag(part, k)));
  if (slider) made.append(handle(parts));
  pointers(made);
  return element("div", { class: "pane" }, made);
}

function tag({ run, slot }, k) {
  const score = chosenScore(), value = valueOf(run, state.prompt, state.score);
  const made = element("div", { class: k ? "tag right" : "tag", "data-slot": slot });
  made.append(element("b", {}, run.label));
  if (score?.each && value !== null) made.append(element("span", {}, `${score.title} ${number(value, score.digits)}`));
  return made;
}

function handle(parts) {
  const made = element("div", {
    class: "handle", role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "100",
    "aria-label": `Boundary between ${parts[0].run.label} on the left and ${parts[1].run.label} on the right`,
  });
  made.append(element("span", { "aria-hidden": "true" }, "‹ ›"));
  made.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: state.cut - 0.02, ArrowRight: state.cut + 0.02, Home: 0, End: 1 }[event.key];
    if (to === undefined) return;
    state.cut = clampTo(to, 0, 1);
    draw();
    event.preventDefault();
    event.stopPropagation();
  });
  return made;
}

// Panes stand in the number of columns in which their images are largest.
function layOut() {
  const panes = [...$("panes").children], n = panes.length, [w, h] = state.size.split("x").map(Number);
  const { clientWidth: width, clientHeight: height } = $("panes");
  const fit = (columns) => Math.min(width / columns / w, height / Math.ceil(n / columns) / h);
  let best = 1;
  for (let columns = 2; columns <= n; columns++) if (fit(columns) > fit(best) * 1.02) best = columns;
  $("panes").style.gridTemplateColumns = `repeat(${best}, minmax(0, 1fr))`;
}

// A view shows the point (x, y), in fractions of the image, at its centre; scale 1 fits the whole image.
const fitOf = (view, [w, h]) => Math.min(view.clientWidth / w, view.clientHeight / h);

function draw() {
  layOut();
  for (const view of document.querySelectorAll(".view")) {
    const box = { width: view.clientWidth, height: view.clientHeight }, at = { left: box.width / 2, top: box.height / 2 };
    for (const layer of view.querySelectorAll(".layer")) {
      const world = layer.firstChild;
      put(world, fitOf(view, world.image.size) * state.scale, state.x, state.y, at, box);
      if (layer.classList.contains("over")) layer.style.clipPath = `inset(0 0 0 ${state.cut * box.width}px)`;
    }
    const handle = view.querySelector(".handle");
    if (handle) {
      handle.style.left = `${state.cut * box.width}px`;
      handle.setAttribute("aria-valuenow", Math.round(state.cut * 100));
    }
    view.classList.toggle("zoomed", state.scale > 1 || state.loupe);
  }
  $("fit").textContent = `${state.scale.toFixed(1)}×`;
  $("fit").setAttribute("aria-label", `Whole image, now ${state.scale.toFixed(1)}×`);
  drawLoupes();
}

// Fractions of the image under a point of the screen.
function pointOf(view, event) {
  const box = view.getBoundingClientRect(), size = view.querySelector(".world").image.size;
  const zoom = fitOf(view, size) * state.scale;
  return {
    x: state.x + (event.clientX - box.left - box.width / 2) / zoom / size[0],
    y: state.y + (event.clientY - box.top - box.height / 2) / zoom / size[1],
  };
}

function zoomBy(factor, view, event) {
  const before = state.scale, point = view && event ? pointOf(view, event) : { x: state.x, y: state.y };
  state.scale = clampTo(before * factor, 1, MAXIMUM);
  if (Math.abs(state.scale - 1) < 0.01) state.scale = 1;
  state.x = point.x + (state.x - point.x) * before / state.scale;
  state.y = point.y + (state.y - point.y) * before / state.scale;
  settle();
}

function pan(view, dx, dy) {
  const size = view.querySelector(".world").image.size, zoom = fitOf(view, size) * state.scale;
  state.x -= dx / zoom / size[0];
  state.y -= dy / zoom / size[1];
  settle();
}

function settle() {
  if (state.scale === 1) state.x = state.y = 0.5;
  state.x = clampTo(state.x, 0, 1);
  state.y = clampTo(state.y, 0, 1);
  draw();
}

function whole() {
  state.scale = 1;
  settle();
}

// To one pixel of the image a pixel of the screen, or three times as large where it is as large already; and back.
function zoomTo(view, event) {
  if (state.scale > 1) return whole();
  const exact = 1 / fitOf(view, view.querySelector(".world").image.size) / (window.devicePixelRatio || 1);
  zoomBy(Math.max(exact, 3), view, event);
}

// One finger or the mouse: pans where the image is zoomed; else it moves the boundary (mouse) or changes the image
// (swipe). Two fingers pinch. A tap sets the boundary, a double tap zooms. What begins on the handle moves the boundary.
function pointers(view) {
  const down = new Map();
  const middle = () => {
    const all = [...down.values()], mean = (key) => all.reduce((sum, p) => sum + p[key], 0) / all.length;
    const [a, b] = all;
    return { clientX: mean("clientX"), clientY: mean("clientY"), apart: b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0 };
  };
  const cutAt = (event) => {
    const box = view.getBoundingClientRect();
    state.cut = clampTo((event.clientX - box.left) / box.width, 0, 1);
    draw();
  };
  let start = null, held = null, pinched = false, tapped = 0;
  view.addEventListener("wheel", (event) => {
    // A page that scrolls is not held up by an image in it: click it first, or hold ctrl.
    if (!event.ctrlKey && state.scale === 1 && document.activeElement !== view && scrolls()) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.002), view, event);
  }, { passive: false });
  view.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    view.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
    if (down.size === 1) [start, held] = [event, event.target.closest(".handle")];
    pinched = down.size > 1;
    if (state.loupe && !held) aim(view, event);
  });
  view.addEventListener("pointermove", (event) => {
    if (state.loupe && down.size < 2 && !held) aim(view, event);
    if (!down.has(event.pointerId)) return;
    const before = middle();
    down.set(event.pointerId, event);
    const after = middle();
    if (down.size > 1) {
      pan(view, after.clientX - before.clientX, after.clientY - before.clientY);
      zoomBy(after.apart / Math.max(before.apart, 1), view, after);
    } else if (held) cutAt(event);
    else if (state.loupe && event.pointerType !== "mouse") return;
    else if (state.scale > 1) pan(view, after.clientX - before.clientX, after.clientY - before.clientY);
    else if (event.pointerType === "mouse" && view.querySelector(".handle")) cutAt(event);
  });
  view.addEventListener("pointerup", (event) => {
    if (!down.delete(event.pointerId) || down.size || !start) return;
    const dx = event.clientX - start.clientX, dy = event.clientY - start.clientY;
    if (held) { held = start = null; return; }
    const tap = Math.hypot(dx, dy) < TAP;
    if (!pinched && tap && event.timeStamp - tapped < 350) zoomTo(view, event);
    else if (!pinched && tap && view.querySelector(".handle") && state.scale === 1) cutAt(event);
    else if (!pinched && event.pointerType !== "mouse" && !state.loupe && state.scale === 1) {
      if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) move(dx < 0 ? 1 : -1);
    }
    tapped = tap && !pinched ? event.timeStamp : 0;
    start = null;
  });
  view.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); start = held = null; });
  view.addEventListener("pointerleave", () => { if (!down.size) aim(view, null); });
  view.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key] || [];
    if (dx === undefined || (state.scale === 1 && !state.loupe)) return;
    if (state.loupe) aimBy(view, -dx / 3, -dy / 3);
    else pan(view, dx, dy);
    event.preventDefault();
    event.stopPropagation();
  });
}

const scrolls = () => document.documentElement.scrollHeight > window.innerHeight + 1;
