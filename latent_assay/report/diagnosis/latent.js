"use strict";

// The page of one latent.
(() => {
  const found = globalThis.assay.diagnosis;
  if (!found) return;
  const { make, percent, number, cosine } = globalThis.assay;
  const { shared, label, link, dot, odds, peaks, asymmetry, excerpt, around } = found;
  const FULL = 126;

  function fact(name, value, remark, help) {
    const definition = make("dd", {}, value);
    if (remark) definition.append(make("small", {}, remark));
    return make("div", { title: help || "" }, make("dt", {}, name), definition);
  }

  function facts(sae, latent) {
    const list = make("dl", { class: "numbers" });
    if (sae.samples) {
      const firings = sae.arrays.firings[latent];
      list.append(fact("fires on", percent(firings / sae.samples), `${firings.toLocaleString("en")} samples`, "the share of samples in which it is not zero"));
    }
    list.append(fact("encoder–decoder cosine", cosine(sae.column("encoder_decoder", latent)), "", "1 when it writes the direction that it reads"));
    list.append(fact("nearest latent", cosine(sae.column("nearest", latent)), "cosine", "largest cosine of its decoder row with another’s"));
    if (sae.feature(latent)) list.append(fact("its feature", sae.feature(latent), `F1 ${number(sae.arrays.feature_f1[latent] / 100, 2)}`, "the true feature that it tells best"));
    return list;
  }

  // Names of the package stand between backticks.
  const coded = (text) => text.split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));

  function block(title, remark, ...content) {
    return make("div", { class: "block" }, make("h4", {}, title), ...(remark ? [make("p", {}, remark)] : []), ...content);
  }

  // Where a parent should have fired: grouped by pair, shaded by both.
  function holes(sae, latent) {
    const places = sae.holes(latent);
    if (!places.length) return null;
    const window_ = sae.shapes["hole.level"][2];
    const list = make("ol", { class: "contexts holes" });
    for (const { index, parent, child } of places) {
      const level = (which) => sae.arrays["hole.level"].subarray((2 * index + which) * window_, (2 * index + which + 1) * window_);
      const other = latent === parent ? child : parent;
      const fires = (level(1)[sae.before] / FULL) * sae.arrays.scale[child];
      const asked = sae.arrays["hole.asked"][index];
      const who = make("a", { href: link(sae, other) }, sae.called(other));
      const head = make("p", { class: "hole-head" });
      if (latent === parent) head.append(who, ` fires with ${number(fires)}; this latent does not, although ${Math.round(100 * asked)}% of its usual activation is there`);
      else head.append("This latent fires with ", number(fires), "; ", who, ` does not, although ${Math.round(100 * asked)}% of its usual activation is there`);
      const layers = [
        { latent: parent, levels: level(0), kind: "parent" },
        { latent: child, levels: level(1), kind: "other" },
      ];
      list.append(make("li", {}, head, make("span", { class: "number", title: "how much of the parent was there" }, `${Math.round(100 * asked)}%`), excerpt(sae, sae.arrays["hole.position"][index], layers)));
    }
    return list;
  }

  // Firings with and without what the latent hedges, which it carries in both.
  function hedges(sae, latent) {
    const owners = sae.arrays["hedge.latent"] || [];
    const first = owners.indexOf(latent);
    if (first < 0) return null;
    const window_ = sae.shapes["hedge.level"][1];
    const list = make("ol", { class: "contexts hedges" });
    let kind = -1;
    for (let k = first; owners[k] === latent; k++) {
      const levels = sae.arrays["hedge.level"].subarray(k * window_, (k + 1) * window_);
      const present = sae.arrays["hedge.present"][k];
      const parts = [];
      if (present !== kind) parts.push(make("p", { class: "hole-head" }, present ? "It is there:" : "It is not there, and the latent carries it all the same:"));
      kind = present;
      parts.push(make("span", { class: "number", title: "activation at the underlined token" }, number((levels[sae.before] / FULL) * sae.arrays.scale[latent])));
      parts.push(excerpt(sae, sae.arrays["hedge.position"][k], [{ latent, levels, kind: "parent" }]));
      list.append(make("li", {}, ...parts));
    }
    return list;
  }

  function examples(sae, latent) {
    const first = sae.arrays["example.start"][latent];
    const last = sae.arrays["example.start"][latent + 1];
    const window_ = sae.shapes["example.level"][1];
    const list = make("ol", { class: "contexts examples" });
    for (let k = first; k < last; k++) {
      const levels = sae.arrays["example.level"].subarray(k * window_, (k + 1) * window_);
      const value = (levels[sae.before] / FULL) * sae.arrays.scale[latent];
      list.append(make("li", {}, make("span", { class: "number", title: "activation at the underlined token" }, number(value)), excerpt(sae, sae.arrays["example.position"][k], [{ latent, levels, kind: "parent" }])));
    }
    return last > first ? list : null;
  }

  function relations(sae, latent) {
    const others = sae.relatives(latent).filter((each) => !["parent", "child"].includes(each.role));
    if (!others.length) return null;
    const meaning = Object.fromEntries(shared.roles.map((each) => [each.name, each.share]));
    const rows = others.map((each) => {
      const who = each.other < 0 ? "a direction that no latent is near to" : make("a", { href: link(sae, each.other) }, sae.called(each.other));
      const role = { sibling: "same direction", hedged: "hedges" }[each.role] || each.role;
      return make("li", {}, make("span", { class: "role" }, role), make("span", {}, who, make("small", {}, ` ${number(each.share, 2)} ${meaning[each.role]}`)));
    });
    return make("ul", { class: "relations" }, ...rows);
  }

  function evidence(sae, latent) {
    const list = make("dl", {});
    shared.columns.forEach(({ name, definition }) => {
      const value = sae.column(name, latent);
      if (Number.isNaN(value)) return;
      list.append(make("div", {}, make("dt", {}, `${name.replaceAll("_", " ")}: ${number(value)}`), make("dd", {}, definition)));
    });
    return make("details", { class: "definitions all-evidence block" }, make("summary", {}, "All evidence, with definitions"), list);
  }

  // `moves`: the buttons to the previous and the next latent of the list
  function page(sae, latent, moves) {
    const verdict = sae.verdict(latent);
    const sure = verdict === "undecided" ? "" : ` ${Math.round(100 * sae.sure(latent))}%`;
    const name = sae.name_of(latent);
    const title = make("h3", {}, `Latent ${latent}`);
    const parts = [
      make("div", { class: "latent-head" }, title, make("span", { class: "tag" }, dot(verdict), `${label(verdict)}${sure}`), ...(name ? [make("span", { class: "hint", dir: "auto" }, sae.text ? `“${name}”` : name)] : []), moves),
      make("p", { class: "lead" }, sae.sentence(latent)),
    ];
    const more = sae.besides(latent).map((each) => `${label(each)} ${Math.round(100 * sae.probability(latent, each))}%`);
    if (more.length) parts.push(make("p", { class: "lead" }, `Besides: ${more.join(", ")}.`));
    if (shared.advice[verdict]) parts.push(make("p", { class: "remedy" }, make("b", {}, "What to change. "), ...coded(shared.advice[verdict])));
    parts.push(facts(sae, latent));
    const sides = make("div", { class: "sides" }, make("div", {}, make("h4", {}, "Probability of each verdict"), odds(sae, latent)));
    if (sae.arrays.histogram && sae.arrays.firings[latent] > 0) sides.append(make("div", {}, make("h4", {}, "How strongly it fires"), peaks(sae, latent)));
    parts.push(sides);
    const family = around(sae, latent);
    if (family) parts.push(block("Parents and children", "Parents stand left, children right. A thick line is absorption; the number is the share of the child’s firings in which the parent should have fired and did not.", family));
    if (sae.text) {
      const places = holes(sae, latent);
      if (places) parts.push(block("Recall holes", "Places where the parent’s feature was there, yet its latent was silent, as the child fired at the underlined token. Blue: the child; orange: the parent, where it does fire.", places));
      const hedged = hedges(sae, latent);
      if (hedged) parts.push(block("With and without what it hedges", "Of the firings that were kept, those in which the direction that it hedges is most clearly there, and most clearly not.", hedged));
      const shown = examples(sae, latent);
      if (shown) parts.push(block("Contexts that activate it most", "", shown));
    }
    if (sae.near(latent).length) parts.push(block("Encoder against decoder", "Parents, children and the nearest latents by decoder row. Where the decoder rows are alike but an encoder does not see the other, one of the two carries the other and keeps it silent.", asymmetry(sae, latent)));
    const others = relations(sae, latent);
    if (others) parts.push(block("Other relatives", "", others));
    parts.push(evidence(sae, latent));
    return parts;
  }

  Object.assign(found, { page });
})();
