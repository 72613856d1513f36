"use strict";
// Joins the parts: what is shown after a choice, the controls, the keys.

function showAll() {
  checkChoices();
  choices($("model"), unique(DATA.runs.map((r) => r.model)), state.model);
  choices($("size"), sizesOf(), state.size);
  $("model").parentElement.hidden = $("model").options.length < 2;
  $("size").parentElement.hidden = $("size").options.length < 2;
  fillFilters();
  listImages();
  const present = runsOf().some((run) => imageOf(run, state.prompt));
  if (!present && strip.items.length) { state.prompt = strip.items[0].prompt; reveal(); showCells(); }
  methodTable();
  settingLists();
  for (const [id, on] of [["slider", state.slider], ["grid", !state.slider]]) $(id).setAttribute("aria-pressed", String(on));
  $("swap").disabled = state.methods.length < 2;
  showImage();
}

// What changes with the image only.
function showImage() {
  const prompt = DATA.prompts[state.prompt];
  save();
  $("prompt").textContent = prompt ? prompt.text : "";
  const at = strip.items.findIndex((item) => item.prompt === state.prompt);
  const place = at < 0 ? "outside the filter" : `image ${at + 1} of ${strip.items.length}`;
  $("place").textContent = prompt ? `Seed ${prompt.seed}, ${place}. ${strip.about}` : "";
  $("prompt").scrollTop = 0;
  showPanes();
  valueTable();
}

function choices(select, values, chosen) {
  select.replaceChildren(...values.map((value) => element("option", { value }, value.replace(/^(\d+)x(\d+)$/, "$1 × $2"))));
  select.value = chosen;
}

// A method more or less in the panes. Where they are full, the last one gives way.
function toggle(label) {
  const shown = shownRuns().map((r) => r.label), full = state.slider ? 2 : MOST;
  if (!shown.includes(label)) state.methods = [...shown.slice(0, full - 1), label];
  else if (shown.length > 1) state.methods = shown.filter((m) => m !== label);
  const focused = document.activeElement?.dataset?.method;
  showAll();
  if (focused) [...document.querySelectorAll("[data-method]")].find((box) => box.dataset.method === focused)?.focus();
}

function swap() {
  const [a, b, ...rest] = state.methods;
  if (b) state.methods = [b, a, ...rest];
  showAll();
}

function setSlider(on) {
  state.slider = on;
  if (on && state.methods.length < 2) {
    const other = runsOf().find((r) => r.label !== state.methods[0]);
    if (other) state.methods = [...state.methods, other.label];
  }
  showAll();
}

function setSize(size) {
  state.size = size;
  state.methods = state.methods.filter(runOf);
  if (!state.methods.length) state.methods = opening().methods;
  showAll();
}

const nextSize = (by) => { const all = sizesOf(); setSize(all[(all.indexOf(state.size) + by + all.length) % all.length]); };

const KEYS = {
  ArrowLeft: () => move(-1), ArrowRight: () => move(1),
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: whole,
  s: () => setSlider(!state.slider), x: swap, l: toggleLoupe, ",": () => nextSize(-1), ".": () => nextSize(1),
  Escape: () => { if (state.loupe) toggleLoupe(); else whole(); },
};
const HELP = {
  "← →": "image", "+ − 0": "zoom, whole image", s: "slider or side by side", x: "exchange the first two", l: "loupe",
  "1–9": "method", ", .": "size", Esc: "back to the whole image",
  Mouse: "drag moves the boundary, or pans a zoomed image; wheel and double click zoom",
  Touch: "swipe for the next image, pinch or double tap to zoom, tap to set the boundary",
};

document.addEventListener("keydown", (event) => {
  const field = event.target.closest?.("input:not([type=checkbox]), select, textarea");
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.length === 1 && !$("shortcuts").checked) return;
  const run = Number(event.key) >= 1 ? runsOf()[Number(event.key) - 1] : null;
  if (run) toggle(run.label);
  else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
  else return;
  event.preventDefault();
});

$("strip").addEventListener("keydown", (event) => {
  const page = Math.max(1, Math.floor($("strip").clientWidth / CELL)), last = strip.items.length - 1;
  const at = strip.items.findIndex((item) => item.prompt === state.prompt);
  const to = { Home: 0, End: last, PageUp: Math.max(0, at - page), PageDown: Math.min(last, at + page) }[event.key];
  if (to === undefined || last < 0) return;
  choose(strip.items[to].prompt);
  event.preventDefault();
});

$("model").addEventListener("change", () => { state.model = $("model").value; setSize(firstSize()); });
$("size").addEventListener("change", () => setSize($("size").value));
for (const id of ["score", "of", "order"]) {
  $(id).addEventListener("change", () => {
    state[id] = $(id).value;
    if (id !== "order") state.low = state.high = ""; // they were of another quantity
    if (id === "of" && state.order === "listed") state.order = "high";
    showAll();
  });
}
for (const id of ["low", "high", "words"]) {
  $(id).addEventListener("input", () => { state[id] = $(id).value; listImages(); save(); });
}
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("clear").addEventListener("click", () => {
  state.low = state.high = state.words = "";
  showAll();
  $("words").focus();
});
for (const [id, act] of Object.entries({
  back: () => move(-1), next: () => move(1), slider: () => setSlider(true), grid: () => setSlider(false), swap,
  loupe: toggleLoupe, out: () => zoomBy(1 / 1.5), fit: whole, in: () => zoomBy(1.5), theme: nextTheme,
})) $(id).addEventListener("click", act);
$("strip").addEventListener("scroll", showCells, { passive: true });
window.addEventListener("resize", () => { draw(); showCells(); });
window.addEventListener("hashchange", () => { restore(); showAll(); });

$("title").textContent = DATA.title || document.title;
$("note").textContent = DATA.note;
$("licence").textContent = DATA.licence ? `Licence: ${DATA.licence}` : "";
$("vote").hidden = !DATA.vote;
if (DATA.paper) { $("paper").href = DATA.paper; $("paper").hidden = false; }
for (const [key, text] of Object.entries(HELP)) $("keys").append(element("dt", {}, key), element("dd", {}, text));
applyTheme();
restore();
showAll();
