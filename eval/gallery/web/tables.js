"use strict";
// The tables beside the panes: methods with their scores, scores of the image, settings of the runs.

function methodTable() {
  const score = chosenScore(), runs = [...runsOf()], shown = shownRuns().map((r) => r.label);
  const wins = runs.some((r) => r.wins?.[state.score]), base = runs.find((r) => r.base)?.base;
  const scored = (run) => run.scores[state.score]?.[0] ?? null;
  if (state.sorted) {
    const sign = (score?.better || 1) > 0 ? -1 : 1, wanted = state.sorted === "score" ? scored : (r) => r.wins?.[state.score]?.[0] ?? null;
    const direction = state.sorted === "score" ? sign : -1;
    runs.sort((a, b) => (wanted(a) === null) - (wanted(b) === null) || direction * (wanted(a) - wanted(b)));
  }
  const ends = runs.flatMap((r) => r.scores[state.score] || []).filter((v) => v !== null);
  const scale = { low: Math.min(...ends), high: Math.max(...ends) };
  const head = element("tr", {}, element("th", { scope: "col" }, "method"), column("score", score ? titleOf(score) : ""));
  if (wins) head.append(column("wins", "win rate"));
  const rows = runs.map((run) => methodRow(run, shown.indexOf(run.label), score, scale, wins));
  $("methods").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  $("about").textContent = aboutScores(score, runs, base, wins);
}

function aboutScores(score, runs, base, wins) {
  if (!score) return "No scores.";
  const counts = unique(runs.map((r) => r.n)), n = counts.length === 1 ? counts[0] : `${Math.min(...counts)} to ${Math.max(...counts)}`;
  const what = score.name === "seconds" ? "Median time of an image" : "Score of the set with its 95 % interval";
  return `${what}, N = ${n}.` + (wins ? ` Win rate: share of images on which a method is better than ${base}; a tie counts half.` : "");
}

function column(key, text) {
  const on = state.sorted === key;
  const button = element("button", { type: "button", title: on ? "In the order of the tables" : "Best first" }, text, on ? " ▾" : "");
  button.addEventListener("click", () => { state.sorted = on ? "" : key; methodTable(); $("methods").querySelector(`[data-sort=${key}] button`)?.focus(); });
  return element("th", { scope: "col", "data-sort": key, "aria-sort": on ? "descending" : "none" }, button);
}

function methodRow(run, slot, score, scale, wins) {
  const box = element("input", { type: "checkbox", "data-method": run.label });
  box.checked = slot >= 0;
  box.addEventListener("change", () => toggle(run.label));
  const pick = element("label", { class: "check" }, box, element("span", { dir: "auto" }, run.label));
  const row = element("tr", { "data-slot": slot >= 0 ? slot : null }, element("th", { scope: "row" }, pick));
  const found = score && run.scores[score.name];
  row.append(element("td", {}, ...(found ? [interval(found, score.digits), forest(found, scale)] : ["–"])));
  if (wins) row.append(element("td", {}, ...winText(run.wins?.[score.name])));
  return row;
}

function interval([value, low, high], digits) {
  const made = element("span", { class: "number" }, element("b", {}, number(value, digits)));
  if (low !== null) made.append(" ", element("small", {}, `${number(low, digits)} to ${number(high, digits)}`));
  return made;
}

function forest([value, low, high], scale) {
  const at = (v) => (scale.high > scale.low ? (100 * (v - scale.low)) / (scale.high - scale.low) : 50);
  const made = element("span", { class: "forest", "aria-hidden": "true" });
  if (low !== null) {
    const line = element("i");
    Object.assign(line.style, { left: `${at(low)}%`, width: `${at(high) - at(low)}%` });
    made.append(line);
  }
  const dot = element("u");
  dot.style.left = `${at(value)}%`;
  made.append(dot);
  return made;
}

function winText(win) {
  if (!win) return ["–"];
  const [value, low, high] = win.map((v) => (v === null ? null : Math.round(100 * v)));
  if (win[0] === 0.5 && win[1] === 0.5 && win[2] === 0.5) return [element("span", { class: "number" }, "equal")];
  const made = element("span", { class: "number" }, element("b", {}, `${value} %`));
  if (low !== null) made.append(" ", element("small", {}, `${low} to ${high}`));
  return [made];
}

function valueTable() {
  const runs = shownRuns(), scores = scoresOfGroup().filter((s) => s.each);
  const head = element("tr", {}, element("th", { scope: "col" }, "score"),
    ...runs.map((r, slot) => element("th", { scope: "col", "data-slot": slot, dir: "auto" }, r.label)));
  const rows = scores.map((score) => {
    const values = runs.map((run) => valueOf(run, state.prompt, score.name)), known = values.filter((v) => v !== null);
    const best = score.better > 0 ? Math.max(...known) : Math.min(...known);
    const cells = values.map((v) => {
      if (v === null) return element("td", {}, "–");
      const marked = score.better && known.length > 1 && v === best && known.some((other) => other !== best);
      return element("td", {}, marked ? element("b", {}, number(v, score.digits)) : number(v, score.digits));
    });
    return element("tr", {}, element("th", { scope: "row" }, fullTitleOf(score)), ...cells);
  });
  $("values").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function settingLists() {
  $("settings").replaceChildren(...shownRuns().map((run, slot) => {
    const list = element("dl"), all = { size: run.size.join("×"), ...run.settings };
    for (const [key, value] of Object.entries(all)) list.append(element("dt", {}, key), element("dd", { dir: "auto" }, String(value)));
    return element("div", { "data-slot": slot }, element("h3", {}, run.label), list);
  }));
}
