"use strict";
// DATA comes from data.js: {tile, note, prompts, runs, images, opening}. Prompts are anybody's text: textContent only.
const $ = (id) => document.getElementById(id);
const state = { model: "", size: "", methods: [], prompt: 0, slider: false, scale: 1, x: 0.5, y: 0.5, cut: 0.5 };
const byRun = new Map(); // run index -> Map(prompt index -> image)
for (const p of DATA.images) {
  if (!byRun.has(p.run)) byRun.set(p.run, new Map());
  byRun.get(p.run).set(p.prompt, p);
}
const runsOf = () => DATA.runs.map((r, i) => ({ ...r, index: i }))
  .filter((r) => r.model === state.model && r.size.join("x") === state.size);
const unique = (list) => [...new Set(list)];

function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function restore() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const models = unique(DATA.runs.map((r) => r.model));
  state.model = models.includes(hash.get("model")) ? hash.get("model") : models[0];
  const sizes = sizesOf();
  state.size = sizes.includes(hash.get("size")) ? hash.get("size") : sizes[sizes.length - 1];
  const labels = runsOf().map((r) => r.label);
  state.methods = hash.getAll("method").filter((m) => labels.includes(m)).slice(0, 4);
  const found = DATA.prompts.findIndex((p) => p.key === hash.get("prompt")), first = opening();
  state.prompt = found >= 0 ? found : state.methods.length ? 0 : first.prompt;
  state.slider = hash.get("view") === "slider" || (!location.hash && first.telling);
  if (!state.methods.length) state.methods = first.methods;
}

// What to show where nothing was chosen: the most telling pair, which `eval/gallery/opening.py` finds.
function opening() {
  const found = DATA.opening[`${state.model} ${state.size}`];
  return found ? { ...found, telling: true } : { methods: runsOf().map((r) => r.label).slice(0, 2), prompt: 0 };
}

function save() {
  const hash = new URLSearchParams({ model: state.model, size: state.size });
  for (const m of state.methods) hash.append("method", m);
  if (DATA.prompts[state.prompt]) hash.set("prompt", DATA.prompts[state.prompt].key);
  if (state.slider) hash.set("view", "slider");
  history.replaceState(null, "", "#" + hash);
}

const sizesOf = () => unique(DATA.runs.filter((r) => r.model === state.model).map((r) => r.size.join("x")));

function options(select, values, chosen) {
  select.replaceChildren(...values.map((v) => element("option", { value: v }, v)));
  select.value = chosen;
}

function sidebar() {
  options($("model"), unique(DATA.runs.map((r) => r.model)), state.model);
  options($("size"), sizesOf(), state.size);
  $("methods").replaceChildren(...runsOf().map((run, k) => {
    const label = element("label");
    const box = element("input", { type: "checkbox" });
    box.checked = state.methods.includes(run.label);
    box.addEventListener("change", () => toggle(run.label));
    label.append(box, ` ${k < 9 ? k + 1 + " " : ""}${run.label}`);
    return label;
  }));
  listPrompts();
}

function listPrompts() {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  const first = runsOf()[0], images = first ? byRun.get(first.index) : null;
  const rows = [];
  DATA.prompts.forEach((prompt, k) => {
    const shown = runsOf().some((r) => byRun.get(r.index)?.has(k));
    if (!shown || !words.every((w) => prompt.text.toLowerCase().includes(w))) return;
    const row = element("li", { role: "option", "aria-selected": String(k === state.prompt), "data-prompt": k });
    const image = images?.get(k);
    if (image) row.append(element("img", { src: `thumbs/${image.id}.webp`, loading: "lazy", alt: "" }));
    row.append(element("span", {}, `${prompt.text} (seed ${prompt.seed})`));
    row.addEventListener("click", () => choose(k));
    rows.push(row);
  });
  $("prompts").replaceChildren(...rows);
  const visible = rows.map((row) => Number(row.dataset.prompt));
  if (visible.length && !visible.includes(state.prompt) && !$("filter").value) choose(visible[0]);
}

function choose(prompt) {
  state.prompt = prompt;
  for (const row of $("prompts").children) {
    const on = Number(row.dataset.prompt) === prompt;
    row.setAttribute("aria-selected", String(on));
    if (on) row.scrollIntoView({ block: "nearest" });
  }
  show();
}

function toggle(label) {
  const on = state.methods.includes(label);
  if (on && state.methods.length > 1) state.methods = state.methods.filter((m) => m !== label);
  else if (!on) state.methods = [...state.methods, label].slice(-4);
  sidebar();
  show();
}

function details(run, image) {
  const list = element("dl");
  const values = { ...image.values, ...run.settings };
  for (const [name, value] of Object.entries(values)) {
    list.append(element("dt", {}, name), element("dd", {}, String(value)));
  }
  return list;
}

function show() {
  save();
  const prompt = DATA.prompts[state.prompt];
  $("prompt").textContent = prompt ? prompt.text : "";
  const chosen = state.methods.map((m) => runsOf().find((r) => r.label === m)).filter(Boolean)
    .map((run) => ({ run, image: byRun.get(run.index)?.get(state.prompt) }));
  const pairs = chosen.filter((c) => c.image);
  const slider = state.slider && pairs.length >= 2;
  $("panes").className = slider ? "slider" : "";
  $("panes").replaceChildren(...(slider ? [sliderPane(pairs)] : chosen.map(({ run, image }) => pane(run, [image]))));
  draw();
}

function pane(run, images, caption) {
  const figure = element("figure");
  if (!images[0]) {
    figure.append(element("p", { class: "empty" }, `${run.label} has no image of this prompt`));
    return figure;
  }
  const view = element("div", { class: "view", tabindex: "0", "aria-label": run.label });
  for (const [k, image] of images.entries()) {
    const world = element("div", { class: k ? "world over" : "world" });
    world.image = image;
    const [w, h] = image.size;
    world.append(element("img", { src: `thumbs/${image.id}.webp`, alt: "", style: `width:${w}px;height:${h}px` }));
    view.append(world);
  }
  figure.append(view, caption || captionOf(run, images[0]));
  pointer(view);
  return figure;
}

function captionOf(run, image) {
  const caption = element("figcaption");
  caption.append(element("b", {}, `${run.label}, ${run.size.join("×")}`), details(run, image));
  return caption;
}

function sliderPane(pairs) {
  const caption = element("div", { class: "both" });
  caption.append(...pairs.slice(0, 2).map(({ run, image }) => captionOf(run, image)));
  const figure = pane(pairs[0].run, [pairs[0].image, pairs[1].image], caption);
  const handle = element("div", { class: "handle" });
  figure.querySelector(".view").append(handle);
  handle.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (move) => {
      const box = handle.parentElement.getBoundingClientRect();
      state.cut = Math.min(1, Math.max(0, (move.clientX - box.left) / box.width));
      draw();
    };
  });
  handle.addEventListener("pointerup", () => (handle.onpointermove = null));
  return figure;
}

// A view shows the point (x, y), in fractions of the image, at its centre; scale 1 fits the whole image.
function draw() {
  for (const view of document.querySelectorAll(".view")) {
    const { clientWidth: width, clientHeight: height } = view;
    const ratio = window.devicePixelRatio || 1;
    view.style.setProperty("--cut", `${state.cut * width}px`);
    for (const world of view.querySelectorAll(".world")) {
      const [w, h] = world.image.size;
      const zoom = Math.min(width / w, height / h) * state.scale;
      const left = width / 2 - state.x * w * zoom, top = height / 2 - state.y * h * zoom;
      world.style.width = `${w}px`;
      world.style.height = `${h}px`;
      world.style.transform = `translate(${left}px, ${top}px) scale(${zoom})`;
      if (world.classList.contains("over")) {
        world.style.setProperty("--cut", `${(state.cut * width - left) / zoom}px`);
      }
      view.classList.toggle("sharp", zoom * ratio >= 2);
      tiles(world, zoom * ratio, { left: -left / zoom, top: -top / zoom, right: (width - left) / zoom, bottom: (height - top) / zoom });
    }
  }
  $("zoom").textContent = `${state.scale.toFixed(1)}×`;
}

// Level k is the image halved k times, cut into squares of DATA.tile pixels; only what is in sight is loaded.
function tiles(world, zoom, sight) {
  const image = world.image, [w, h] = image.size;
  const level = Math.max(0, Math.min(image.levels - 1, Math.floor(-Math.log2(Math.max(zoom, 1e-6)))));
  world.have ||= new Set();
  const side = DATA.tile * 2 ** level;
  for (let row = Math.max(0, Math.floor(sight.top / side)); row * side < Math.min(h, sight.bottom); row++) {
    for (let column = Math.max(0, Math.floor(sight.left / side)); column * side < Math.min(w, sight.right); column++) {
      const name = `${level}-${column}-${row}`;
      if (world.have.has(name)) continue;
      world.have.add(name);
      const width = Math.min(side, w - column * side), height = Math.min(side, h - row * side);
      const place = `left:${column * side}px;top:${row * side}px;width:${width}px;height:${height}px;z-index:${20 - level}`;
      world.append(element("img", { src: `tiles/${image.id}/${name}.webp`, alt: "", style: place, draggable: "false" }));
    }
  }
}

function zoomBy(factor, view, event) {
  const before = state.scale;
  state.scale = Math.min(64, Math.max(1, state.scale * factor));
  const world = view?.querySelector(".world");
  if (world && event) {
    const box = view.getBoundingClientRect(), [w, h] = world.image.size;
    const fit = Math.min(box.width / w, box.height / h);
    const dx = (event.clientX - box.left - box.width / 2) / w, dy = (event.clientY - box.top - box.height / 2) / h;
    state.x += dx / fit * (1 / before - 1 / state.scale);
    state.y += dy / fit * (1 / before - 1 / state.scale);
  }
  clamp();
  draw();
}

function clamp() {
  if (state.scale === 1) state.x = state.y = 0.5;
  state.x = Math.min(1, Math.max(0, state.x));
  state.y = Math.min(1, Math.max(0, state.y));
}

function pointer(view) {
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.002), view, event);
  }, { passive: false });
  view.addEventListener("pointerdown", (event) => {
    view.setPointerCapture(event.pointerId);
    view.onpointermove = (move) => {
      const [w, h] = view.querySelector(".world").image.size;
      const zoom = Math.min(view.clientWidth / w, view.clientHeight / h) * state.scale;
      state.x -= move.movementX / zoom / w;
      state.y -= move.movementY / zoom / h;
      clamp();
      draw();
    };
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, () => (view.onpointermove = null));
}

function step(list, value, by) {
  return list.length ? list[(list.indexOf(value) + by + list.length) % list.length] : value;
}

function setSize(size) {
  state.size = size;
  const labels = runsOf().map((r) => r.label);
  state.methods = state.methods.filter((m) => labels.includes(m));
  if (!state.methods.length) state.methods = opening().methods;
  sidebar();
  show();
}

document.addEventListener("keydown", (event) => {
  if (event.target === $("filter") || event.ctrlKey || event.metaKey || event.altKey) return;
  const prompts = [...$("prompts").children].map((row) => Number(row.dataset.prompt));
  const actions = {
    ArrowRight: () => choose(step(prompts, state.prompt, 1)), ArrowLeft: () => choose(step(prompts, state.prompt, -1)),
    ArrowUp: () => setSize(step(sizesOf(), state.size, 1)), ArrowDown: () => setSize(step(sizesOf(), state.size, -1)),
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), "0": () => whole(),
    s: () => { state.slider = !state.slider; show(); },
  };
  const number = Number(event.key);
  if (number >= 1 && runsOf()[number - 1]) toggle(runsOf()[number - 1].label);
  else if (actions[event.key]) actions[event.key]();
  else return;
  event.preventDefault();
});

function whole() {
  state.scale = 1;
  clamp();
  draw();
}

$("model").addEventListener("change", () => { state.model = $("model").value; setSize(sizesOf().at(-1)); });
$("size").addEventListener("change", () => setSize($("size").value));
$("filter").addEventListener("input", listPrompts);
$("side").addEventListener("click", () => { state.slider = !state.slider; show(); });
$("fit").addEventListener("click", whole);
window.addEventListener("resize", draw);
window.addEventListener("hashchange", () => { restore(); sidebar(); show(); });
$("note").textContent = DATA.note;
restore();
sidebar();
show();
