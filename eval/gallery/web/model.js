"use strict";
// DATA comes from data.js; `eval/gallery/content.py` describes it. Prompts are anybody's text: textContent only.
// This file has what is chosen (`state`), and reads numbers and images of it. It draws nothing.
const $ = (id) => document.getElementById(id);
const MOST = 4; // images at once
const state = {
  model: "", size: "", methods: [], prompt: 0, slider: true, loupe: false, scale: 1, x: 0.5, y: 0.5, cut: 0.5,
  score: "", of: "", order: "listed", low: "", high: "", words: "", sorted: "",
};
const byRun = DATA.runs.map(() => new Map()); // run index -> Map(prompt index -> image)
for (const image of DATA.images) byRun[image.run].set(image.prompt, image);
const unique = (list) => [...new Set(list)];
const firstSize = () => DATA.sizes[state.model] || sizesOf().at(-1);
const sizesOf = () => unique(DATA.runs.filter((r) => r.model === state.model).map((r) => r.size.join("x")));

function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...content); // strings become text, never HTML
  return made;
}

// Runs of the chosen model and size, kept until one of them changes.
const kept = { key: "", runs: [], byLabel: new Map() };
function group() {
  const key = `${state.model} ${state.size}`;
  if (kept.key !== key) {
    kept.key = key;
    kept.runs = DATA.runs.map((r, index) => ({ ...r, index }))
      .filter((r) => r.model === state.model && r.size.join("x") === state.size);
    kept.byLabel = new Map(kept.runs.map((r) => [r.label, r]));
  }
  return kept;
}
const runsOf = () => group().runs;
const runOf = (label) => group().byLabel.get(label);
const imageOf = (run, prompt) => byRun[run.index].get(prompt);

// The runs in the panes: two with the slider, else up to four.
const shownRuns = () => state.methods.slice(0, state.slider ? 2 : MOST).map(runOf).filter(Boolean);

// Scores

const scoreOf = (name) => DATA.scores.find((s) => s.name === name);
const placeOf = (name) => DATA.scores.findIndex((s) => s.name === name);
const chosenScore = () => scoreOf(state.score);
const arrow = (score) => ({ 1: " ↑", "-1": " ↓" })[score.better] || "";
const titleOf = (score) => score.title + arrow(score);
const fullTitleOf = (score) => score.title + (score.unit ? ` (${score.unit})` : "") + arrow(score);
const scoresOfGroup = () => DATA.scores.filter((s) => runsOf().some((r) => r.scores[s.name] || hasValues(r, s)));

function hasValues(run, score) {
  if (!score.each) return false;
  const place = placeOf(score.name);
  for (const image of byRun[run.index].values()) if (image.values[place] !== null) return true;
  return false;
}

function valueOf(run, prompt, name) {
  const image = run && imageOf(run, prompt);
  return image ? image.values[placeOf(name)] ?? null : null;
}

// As `eval/output/numbers.py`: fewer decimals above 1000, more below 0.1.
function number(value, digits) {
  const size = value ? Math.floor(Math.log10(Math.abs(value))) : 0;
  if (size < -1) digits = Math.max(digits, Math.min(8, 1 - size));
  else if (size > 2) digits = Math.min(digits, 1);
  return value.toFixed(digits).replace("-", "−");
}
const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);

// Quantities of a prompt, by which images are sorted and filtered. `value` is null where an image or a number is missing.

const ofRun = (slot) => (runs) => `${runs[slot].label},`;
const QUANTITIES = {
  gain: { name: ([a, b]) => (a && b ? `gain of ${b.label} over ${a.label}` : ""), value: gain, text: signed, short: () => "gain in" },
  spread: { name: () => (runsOf().length > 1 ? "disagreement of all methods (std)" : ""), value: spread, text: number, short: () => "disagreement in" },
  first: { name: ([a]) => (a ? a.label : ""), value: ([a], k) => valueOf(a, k, state.score), text: number, short: ofRun(0) },
  second: { name: ([, b]) => (b ? b.label : ""), value: ([, b], k) => valueOf(b, k, state.score), text: number, short: ofRun(1) },
};

// How much better the second method is: positive is better, whichever way the score goes.
function gain([a, b], prompt) {
  const before = valueOf(a, prompt, state.score), after = valueOf(b, prompt, state.score);
  return before === null || after === null ? null : (chosenScore().better || 1) * (after - before);
}

function spread(_, prompt) {
  const values = runsOf().filter((r) => !r.reference).map((r) => valueOf(r, prompt, state.score)).filter((v) => v !== null);
  if (values.length < 2) return null;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length);
}

// Prompts of the chosen runs in their order, with the quantity of each, and its range before filtering.
function listed() {
  const runs = shownRuns(), all = runsOf(), score = chosenScore();
  const quantity = score?.each ? QUANTITIES[state.of] : null;
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  const bound = (text) => (text.trim() === "" ? NaN : Number(text.trim().replace(",", ".").replace("−", "-")));
  const low = bound(state.low), high = bound(state.high);
  const items = [], range = [Infinity, -Infinity];
  let total = 0;
  DATA.prompts.forEach((prompt, k) => {
    if (!all.some((run) => byRun[run.index].has(k))) return;
    total += 1;
    const value = quantity ? quantity.value(runs, k) : null;
    if (value !== null) { range[0] = Math.min(range[0], value); range[1] = Math.max(range[1], value); }
    const bounded = !Number.isNaN(low) || !Number.isNaN(high);
    if (quantity && bounded && (value === null || value < low || value > high)) return;
    const text = prompt.text.toLowerCase();
    if (words.every((word) => text.includes(word))) items.push({ prompt: k, value });
  });
  if (quantity && state.order !== "listed") {
    const sign = state.order === "high" ? -1 : 1;
    items.sort((a, b) => (a.value === null) - (b.value === null) || sign * (a.value - b.value) || a.prompt - b.prompt);
  }
  return { items, total, range, quantity };
}

// What to show where nothing was chosen: the most telling pair, which `eval/gallery/opening.py` finds.
function opening() {
  const found = DATA.opening[`${state.model} ${state.size}`];
  if (found) return found;
  const runs = runsOf().slice(0, 2), first = runs[0] && byRun[runs[0].index].keys().next().value;
  return { methods: runs.map((r) => r.label), prompt: first ?? 0 };
}

// The address holds what is chosen, so that a link shows the same.

function restore() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const models = unique(DATA.runs.map((r) => r.model));
  state.model = models.includes(hash.get("model")) ? hash.get("model") : models[0];
  const sizes = sizesOf();
  state.size = sizes.includes(hash.get("size")) ? hash.get("size") : firstSize();
  const first = opening();
  state.methods = hash.getAll("method").filter(runOf).slice(0, MOST);
  const found = DATA.prompts.findIndex((p) => p.key === hash.get("prompt"));
  state.prompt = found >= 0 ? found : first.prompt;
  if (!state.methods.length) state.methods = first.methods;
  state.slider = hash.has("view") ? hash.get("view") === "slider" : state.methods.length === 2 && !hash.has("method");
  for (const key of ["score", "of", "order", "low", "high", "words"]) state[key] = hash.get(key) || "";
  checkChoices();
}

function checkChoices() {
  const names = scoresOfGroup().map((s) => s.name);
  if (!names.includes(state.score)) state.score = names.find((n) => scoreOf(n).each) || names[0] || "";
  if (!QUANTITIES[state.of]?.name(shownRuns())) state.of = Object.keys(QUANTITIES).find((q) => QUANTITIES[q].name(shownRuns()));
  if (!["listed", "high", "low"].includes(state.order)) state.order = "listed";
}

function save() {
  const hash = new URLSearchParams({ model: state.model, size: state.size });
  for (const method of state.methods) hash.append("method", method);
  if (DATA.prompts[state.prompt]) hash.set("prompt", DATA.prompts[state.prompt].key);
  hash.set("view", state.slider ? "slider" : "grid");
  const plain = { of: "gain", order: "listed" };
  for (const key of ["score", "of", "order", "low", "high", "words"]) {
    if (state[key] && state[key] !== plain[key]) hash.set(key, state[key]);
  }
  history.replaceState(null, "", "#" + hash);
}
