"use strict";
// Runs before the page is drawn: light or dark as the system, or as chosen. A page from disk may not be able to store it.
const THEMES = ["system", "light", "dark"];
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const theme = { chosen: "system" };
try { theme.chosen = localStorage.getItem("sega-theme") || "system"; } catch { /* no storage */ }

function applyTheme() {
  const dark = theme.chosen === "dark" || (theme.chosen !== "light" && systemIsDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const button = document.getElementById("theme");
  if (!button) return;
  const [sign, name] = { light: ["☀", "Light"], dark: ["☾", "Dark"] }[theme.chosen] || ["◐", "Auto"];
  button.textContent = `${sign} ${name}`;
  button.setAttribute("aria-label", `Colours: ${name}. Change`);
}

function nextTheme() {
  theme.chosen = THEMES[(THEMES.indexOf(theme.chosen) + 1) % THEMES.length];
  try { localStorage.setItem("sega-theme", theme.chosen); } catch { /* no storage */ }
  applyTheme();
}

systemIsDark.addEventListener("change", applyTheme);
applyTheme();
