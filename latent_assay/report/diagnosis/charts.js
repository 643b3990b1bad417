"use strict";

// The drawings of one latent: probabilities, peaks, neighbours, and text.
(() => {
  const found = globalThis.assay.diagnosis;
  if (!found) return;
  const { make, draw, signs, number, cosine } = globalThis.assay;
  const { verdicts, label, link } = found;
  const OUTSIDE = -128; // no token of the document
  const LEFT_OUT = -127; // a token whose activation was not read
  const FULL = 126; // the latent's greatest activation

  const dot = (verdict) => make("span", { class: `dot dot-${verdict}`, "aria-hidden": "true" });

  // Probability of every failure, with the bar of one half, and the truth where it is known.
  function odds(sae, latent) {
    const known = Boolean(sae.arrays.truth);
    const rows = verdicts.filter((name) => name !== "undecided").map((name) => {
      const p = sae.probability(latent, name);
      const bar = draw("svg", { role: "img", "aria-label": `${label(name)}: ${Math.round(100 * p)}%` });
      bar.append(
        draw("rect", { class: "track", x: 0, y: 2, width: "100%", height: 8, rx: 4 }),
        draw("rect", { class: `fill-${name}`, x: 0, y: 2, width: `${100 * p}%`, height: 8, rx: p > 0.04 ? 4 : 0 }),
        draw("line", { x1: "50%", x2: "50%", y1: 0, y2: 12 }),
      );
      const row = make("li", { class: name === sae.verdict(latent) ? "decided" : "" }, make("span", {}, label(name)), bar, make("span", { class: "number" }, `${Math.round(100 * p)}%`));
      if (known) {
        const truth = sae.truth(latent, name);
        row.append(make("span", { class: truth === 2 ? "truth yes" : "truth", title: "what is true of it, as the features are known" }, ["no", "grey zone", "true"][truth]));
      }
      return row;
    });
    return make("ul", { class: known ? "odds known" : "odds" }, ...rows);
  }

  // Histogram of activations, and the mixture of normal distributions that was chosen.
  function peaks(sae, latent) {
    const bins = sae.shapes.histogram[1];
    const counts = sae.arrays.histogram.subarray(latent * bins, (latent + 1) * bins);
    const top = sae.arrays.top[latent];
    const groups = sae.shapes.mixture[2];
    const part = (kind, g) => sae.arrays.mixture[(kind * sae.width + latent) * groups + g];
    const [width, height, floor] = [380, 128, 108];
    const total = counts.reduce((a, b) => a + b, 0);
    const density = (x) => {
      let sum = 0;
      for (let g = 0; g < groups; g++) {
        if (part(0, g) > 0 && part(2, g) > 0) sum += (part(0, g) / part(2, g)) * Math.exp(-0.5 * ((x - part(1, g)) / part(2, g)) ** 2);
      }
      return (sum * total * top) / bins / Math.sqrt(2 * Math.PI);
    };
    const most = Math.max(...counts, 1);
    const y = (value) => floor - (floor - 6) * Math.min(1, value / (1.15 * most));
    const chart = draw("svg", { class: "peaks", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Histogram of ${total} activations from 0 to ${number(top)}, in ${number(sae.column("peaks", latent))} groups` });
    counts.forEach((count, i) => {
      if (!count) return;
      const bar = draw("rect", { x: (width * i) / bins + 0.5, width: width / bins - 1, y: y(count), height: floor - y(count) });
      bar.append(draw("title", {}, `${number((top * i) / bins)}–${number((top * (i + 1)) / bins)}: ${count}`));
      chart.append(bar);
    });
    const line = [];
    for (let i = 0; i <= 160; i++) line.push(`${i ? "L" : "M"}${((width * i) / 160).toFixed(1)} ${y(density((top * i) / 160)).toFixed(1)}`);
    if (total && sae.column("peaks", latent) > 0) chart.append(draw("path", { d: line.join("") }));
    chart.append(
      draw("line", { x1: 0, x2: width, y1: floor + 0.5, y2: floor + 0.5 }),
      draw("text", { x: 0, y: height - 4 }, "0"),
      draw("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, "activation"),
      draw("text", { x: width, y: height - 4, "text-anchor": "end" }, number(top)),
    );
    return chart;
  }

  const SHAPES = {
    cosine: () => draw("circle", { class: "cosine", r: 4.5 }),
    sees: () => draw("path", { class: "sees", d: "M-4.5 -5L5 0L-4.5 5Z" }),
    seen: () => draw("path", { class: "seen", d: "M0 -5.5L5.5 0L0 5.5L-5.5 0Z" }),
  };

  // For each neighbour: how alike the decoder rows are, and how much either encoder sees of it.
  function asymmetry(sae, latent) {
    const [low, high] = [-0.5, 1.05];
    const x = (value) => `${(100 * (Math.min(high, Math.max(low, value)) - low)) / (high - low)}%`;
    const roles = new Map();
    for (const each of sae.relatives(latent)) if (!roles.has(each.other)) roles.set(each.other, each.role);
    const rows = sae.pairs(latent).map((pair) => {
      const chart = draw("svg", { role: "img", "aria-label": `decoder cosine ${cosine(pair.cosine)}; this encoder sees ${cosine(pair.gain)} of it; its encoder sees ${cosine(pair.gained)} of this one` });
      const ends = [pair.cosine, pair.gain, pair.gained];
      chart.append(
        draw("line", { class: "axis", x1: x(0), x2: x(0), y1: 0, y2: 18 }),
        draw("line", { class: "span", x1: x(Math.min(...ends)), x2: x(Math.max(...ends)), y1: 9, y2: 9 }),
      );
      const mark = (kind, value) => {
        const place = draw("svg", { x: x(value), y: 9, overflow: "visible", width: 1, height: 1 });
        place.append(SHAPES[kind]());
        chart.append(place);
      };
      mark("sees", pair.gain);
      mark("seen", pair.gained);
      mark("cosine", pair.cosine);
      const role = roles.get(pair.other);
      const name = make("a", { href: link(sae, pair.other), title: sae.called(pair.other) }, sae.called(pair.other));
      const who = make("span", { class: "who" }, name, ...(role ? [make("span", { class: "role" }, ` ${role}`)] : []));
      return make("li", {}, who, chart, make("span", { class: "number" }, cosine(pair.cosine)));
    });
    const key = (kind, text) => {
      const icon = draw("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" });
      icon.append(SHAPES[kind]());
      return make("li", {}, icon, text);
    };
    return make(
      "div", {},
      make("ul", { class: "pairs" }, ...rows),
      make("ul", { class: "marks" }, key("cosine", "cosine of the decoder rows"), key("sees", "what this encoder sees of the other’s decoder row"), key("seen", "what the other’s encoder sees of this one; line: zero")),
    );
  }

  // Tokens around a position; `layers` are activations, each with the class of its shading.
  function excerpt(sae, position, layers) {
    const corpus = found.corpus();
    const text = make("p", { class: "context", dir: "auto" });
    let plain = "";
    const flush = () => {
      if (plain) text.append(text.hasChildNodes() ? plain : plain.trimStart());
      plain = "";
    };
    const window_ = layers[0].levels.length;
    for (let k = 0; k < window_; k++) {
      if (layers[0].levels[k] === OUTSIDE) continue;
      const whole = signs(corpus.pieces[corpus.ids[position - sae.before + k]]);
      // the space before a word stays outside the shading, so that it may end a line
      const piece = whole.trimStart() || whole;
      plain += whole.slice(0, whole.length - piece.length);
      const read = layers[0].levels[k] !== LEFT_OUT;
      const firing = read ? layers.filter((layer) => layer.levels[k]) : [];
      if (!firing.length && k !== sae.before) {
        plain += piece;
        continue;
      }
      flush();
      const strongest = firing.reduce((a, b) => (a && Math.abs(a.levels[k]) >= Math.abs(b.levels[k]) ? a : b), null);
      const value = (layer) => `#${layer.latent}: ${number((layer.levels[k] / FULL) * sae.arrays.scale[layer.latent])}`;
      const token = make("mark", { class: strongest ? strongest.kind : "", title: `“${whole}” · ${layers.map(value).join(" · ")}` }, piece);
      token.style.setProperty("--share", strongest ? Math.min(1, Math.abs(strongest.levels[k]) / FULL) : 0);
      token.classList.toggle("peak", k === sae.before);
      text.append(token);
    }
    flush();
    return text;
  }

  Object.assign(found, { dot, odds, peaks, asymmetry, excerpt });
})();
