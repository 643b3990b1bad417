"use strict";

// Theme: the button switches away from what is shown; the choice is remembered where allowed.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  button.hidden = false;
  button.addEventListener("click", () => {
    const shown = root.dataset.theme || (system.matches ? "dark" : "light");
    root.dataset.theme = shown === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("latent-assay-theme", root.dataset.theme);
    } catch {
      // the choice then lasts as long as the page
    }
  });
})();

// The table of contents marks the section that is being read.
(() => {
  const links = new Map();
  for (const link of document.querySelectorAll(".bar nav a")) {
    const section = document.getElementById(link.hash.slice(1));
    if (section) links.set(section, link);
  }
  const nav = document.querySelector(".bar nav");
  let shown = null;
  const mark = () => {
    let current = null;
    for (const [section, link] of links) {
      if (section.getBoundingClientRect().top < innerHeight * 0.35) current = link;
    }
    for (const link of links.values()) {
      if (link === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    // on a narrow window the list is a line that is wider than the window
    if (current && current !== shown) nav.scrollLeft = current.offsetLeft - nav.offsetLeft;
    shown = current;
  };
  addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });
  mark();
})();

// A definition that a column's heading links to is opened before it is shown.
(() => {
  const open = () => {
    if (location.hash.includes("=")) return;
    const target = document.getElementById(location.hash.slice(1));
    const details = target && target.closest("details");
    if (details && !details.open) {
      details.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  open();
})();

// Long tables: rows are found by parts of their names, and groups of them folded away.
for (const label of document.querySelectorAll(".field.filter")) {
  const input = label.querySelector("input");
  const rows = [...label.nextElementSibling.querySelectorAll("tbody tr:not(.group)")];
  label.hidden = false;
  input.addEventListener("input", () => {
    const phrases = input.value.toLowerCase().split(",").map((each) => each.trim());
    for (const row of rows) {
      const name = row.querySelector("th > span:last-of-type").textContent.toLowerCase();
      row.hidden = !phrases.every((phrase) => name.includes(phrase));
    }
  });
}
for (const button of document.querySelectorAll("button.fold")) {
  button.disabled = false;
  button.addEventListener("click", () => {
    const folded = button.closest("tbody").classList.toggle("folded");
    button.setAttribute("aria-expanded", String(!folded));
  });
}
