"use strict";

// Filters, the list of latents, and moving about. Only the rows in sight exist.
(() => {
  const found = globalThis.assay.diagnosis;
  if (!found) return;
  const { make, percent } = globalThis.assay;
  const { label, verdicts, dot, link } = found;
  const ROW = 44; // pixels; the style sheet says the same
  const FAMILIES = 4;

  const at = (id) => document.getElementById(id);
  const [panel, list, spacer, article] = ["browser", "list", "spacer", "latent"].map(at);
  const [choice, verdict, query, sort, beside] = ["sae", "verdict", "query", "sort", "beside"].map(at);
  const state = { sae: null, latent: -1, order: [], families: null };
  const loaded = new Map();

  // ---- which latents, in which order -------------------------------------------------------

  // The text around a position, cut so that every occurrence of the words touches it.
  function touches(position, words) {
    const { lower, ids } = found.corpus();
    const reach = words.length - 1;
    let before = "";
    for (let i = position - 1; i >= 0 && before.length < reach; i--) before = lower[ids[i]] + before;
    let after = "";
    for (let i = position + 1; i < ids.length && after.length < reach; i++) after += lower[ids[i]];
    return ((reach ? before.slice(-reach) : "") + lower[ids[position]] + after.slice(0, reach)).includes(words);
  }

  // How many contexts of each latent fit the words.
  function matches(sae, words) {
    const count = new Uint16Array(sae.width);
    if (!sae.text) {
      for (let i = 0; i < sae.width; i++) count[i] = sae.feature(i) === words ? 1 : 0;
      return count;
    }
    const known = new Map(); // many latents fire at the same token
    const { "example.start": start, "example.position": position } = sae.arrays;
    for (let i = 0; i < sae.width; i++) {
      for (let k = start[i]; k < start[i + 1]; k++) {
        let hit = known.get(position[k]);
        if (hit === undefined) known.set(position[k], (hit = touches(position[k], words)));
        if (hit) count[i]++;
      }
    }
    return count;
  }

  function arrange() {
    const { sae } = state;
    const words = query.value.trim().toLowerCase();
    const index = /^#\s*\d+$/.test(words) ? words.replace(/\D/g, "") : "";
    const hits = words && !words.startsWith("#") ? matches(sae, words) : null;
    const wanted = verdict.value;
    const code = verdicts.indexOf(wanted);
    const order = [];
    for (let i = 0; i < sae.width; i++) {
      if (wanted && !(beside.checked ? sae.has(i, wanted) || sae.arrays.chosen[i] === code : sae.arrays.chosen[i] === code)) continue;
      if (hits && !hits[i]) continue;
      if (index && !String(i).startsWith(index)) continue;
      order.push(i);
    }
    const probability = (i) => (wanted && wanted !== "undecided" ? sae.probability(i, wanted) : sae.sure(i));
    const keys = {
      sure: (i) => -probability(i),
      unsure: probability,
      index: (i) => i,
      density: (i) => -(sae.arrays.firings ? sae.arrays.firings[i] : 0),
    };
    const key = keys[sort.value] || ((i) => -(sae.column(sort.value, i) || 0));
    const value = new Float64Array(sae.width);
    for (const i of order) value[i] = key(i);
    // a search lists first what it finds most often; the chosen order breaks ties
    if (!index) order.sort((a, b) => (hits ? hits[b] - hits[a] : 0) || value[a] - value[b] || a - b);
    state.order = order;
    at("count").textContent = `${order.length.toLocaleString("en")} of ${sae.width.toLocaleString("en")} latents`;
  }

  // ---- the list ---------------------------------------------------------------------------

  function said(sae, i) {
    const by = sort.value;
    const wanted = verdict.value && verdict.value !== "undecided" ? verdict.value : "";
    const shown = wanted || sae.verdict(i);
    let value = shown === "undecided" ? "" : ` ${Math.round(100 * sae.probability(i, shown))}%`;
    if (by === "density") value = ` ${percent(sae.arrays.firings ? sae.arrays.firings[i] / sae.samples : NaN)}`;
    else if (by === "lost" || by === "hedge_strength") value = ` ${Math.round(100 * (sae.column(by, i) || 0))}%`;
    const name = sae.verdict(i);
    return make("span", { class: "said" }, dot(name), `${label(name)}${wanted && wanted !== name && by.endsWith("sure") ? `, ${label(wanted)}` : ""}${value}`);
  }

  function drawList() {
    const { sae } = state;
    spacer.style.height = `${state.order.length * ROW}px`;
    spacer.textContent = "";
    if (!state.order.length) {
      spacer.append(make("p", { class: "empty" }, "No latent fits. Try another verdict, or other words."));
      list.removeAttribute("aria-activedescendant");
      return;
    }
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(state.order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    let active = "";
    for (let place = first; place < last; place++) {
      const i = state.order[place];
      const row = make(
        "div",
        { class: "row", role: "option", id: `row-${i}`, "data-latent": i, "aria-selected": i === state.latent, "aria-setsize": state.order.length, "aria-posinset": place + 1 },
        make("span", { class: "index" }, `#${i}`),
        make("span", { class: "top", dir: "auto" }, sae.name_of(i)),
        said(sae, i),
      );
      row.style.top = `${place * ROW}px`;
      if (i === state.latent) active = row.id;
      spacer.append(row);
    }
    if (active) list.setAttribute("aria-activedescendant", active);
    else list.removeAttribute("aria-activedescendant");
  }

  function reveal() {
    const place = state.order.indexOf(state.latent);
    if (place < 0) return;
    const top = place * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }

  function drawLatent() {
    const { sae, latent } = state;
    article.textContent = "";
    if (latent < 0) return;
    if (latent >= sae.width) {
      article.append(make("p", { class: "empty" }, `There is no latent ${latent} here: ${sae.name} has ${sae.width}, counted from 0.`));
      return;
    }
    const place = state.order.indexOf(latent);
    const move = (text, name, step) => {
      const button = make("button", { type: "button", "aria-label": name, title: name }, text);
      button.disabled = place < 0 || place + step < 0 || place + step >= state.order.length;
      button.addEventListener("click", () => go(state.order[place + step]));
      return button;
    };
    const moves = make("div", { class: "moves" }, make("a", { href: link(sae, latent), title: "a link that opens this latent" }, "link"), move("↑", "previous latent", -1), move("↓", "next latent", 1));
    article.append(...found.page(sae, latent, moves));
  }

  // ---- families -----------------------------------------------------------------------------

  function moreFamilies() {
    const { sae, families } = state;
    let drawn = 0;
    while (families.roots.length && drawn < FAMILIES) {
      const root = families.roots.shift();
      if (families.taken.has(root)) continue;
      const chart = found.tree(sae, root, families.taken);
      if (!chart) continue;
      at("family-list").append(make("h4", {}, sae.called(root)), chart);
      drawn++;
    }
    at("more-families").hidden = !families.roots.some((root) => !families.taken.has(root));
    at("families").hidden = !at("family-list").hasChildNodes();
  }

  // Latents of one verdict are listed by its probability, all of them by their index.
  function sortFor(name) {
    if (name && sort.value === "index") sort.value = "sure";
    else if (!name && sort.value === "sure") sort.value = "index";
  }

  // ---- moving about -------------------------------------------------------------------------

  function show(latent, { stay = false } = {}) {
    state.latent = latent;
    if (!stay) reveal();
    drawList();
    drawLatent();
  }

  function go(latent) {
    try {
      history.replaceState(null, "", link(state.sae, latent));
    } catch {
      // some viewers refuse; the latent is shown all the same
    }
    show(latent);
  }

  async function open(index) {
    if (!loaded.has(index)) loaded.set(index, await found.load(index));
    const sae = loaded.get(index);
    state.sae = sae;
    choice.value = String(index);
    const counts = new Uint32Array(verdicts.length);
    for (const code of sae.arrays.chosen) counts[code]++;
    for (const option of verdict.options) {
      if (option.value) option.textContent = `${label(option.value)} (${counts[verdicts.indexOf(option.value)].toLocaleString("en")})`;
    }
    at("family-list").textContent = "";
    state.families = { roots: found.roots(sae), taken: new Set() };
    moreFamilies();
    arrange();
    list.scrollTop = 0;
  }

  // A new order is shown from its top; a search also opens what it found first.
  function refresh(event) {
    if (event.target === verdict) sortFor(verdict.value);
    arrange();
    list.scrollTop = 0;
    const searched = event.target === query && query.value.trim();
    const gone = !state.order.includes(state.latent);
    show((searched || gone) && state.order.length ? state.order[0] : state.latent, { stay: true });
  }

  // `#sae=0&latent=123` or `#sae=0&verdict=absorbed`; "" if the hash speaks of something else
  async function follow() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const [index, latent, name] = ["sae", "latent", "verdict"].map((each) => wanted.get(each));
    const target = index !== null && /^\d+$/.test(index) ? Number(index) : 0;
    const one = latent !== null && /^\d+$/.test(latent);
    if (!(one || verdicts.includes(name)) || !at(`diagnosis-data-${target}`)) return "";
    if (!state.sae || target !== state.sae.index) await open(target);
    if (one) {
      show(Number(latent));
      return "latent";
    }
    verdict.value = name;
    sortFor(name);
    query.value = "";
    arrange();
    list.scrollTop = 0;
    show(state.order.length ? state.order[0] : state.latent, { stay: true });
    return "list";
  }

  function step(event) {
    const jump = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    const inText = event.target === query;
    if (jump === undefined || !state.order.length || (inText && !event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    const place = state.order.indexOf(state.latent);
    go(state.order[place < 0 ? 0 : Math.min(state.order.length - 1, Math.max(0, place + jump))]);
  }

  async function start() {
    await found.loadCorpus();
    await open(0);
    panel.hidden = false;
    if (await follow()) panel.scrollIntoView({ behavior: "instant" });
    else show(state.order.length ? state.order[0] : -1);

    let frame = 0;
    list.addEventListener("scroll", () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(drawList);
    }, { passive: true });
    list.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (!row) return;
      go(Number(row.dataset.latent));
      if (matchMedia("(max-width: 52rem)").matches) article.scrollIntoView({ block: "start" });
    });
    list.addEventListener("keydown", step);
    query.addEventListener("keydown", step);
    let wait = 0;
    query.addEventListener("input", (event) => {
      clearTimeout(wait);
      wait = setTimeout(refresh, 80, event);
    });
    for (const control of [sort, verdict, beside]) control.addEventListener("change", refresh);
    choice.addEventListener("change", async () => {
      await open(Number(choice.value));
      go(state.order.length ? state.order[0] : -1);
    });
    at("more-families").addEventListener("click", moreFamilies);
    document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", async () => {
      const what = await follow();
      if (what === "latent") article.scrollIntoView({ block: "start" });
      else if (what) panel.scrollIntoView({ block: "start" });
    });
    addEventListener("resize", drawList);
    at("sae-field").hidden = choice.options.length < 2;
    panel.dataset.ready = "true";
  }

  start().catch((error) => {
    panel.hidden = false;
    panel.textContent = `The pages of single latents could not start: ${error.message}. They need a browser from 2023 or later.`;
  });
})();
