"use strict";
// VOTE comes from vote-data.js: {gallery, tile, prompts, runs, images}. Prompts and labels are anybody's text: textContent
// only. While votes are cast, no name of a method is in the page.
const $ = (id) => document.getElementById(id);
const view = { scale: 1, x: 0.5, y: 0.5 };
let session = null; // {rater, pairs, votes}; the pair at votes.length is shown
let since = 0;

const runKey = (run) => `${run.model}/${run.size.join("x")}/${run.run}`;
const promptKey = (prompt) => `${prompt.id}|${prompt.seed}`;
const runs = new Map(VOTE.runs.map((run) => [runKey(run), run]));
const prompts = new Map(VOTE.prompts.map((prompt) => [promptKey(prompt), prompt]));
const images = new Map(); // run key -> Map(prompt key -> {id, size, levels})
for (const [run, prompt, id, levels] of VOTE.images) {
  const key = runKey(VOTE.runs[run]);
  if (!images.has(key)) images.set(key, new Map());
  images.get(key).set(promptKey(VOTE.prompts[prompt]), { id, levels, size: VOTE.runs[run].size });
}
const unique = (list) => [...new Set(list)];

function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// A stream of numbers from 0 to 1 that a text determines: FNV-1a of the text, then xorshift.
function stream(text) {
  let state = 2166136261;
  for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  state = state || 1;
  const next = () => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let k = 0; k < 8; k++) next();
  return next;
}

function shuffle(list, next) {
  for (let k = list.length - 1; k > 0; k--) {
    const other = Math.floor(next() * (k + 1));
    [list[k], list[other]] = [list[other], list[k]];
  }
  return list;
}

// --- storage: a session for each gallery (by its place) and rater; some browsers keep nothing for pages from disk

const place = (rater) => `sega-bench votes ${location.pathname} ${rater}`;
function stored(rater) {
  try {
    const found = JSON.parse(localStorage.getItem(place(rater)));
    if (!found || !Array.isArray(found.pairs) || !Array.isArray(found.votes)) return null;
    const here = found.pairs.slice(found.votes.length).filter((p) => image(p, "a") && image(p, "b"));
    return { rater, votes: found.votes, pairs: [...found.pairs.slice(0, found.votes.length), ...here] };
  } catch { return null; }
}
function keep() {
  try {
    localStorage.setItem(place(session.rater), JSON.stringify(session));
    localStorage.setItem(place(""), session.rater);
    return true;
  } catch { return false; }
}
function lastRater() {
  try { return localStorage.getItem(place("")) || ""; } catch { return ""; }
}

// --- the start: whose votes, on which images

const ofModel = () => VOTE.runs.filter((run) => run.model === $("model").value);
const checked = (id) => [...$(id).querySelectorAll("input:checked")].map((box) => box.value);

function boxes(id, values, chosen) {
  $(id).replaceChildren(...values.map((value) => {
    const label = element("label"), box = element("input", { type: "checkbox", value });
    box.checked = chosen(value);
    box.addEventListener("change", tell);
    label.append(box, value);
    return label;
  }));
}

function fill(hash) {
  const names = unique(ofModel().map((run) => run.label)), sizes = unique(ofModel().map((run) => run.size.join("x")));
  const wanted = { method: hash.getAll("method"), size: hash.getAll("size") };
  const renders = new Set(VOTE.runs.filter((run) => run.renders).map((run) => run.label));
  boxes("sizes", sizes, (size) => !wanted.size.length || wanted.size.includes(size));
  boxes("methods", names, (name) => wanted.method.length ? wanted.method.includes(name) : !renders.has(name));
  const all = element("option", { value: "" }, "any two methods");
  $("against").replaceChildren(all, ...names.map((name) => element("option", { value: name }, `${name} and another`)));
  $("against").value = names.includes(hash.get("against")) ? hash.get("against") : "";
}

function begin() {
  const hash = new URLSearchParams(location.hash.slice(1)), models = unique(VOTE.runs.map((run) => run.model));
  $("model").replaceChildren(...models.map((name) => element("option", { value: name }, name)));
  $("model").value = models.includes(hash.get("model")) ? hash.get("model") : models[0];
  $("rater").value = hash.get("rater") || lastRater();
  if (Number(hash.get("pairs")) >= 1) $("count").value = Math.floor(Number(hash.get("pairs")));
  $("choice").open = !["method", "size", "against", "model"].some((key) => hash.has(key));
  fill(hash);
  screen("start");
  tell();
}

function tell() {
  const old = stored($("rater").value.trim()), left = old ? old.pairs.length - old.votes.length : 0;
  const fresh = candidates(old).length;
  const words = old && old.votes.length ? `${old.votes.length} votes of this name are kept here. ` : "";
  $("state").textContent = words + (left ? `${left} pairs of the last time are left.`
    : `${fresh} pairs can be compared.${fresh ? "" : " Choose two methods with images of the same sentences."}`);
  $("go").textContent = left ? "Go on" : "Start";
  $("go").disabled = !left && !fresh;
  $("forget").hidden = !old;
}

// Pairs of two methods with different images of one sentence and seed, without those that were voted on.
function candidates(old) {
  const sizes = checked("sizes"), methods = checked("methods"), against = $("against").value;
  const chosen = ofModel().filter((run) => sizes.includes(run.size.join("x"))
    && (methods.includes(run.label) || run.label === against));
  const done = new Set((old ? old.votes : []).map((vote) => [vote.prompt, ...[vote.a, vote.b].sort()].join(" ")));
  const found = [];
  chosen.forEach((one, k) => chosen.slice(k + 1).forEach((two) => {
    if (one.size.join() !== two.size.join() || (against && ![one.label, two.label].includes(against))) return;
    const [a, b] = [runKey(one), runKey(two)];
    for (const prompt of images.get(a)?.keys() || []) {
      const first = images.get(a).get(prompt), second = images.get(b)?.get(prompt);
      if (!second || first.id === second.id || done.has([prompt, ...[a, b].sort()].join(" "))) continue;
      found.push({ prompt, a, b });
    }
  }));
  return found;
}

// Every pair of methods comes once before any comes twice; order and sides are random, and the same for a rater.
function draw(rater, old, count) {
  const next = stream(`${VOTE.gallery} ${rater} ${old ? old.votes.length : 0}`), turns = new Map();
  const found = shuffle(candidates(old), next).map((pair) => {
    const methods = `${pair.a} ${pair.b}`, turn = turns.get(methods) || 0;
    turns.set(methods, turn + 1);
    return { ...pair, turn };
  });
  found.sort((one, two) => one.turn - two.turn);
  return found.slice(0, count).map(({ prompt, a, b }) => next() < 0.5 ? { prompt, a, b } : { prompt, a: b, b: a });
}

function start(event) {
  event?.preventDefault();
  const rater = $("rater").value.trim();
  if (!rater) return;
  const old = stored(rater);
  session = old || { rater, pairs: [], votes: [] };
  if (session.pairs.length === session.votes.length) session.pairs.push(...draw(rater, old, Number($("count").value)));
  keep();
  for (const id of ["sizes", "methods", "against"]) $(id).replaceChildren(); // names leave the page
  show();
}

// --- votes

const image = (pair, side) => images.get(pair[side])?.get(pair.prompt);

function screen(name) {
  for (const id of ["start", "vote", "end"]) $(id).hidden = id !== name;
}

function show() {
  const pair = session.pairs[session.votes.length];
  if (!pair) return finish();
  screen("vote");
  $("prompt").textContent = prompts.get(pair.prompt).text;
  $("progress").textContent = `${session.votes.length + 1} / ${session.pairs.length}`;
  $("bar").value = session.votes.length / session.pairs.length;
  $("undo").disabled = !session.votes.length;
  for (const side of ["a", "b"]) {
    const found = image(pair, side), [w, h] = found.size;
    const world = element("div", { class: "world" }), thumb = element("img", { src: `thumbs/${found.id}.webp`, alt: "" });
    thumb.style.width = `${w}px`;
    thumb.style.height = `${h}px`;
    world.image = found;
    world.append(thumb);
    $(side).replaceChildren(world);
    $(side).dataset.name = side.toUpperCase();
  }
  whole();
  since = Date.now();
}

function vote(winner) {
  const pair = session?.pairs[session.votes.length];
  if (!pair || $("vote").hidden) return;
  const seconds = Math.round((Date.now() - since) / 100) / 10;
  session.votes.push({ ...pair, winner, seconds, time: new Date().toISOString().slice(0, 19) + "Z" });
  if (!keep()) $("save").textContent = "Save (this browser forgets)";
  show();
}

function undo() {
  if (!session?.votes.length || !$("start").hidden) return;
  session.votes.pop();
  keep();
  show();
}

function finish() {
  screen("end");
  $("sum").textContent = `${session.votes.length} votes of ${session.rater}.`;
  $("where").textContent = "python -m eval.votes votes=<file>";
}

// What a file says of a vote; `a` was on the left.
function rows() {
  return session.votes.map((vote) => {
    const [a, b] = [runs.get(vote.a), runs.get(vote.b)], cut = vote.prompt.lastIndexOf("|");
    const [model, size, runA] = vote.a.split("/"), runB = vote.b.split("/")[2];
    return {
      model, size, prompt_id: vote.prompt.slice(0, cut), seed: Number(vote.prompt.slice(cut + 1)),
      method_a: a ? a.label : "", method_b: b ? b.label : "", run_a: runA, run_b: runB,
      winner: vote.winner, rater: session.rater, seconds: vote.seconds, time: vote.time,
    };
  });
}

function file(kind) {
  const list = rows(), columns = Object.keys(list[0] || {});
  const field = (value) => /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  if (kind === "csv") return [columns, ...list.map((row) => Object.values(row))].map((row) => row.map(field).join(",")).join("\n") + "\n";
  return JSON.stringify({ schema: 1, gallery: VOTE.gallery, rater: session.rater, votes: list }, null, 1) + "\n";
}

function save(kind) {
  const link = element("a", { download: `votes-${session.rater.replace(/[^\p{L}\p{N}]+/gu, "-")}.${kind}` });
  link.href = URL.createObjectURL(new Blob([file(kind)], { type: kind === "csv" ? "text/csv" : "application/json" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// --- two views of one place: the point (x, y), in fractions of the image, is at their centre; scale 1 fits the whole

function render() {
  const ratio = window.devicePixelRatio || 1;
  for (const id of ["a", "b"]) {
    const world = $(id).querySelector(".world"), { clientWidth: width, clientHeight: height } = $(id);
    if (!world || !width) continue;
    const [w, h] = world.image.size, zoom = Math.min(width / w, height / h) * view.scale;
    const left = width / 2 - view.x * w * zoom, top = height / 2 - view.y * h * zoom;
    world.style.transform = `translate(${left}px, ${top}px) scale(${zoom})`;
    $(id).classList.toggle("sharp", zoom * ratio >= 2);
    tiles(world, zoom * ratio, [-left / zoom, -top / zoom, (width - left) / zoom, (height - top) / zoom]);
  }
}

// Level k is the image halved k times, cut into squares of VOTE.tile pixels; only what is in sight is loaded.
function tiles(world, zoom, [left, top, right, bottom]) {
  const { id, levels, size: [w, h] } = world.image;
  const level = Math.max(0, Math.min(levels - 1, Math.floor(-Math.log2(Math.max(zoom, 1e-6)))));
  const side = VOTE.tile * 2 ** level;
  world.have ||= new Set();
  for (let row = Math.max(0, Math.floor(top / side)); row * side < Math.min(h, bottom); row++) {
    for (let column = Math.max(0, Math.floor(left / side)); column * side < Math.min(w, right); column++) {
      const name = `${level}-${column}-${row}`;
      if (world.have.has(name)) continue;
      world.have.add(name);
      const tile = element("img", { src: `tiles/${id}/${name}.webp`, alt: "", draggable: "false" });
      Object.assign(tile.style, {
        left: `${column * side}px`, top: `${row * side}px`, zIndex: String(20 - level),
        width: `${Math.min(side, w - column * side)}px`, height: `${Math.min(side, h - row * side)}px`,
      });
      world.append(tile);
    }
  }
}

function clamp() {
  view.scale = Math.min(64, Math.max(1, view.scale));
  if (view.scale === 1) view.x = view.y = 0.5;
  view.x = Math.min(1, Math.max(0, view.x));
  view.y = Math.min(1, Math.max(0, view.y));
  render();
}

function whole() {
  view.scale = 1;
  clamp();
}

// Zoom by a factor about a point of the screen, or about the centre.
function zoomBy(factor, box, point) {
  const before = view.scale, after = Math.min(64, Math.max(1, before * factor)), world = box?.querySelector(".world");
  if (world && point) {
    const place = box.getBoundingClientRect(), [w, h] = world.image.size, fit = Math.min(place.width / w, place.height / h);
    view.x += (point.x - place.left - place.width / 2) / w / fit * (1 / before - 1 / after);
    view.y += (point.y - place.top - place.height / 2) / h / fit * (1 / before - 1 / after);
  }
  view.scale = after;
  clamp();
}

function pan(box, dx, dy) {
  const [w, h] = box.querySelector(".world").image.size;
  const zoom = Math.min(box.clientWidth / w, box.clientHeight / h) * view.scale;
  view.x -= dx / zoom / w;
  view.y -= dy / zoom / h;
  clamp();
}

for (const box of document.querySelectorAll(".view")) {
  const fingers = new Map();
  const spread = () => {
    const [one, two] = [...fingers.values()];
    return { gap: Math.hypot(one.x - two.x, one.y - two.y), x: (one.x + two.x) / 2, y: (one.y + two.y) / 2 };
  };
  box.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.002), box, { x: event.clientX, y: event.clientY });
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    box.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  box.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const here = { x: event.clientX, y: event.clientY }, was = fingers.get(event.pointerId);
    if (fingers.size === 2) {
      const before = spread();
      fingers.set(event.pointerId, here);
      const after = spread();
      zoomBy(after.gap / Math.max(1, before.gap), box, after);
      pan(box, after.x - before.x, after.y - before.y);
    } else {
      fingers.set(event.pointerId, here);
      pan(box, here.x - was.x, here.y - was.y);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, (event) => fingers.delete(event.pointerId));
}

document.addEventListener("keydown", (event) => {
  if ($("vote").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const actions = {
    ArrowLeft: () => vote("a"), ArrowRight: () => vote("b"), ArrowDown: () => vote("tie"), Backspace: undo,
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), "0": whole,
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});

$("start").addEventListener("submit", start);
$("rater").addEventListener("input", tell);
$("model").addEventListener("change", () => { fill(new URLSearchParams()); tell(); });
$("against").addEventListener("change", tell);
$("forget").addEventListener("click", () => {
  const rater = $("rater").value.trim();
  if (!confirm(`Forget all votes of ${rater} in this browser?`)) return;
  localStorage.removeItem(place(rater));
  tell();
});
for (const [id, winner] of [["left", "a"], ["equal", "tie"], ["right", "b"]]) $(id).addEventListener("click", () => vote(winner));
for (const id of ["undo", "back"]) $(id).addEventListener("click", undo);
for (const [id, kind] of [["save", "json"], ["json", "json"], ["csv", "csv"]]) $(id).addEventListener("click", () => save(kind));
$("whole").addEventListener("click", whole);
$("more").addEventListener("click", begin);
window.addEventListener("resize", render);
begin();
