"use strict";

// The browser of latents. Text of the corpus is only ever set as textContent or as an attribute.
(() => {
  const { make, unpack, signs, percent, number, cosine } = globalThis.assay;
  const corpusData = document.getElementById("corpus-data");
  if (!corpusData) return;

  const OUTSIDE = -128; // no token of the peak's document
  const LEFT_OUT = -127; // a token whose activation was not read
  const FULL = 126; // the latent's greatest activation
  const ROW = 44; // pixels; the style sheet says the same

  const at = (id) => document.getElementById(id);
  const panel = at("browser");
  const list = at("list");
  const spacer = at("spacer");
  const article = at("latent");
  const query = at("query");
  const sort = at("sort");
  const dead = at("dead");
  const label = at("label");
  const choice = at("sae");

  const state = { sae: 0, latent: -1, order: [] };
  const loaded = new Map();
  let corpus = null;

  async function loadCorpus() {
    const data = JSON.parse(corpusData.textContent);
    const lower = data.pieces.map((piece) => piece.toLowerCase());
    return { pieces: data.pieces, lower, ids: await unpack(data.ids) };
  }

  async function load(index) {
    if (!loaded.has(index)) {
      const data = JSON.parse(at(`sae-data-${index}`).textContent);
      const [, contexts, window_] = data.activations.shape;
      const activations = await unpack(data.activations);
      loaded.set(index, { ...data, contexts, window: window_, values: activations });
    }
    return loaded.get(index);
  }

  function topPiece(sae, latent) {
    const peaks = sae.peaks[latent];
    if (!peaks.length) return "never fired";
    const text = signs(corpus.pieces[corpus.ids[peaks[0]]]);
    return text.trim() ? text.trim() : "␣";
  }

  const link = (latent) => `#sae=${state.sae}&latent=${latent}`;

  // ---- which latents, in which order -------------------------------------------------------

  // The text around a peak, cut so that every occurrence of the words touches the peak itself.
  function touches(position, words) {
    const reach = words.length - 1;
    const { lower, ids } = corpus;
    let before = "";
    for (let i = position - 1; i >= 0 && before.length < reach; i--) before = lower[ids[i]] + before;
    let after = "";
    for (let i = position + 1; i < ids.length && after.length < reach; i++) after += lower[ids[i]];
    const left = reach ? before.slice(-reach) : "";
    return (left + lower[ids[position]] + after.slice(0, reach)).includes(words);
  }

  function matches(sae, words) {
    const known = new Map(); // many latents peak at the same token
    return sae.peaks.map((peaks) => {
      let count = 0;
      for (const position of peaks) {
        let hit = known.get(position);
        if (hit === undefined) known.set(position, (hit = touches(position, words)));
        if (hit) count++;
      }
      return count;
    });
  }

  function arrange(sae) {
    const words = query.value.trim().toLowerCase();
    const index = /^#\s*\d+$/.test(words) ? words.replace(/\D/g, "") : "";
    const found = words && !words.startsWith("#") ? matches(sae, words) : null;
    const wanted = label.value;
    const order = [];
    for (let i = 0; i < sae.density.length; i++) {
      if (dead.checked && !index && !(sae.density[i] > 0)) continue;
      if (wanted && sae.labels && sae.labels[i] !== wanted) continue;
      if (found && !found[i]) continue;
      if (index && !String(i).startsWith(index)) continue;
      order.push(i);
    }
    const keys = {
      density: (i) => -sae.density[i],
      maximum: (i) => -sae.maximum[i],
      cosine: (i) => -(sae.cosine[i] ?? -2),
      "cosine-low": (i) => sae.cosine[i] ?? 2,
      index: (i) => i,
    };
    const key = keys[sort.value];
    // a search lists first what it finds most often; the chosen order breaks ties
    if (!index) order.sort((a, b) => (found ? found[b] - found[a] : 0) || key(a) - key(b) || a - b);
    state.order = order;
    const all = sae.density.length;
    const alive = sae.density.filter((share) => share > 0).length;
    at("count").textContent =
      `${order.length.toLocaleString("en")} of ${all.toLocaleString("en")} latents` +
      (alive < all ? ` · ${(all - alive).toLocaleString("en")} never fired` : "") +
      ` · ${sae.rows.toLocaleString("en")} tokens read`;
  }

  // ---- the list: only the rows in sight exist ---------------------------------------------

  function drawList() {
    const sae = loaded.get(state.sae);
    spacer.style.height = `${state.order.length * ROW}px`;
    spacer.textContent = "";
    if (!state.order.length) {
      spacer.append(make("p", { class: "empty" }, "No latent fits. Try other words, or show the dead ones."));
      list.removeAttribute("aria-activedescendant");
      return;
    }
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(state.order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    let active = "";
    for (let place = first; place < last; place++) {
      const i = state.order[place];
      const by = sort.value;
      const shown = by === "maximum" ? number(sae.maximum[i]) : by.startsWith("cosine") ? cosine(sae.cosine[i]) : percent(sae.density[i]);
      const row = make(
        "div",
        {
          class: "row", role: "option", id: `row-${i}`, "data-latent": i,
          "aria-selected": i === state.latent, "aria-setsize": state.order.length, "aria-posinset": place + 1,
        },
        make("span", { class: "index" }, `#${i}`),
        make("span", { class: sae.peaks[i].length ? "top" : "top dead", dir: "auto" }, topPiece(sae, i)),
        make("span", { class: "number" }, shown),
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

  // ---- one latent -------------------------------------------------------------------------

  function bars(sae, latent) {
    const counts = sae.histogram[latent];
    const ns = "http://www.w3.org/2000/svg";
    const draw = (tag, properties, text) => {
      const node = document.createElementNS(ns, tag);
      for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
      if (text !== undefined) node.textContent = text;
      return node;
    };
    const most = Math.max(...counts, 1);
    const height = (count) => (count ? 4 + (86 * Math.log(count)) / Math.log(Math.max(most, 2)) : 0);
    const chart = draw("svg", { class: "bars", role: "img", "aria-label": `Histogram of activations from 0 to ${number(sae.maximum[latent])}` });
    const share = 100 / counts.length;
    counts.forEach((count, i) => {
      const bar = draw("rect", { x: `${i * share + share * 0.08}%`, width: `${share * 0.84}%`, y: 96 - height(count), height: height(count), rx: 1 });
      const edges = [i, i + 1].map((k) => number((sae.maximum[latent] * k) / counts.length));
      bar.append(draw("title", {}, `${edges[0]}–${edges[1]}: ${count.toLocaleString("en")} tokens`));
      if (count) chart.append(bar);
    });
    chart.append(
      draw("line", { x1: 0, x2: "100%", y1: 96.5, y2: 96.5 }),
      draw("text", { x: 0, y: 113 }, "0"),
      draw("text", { x: "50%", y: 113, "text-anchor": "middle" }, "activation (bars: log count)"),
      draw("text", { x: "100%", y: 113, "text-anchor": "end" }, number(sae.maximum[latent])),
    );
    return chart;
  }

  function context(sae, latent, slot) {
    const peak = sae.peaks[latent][slot];
    const start = (latent * sae.contexts + slot) * sae.window;
    const text = make("p", { class: "context", dir: "auto" });
    let plain = "";
    const flush = () => {
      if (plain) text.append(text.hasChildNodes() ? plain : plain.trimStart());
      plain = "";
    };
    for (let k = 0; k < sae.window; k++) {
      const value = sae.values[start + k];
      if (value === OUTSIDE) continue;
      const whole = signs(corpus.pieces[corpus.ids[peak - sae.before + k]]);
      // the space before a word stays outside the shading, so that it may end a line
      const piece = whole.trimStart() || whole;
      plain += whole.slice(0, whole.length - piece.length);
      if (value === 0) {
        plain += piece;
        continue;
      }
      flush();
      if (value === LEFT_OUT) {
        text.append(make("span", { class: "skipped", title: "left out: no activation was read here" }, piece));
        continue;
      }
      const token = make("mark", { title: `“${whole}” · ${number((value / FULL) * sae.maximum[latent])}` }, piece);
      token.style.setProperty("--share", Math.min(1, Math.abs(value) / FULL));
      token.classList.toggle("negative", value < 0);
      token.classList.toggle("peak", k === sae.before);
      text.append(token);
    }
    flush();
    const value = (sae.values[start + sae.before] / FULL) * sae.maximum[latent];
    return make("li", {}, make("span", { class: "number", title: "activation at the underlined token" }, number(value)), text);
  }

  function fact(name, value, remark, help) {
    const definition = make("dd", {}, value);
    if (remark) definition.append(make("small", {}, remark));
    return make("div", { title: help }, make("dt", {}, name), definition);
  }

  function drawLatent() {
    const sae = loaded.get(state.sae);
    const i = state.latent;
    article.textContent = "";
    if (i < 0) return;
    if (i >= sae.density.length) {
      article.append(make("p", { class: "empty" }, `There is no latent ${i} here: ${sae.name} has ${sae.density.length}, counted from 0.`));
      return;
    }
    const place = state.order.indexOf(i);
    const move = (text, name, step) => {
      const button = make("button", { type: "button", "aria-label": name, title: name }, text);
      button.disabled = place < 0 || place + step < 0 || place + step >= state.order.length;
      button.addEventListener("click", () => go(state.order[place + step]));
      return button;
    };
    const head = make("div", { class: "latent-head" }, make("h3", {}, `Latent ${i}`));
    if (sae.labels && sae.labels[i]) head.append(make("span", { class: "tag" }, sae.labels[i]));
    head.append(
      make("div", { class: "moves" }, make("a", { href: link(i), title: "a link that opens this latent" }, "link"), move("↑", "previous latent", -1), move("↓", "next latent", 1)),
    );
    const density = sae.density[i];
    article.append(
      head,
      make(
        "dl",
        { class: "numbers" },
        fact("fires on", percent(density), density > 0 ? `1 in ${number(1 / density)} tokens` : "", "the fraction of tokens on which it is not zero"),
        fact("max activation", number(sae.maximum[i]), "", "the greatest activation on this corpus"),
        fact("encoder–decoder cosine", cosine(sae.cosine[i]), "", "1 when it writes the direction that it reads; low values hint at absorption or hedging"),
      ),
    );
    const near = make("ul", { class: "near" });
    sae.nearest[i].forEach((other, k) => {
      near.append(
        make("li", {}, make("a", { href: link(other) }, make("span", { class: "index" }, `#${other}`), make("span", { class: sae.peaks[other].length ? "top" : "top dead", dir: "auto" }, topPiece(sae, other)), make("span", { class: "number" }, cosine(sae.nearest_cosine[i][k])))),
      );
    });
    const sides = make("div", { class: "sides" });
    if (density > 0) sides.append(make("div", {}, make("h4", {}, "How strongly it fires"), bars(sae, i)));
    if (sae.nearest[i].length) sides.append(make("div", {}, make("h4", {}, "Nearest latents (decoder cosine)"), near));
    article.append(sides, make("h4", { class: "contexts-head" }, "Contexts that activate it most"));
    const contexts = make("ol", { class: "contexts" });
    sae.peaks[i].forEach((_, slot) => contexts.append(context(sae, i, slot)));
    article.append(sae.peaks[i].length ? contexts : make("p", { class: "empty" }, `It never fired on the ${sae.rows.toLocaleString("en")} tokens read.`));
  }

  // ---- moving about -----------------------------------------------------------------------

  function show(latent, { stay = false } = {}) {
    state.latent = latent;
    if (!stay) reveal();
    drawList();
    drawLatent();
  }

  function go(latent) {
    try {
      history.replaceState(null, "", link(latent));
    } catch {
      // some viewers refuse; the latent is shown all the same
    }
    show(latent);
  }

  function fillLabels(sae) {
    const names = [...new Set(sae.labels || [])].filter(Boolean).sort();
    at("label-field").hidden = !names.length;
    const kept = label.value;
    label.textContent = "";
    label.append(make("option", { value: "" }, "any"), ...names.map((name) => make("option", { value: name }, name)));
    label.value = names.includes(kept) ? kept : "";
  }

  async function open(index) {
    const sae = await load(index);
    state.sae = index;
    choice.value = String(index);
    fillLabels(sae);
    arrange(sae);
    list.scrollTop = 0;
  }

  // A new order is shown from its top; a search also opens what it found first.
  function refresh(event) {
    arrange(loaded.get(state.sae));
    list.scrollTop = 0;
    const searched = event.target === query && query.value.trim();
    const gone = !state.order.includes(state.latent);
    const latent = (searched || gone) && state.order.length ? state.order[0] : state.latent;
    show(latent, { stay: true });
  }

  // `#sae=0&latent=123`; false if the hash speaks of something else
  async function follow() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const [index, latent] = ["sae", "latent"].map((name) => wanted.get(name));
    if (latent === null || !/^\d+$/.test(latent)) return false;
    const target = index !== null && /^\d+$/.test(index) ? Number(index) : 0;
    if (!at(`sae-data-${target}`)) return false;
    if (target !== state.sae || !loaded.has(target)) await open(target);
    show(Number(latent));
    return true;
  }

  function step(event) {
    const jump = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    const inText = event.target === query;
    if (jump === undefined || !state.order.length || (inText && !event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    const place = state.order.indexOf(state.latent);
    const next = place < 0 ? 0 : Math.min(state.order.length - 1, Math.max(0, place + jump));
    go(state.order[next]);
  }

  async function start() {
    corpus = await loadCorpus();
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
    for (const control of [sort, dead, label]) control.addEventListener("change", refresh);
    choice.addEventListener("change", async () => {
      await open(Number(choice.value));
      go(state.order.length ? state.order[0] : -1);
    });
    document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", async () => {
      if (await follow()) article.scrollIntoView({ block: "nearest" });
    });
    addEventListener("resize", drawList);
    at("sae-field").hidden = choice.options.length < 2;
    panel.dataset.ready = "true";
  }

  start().catch((error) => {
    panel.hidden = false;
    panel.textContent = `The browser of latents could not start: ${error.message}. It needs a browser from 2023 or later.`;
  });
})();
