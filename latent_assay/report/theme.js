"use strict";
// Runs before the page is drawn, so that a chosen theme does not flash the other one first.
try {
  const chosen = localStorage.getItem("latent-assay-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage is refused in some private windows: the page then follows the system
}
