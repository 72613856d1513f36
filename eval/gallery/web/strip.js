"use strict";
// The strip of thumbnails below the panes. Only those in sight are in the page, however many images there are.
const CELL = 96, SPARE = 4;
const strip = { items: [], cells: new Map() };

function listImages() {
  const { items, total, range, quantity } = listed(), score = chosenScore();
  strip.items = items;
  for (const cell of strip.cells.values()) cell.remove();
  strip.cells.clear();
  strip.text = quantity && ((value) => (value === null ? "–" : quantity.text(value, score.digits)));
  strip.about = quantity ? `Below: ${quantity.short(shownRuns())} ${score.title}.` : "";
  $("reel").style.width = `${items.length * CELL}px`;
  const filtered = [state.words, state.low, state.high].some((text) => text.trim());
  $("count").textContent = items.length ? `${items.length} of ${total} images` : "No image matches.";
  $("none").textContent = items.length ? "" : `No image matches${conditions(quantity)}.`;
  $("clear").hidden = !filtered;
  for (const [id, place] of [["low", 0], ["high", 1]]) {
    $(id).disabled = !quantity;
    $(id).placeholder = quantity && Number.isFinite(range[place]) ? number(range[place], score.digits) : "";
    const text = $(id).value.trim().replace(",", ".").replace("−", "-");
    $(id).setAttribute("aria-invalid", String(text !== "" && Number.isNaN(Number(text))));
  }
  reveal();
  showCells();
}

function conditions(quantity) {
  const said = [];
  if (state.words.trim()) said.push(`the words “${state.words.trim()}”`);
  const name = quantity && `${chosenScore().title}, ${quantity.name(shownRuns())},`;
  if (state.low.trim()) said.push(`${name} at least ${state.low.trim()}`);
  if (state.high.trim()) said.push(`${name} at most ${state.high.trim()}`);
  return said.length ? ` ${said.join(" and ")}` : "";
}

function showCells() {
  const from = Math.max(0, Math.floor($("strip").scrollLeft / CELL) - SPARE);
  const to = Math.min(strip.items.length, Math.ceil(($("strip").scrollLeft + $("strip").clientWidth) / CELL) + SPARE);
  for (const [k, cell] of strip.cells) {
    if (k < from || k >= to) { cell.remove(); strip.cells.delete(k); }
  }
  for (let k = from; k < to; k++) {
    if (!strip.cells.has(k)) strip.cells.set(k, $("reel").appendChild(cellOf(k)));
  }
  markCell();
}

function cellOf(k) {
  const { prompt, value } = strip.items[k], { text, seed } = DATA.prompts[prompt];
  const cell = element("div", {
    class: "cell", role: "option", id: `cell-${k}`, "data-prompt": prompt, title: text,
    "aria-label": `${text}, seed ${seed}`, "aria-setsize": strip.items.length, "aria-posinset": k + 1,
  });
  cell.style.left = `${k * CELL}px`;
  const box = element("div", { class: "thumb" }), runs = shownRuns();
  let images = runs.map((run) => imageOf(run, prompt)).filter(Boolean).slice(0, state.slider ? 2 : 1);
  if (!images.length) images = runsOf().map((run) => imageOf(run, prompt)).filter(Boolean).slice(0, 1);
  box.append(...images.map((image) => element("img", { src: thumbOf(image.id), alt: "", draggable: "false" })));
  cell.append(box);
  if (strip.text) cell.append(element("span", {}, strip.text(value)));
  cell.addEventListener("click", () => choose(prompt));
  return cell;
}

function markCell() {
  const at = strip.items.findIndex((item) => item.prompt === state.prompt);
  for (const [k, cell] of strip.cells) cell.setAttribute("aria-selected", String(k === at));
  if (strip.cells.has(at)) $("strip").setAttribute("aria-activedescendant", `cell-${at}`);
  else $("strip").removeAttribute("aria-activedescendant");
}

// Scroll the strip, not the page, so that the chosen image is in sight.
function reveal() {
  const at = strip.items.findIndex((item) => item.prompt === state.prompt), box = $("strip");
  if (at < 0) return;
  if (at * CELL < box.scrollLeft || (at + 1) * CELL > box.scrollLeft + box.clientWidth) {
    box.scrollLeft = (at + 0.5) * CELL - box.clientWidth / 2;
  }
}

// The image `by` places further in the list, around its ends.
function move(by) {
  const at = strip.items.findIndex((item) => item.prompt === state.prompt), n = strip.items.length;
  if (n) choose(strip.items[at < 0 ? 0 : (at + by + n) % n].prompt);
}

function choose(prompt) {
  state.prompt = prompt;
  reveal();
  showCells();
  showImage();
}

function fillFilters() {
  const runs = shownRuns(), scores = scoresOfGroup();
  const single = scores.filter((s) => s.each), sets = scores.filter((s) => !s.each);
  const option = (s) => element("option", { value: s.name }, titleOf(s));
  $("score").replaceChildren(...single.map(option));
  if (sets.length) $("score").append(element("optgroup", { label: "of a whole set" }, ...sets.map(option)));
  $("score").value = state.score;
  const quantities = Object.entries(QUANTITIES).filter(([, q]) => q.name(runs));
  $("of").replaceChildren(...quantities.map(([key, q]) => element("option", { value: key }, q.name(runs))));
  $("of").value = state.of;
  const orders = { listed: "as listed", high: "highest first", low: "lowest first" };
  $("order").replaceChildren(...Object.entries(orders).map(([value, text]) => element("option", { value }, text)));
  $("order").value = state.order;
  $("of").disabled = $("order").disabled = !chosenScore()?.each;
  for (const id of ["low", "high", "words"]) if ($(id).value !== state[id]) $(id).value = state[id];
}
