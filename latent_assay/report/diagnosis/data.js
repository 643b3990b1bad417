"use strict";

// What a diagnosis says of each latent: numbers, words, and links. Nothing here draws.
globalThis.assay.diagnosis = (() => {
  const { unpack, signs, number, cosine } = globalThis.assay;
  const SURE = 250; // stands for a probability of 1
  const UNKNOWN = -128;
  const PAIR = 50; // what stands for 1 in measures of pairs
  const MEASURES = ["cosine", "gain", "gained", "given", "overlap", "carried", "holes"];

  const shared = JSON.parse((document.getElementById("diagnosis-data") || { textContent: "null" }).textContent);
  if (!shared) return null;
  const verdicts = shared.verdicts.map((each) => each.name);
  const label = (name) => name.replaceAll("_", " ");
  const failures = verdicts.filter((name) => name !== "clean" && name !== "undecided");
  const columns = new Map(shared.columns.map((each, i) => [each.name, i]));
  let corpus = null;

  async function loadCorpus() {
    if (!shared.corpus || corpus) return corpus;
    const { pieces, ids } = shared.corpus;
    corpus = { pieces, lower: pieces.map((piece) => piece.toLowerCase()), ids: await unpack(ids) };
    return corpus;
  }

  async function load(index) {
    const data = JSON.parse(document.getElementById(`diagnosis-data-${index}`).textContent);
    const names = Object.keys(data.arrays);
    const arrays = await Promise.all(names.map((name) => unpack(data.arrays[name])));
    const shapes = Object.fromEntries(names.map((name) => [name, data.arrays[name].shape]));
    return new Diagnosed(index, data, Object.fromEntries(names.map((name, i) => [name, arrays[i]])), shapes);
  }

  class Diagnosed {
    constructor(index, data, arrays, shapes) {
      Object.assign(this, { index, name: data.name, width: data.width, samples: data.samples, before: data.before, features: data.features, arrays, shapes });
      this.text = Boolean(arrays["example.position"]);
      this.children = null;
    }

    verdict(latent) { return verdicts[this.arrays.chosen[latent]]; }

    probability(latent, verdict) {
      return this.arrays.probability[latent * verdicts.length + verdicts.indexOf(verdict)] / SURE;
    }

    // whether a failure is found, headline or not
    has(latent, verdict) {
      if (!failures.includes(verdict)) return this.verdict(latent) === verdict;
      return this.arrays.probability[latent * verdicts.length + verdicts.indexOf(verdict)] >= SURE / 2;
    }

    sure(latent) {
      const verdict = this.verdict(latent);
      return verdict === "undecided" ? 0 : this.probability(latent, verdict);
    }

    column(name, latent) { return this.arrays.columns[columns.get(name) * this.width + latent]; }

    truth(latent, verdict) {
      return this.arrays.truth ? this.arrays.truth[latent * verdicts.length + verdicts.indexOf(verdict)] : null;
    }

    feature(latent) {
      if (!this.arrays.feature || this.arrays.feature[latent] < 0) return "";
      const feature = this.arrays.feature[latent];
      return `feature ${this.features[feature] ?? feature}`;
    }

    // the token that a latent fires on most, or its feature
    name_of(latent) {
      if (latent < 0) return "no latent";
      if (this.text) {
        const first = this.arrays["example.start"][latent];
        if (first === this.arrays["example.start"][latent + 1]) return this.arrays.firings?.[latent] === 0 ? "never fired" : "";
        const text = signs(corpus.pieces[corpus.ids[this.arrays["example.position"][first]]]);
        return text.trim() || "␣";
      }
      return this.feature(latent);
    }

    called(latent) {
      const name = this.name_of(latent);
      return this.text && name ? `#${latent} “${name}”` : name ? `#${latent} (${name})` : `#${latent}`;
    }

    relatives(latent, role) {
      const found = [];
      const { arrays } = this;
      for (let k = arrays["relative.start"][latent]; k < arrays["relative.start"][latent + 1]; k++) {
        const name = shared.roles[arrays["relative.role"][k]].name;
        if (role && name !== role) continue;
        found.push({ other: arrays["relative.other"][k], role: name, share: arrays["relative.share"][k] / 100 });
      }
      return found;
    }

    // the nearest latents with every measure of the pair; NaN where one is not known
    near(latent) {
      const [count, , each] = this.shapes["near.measures"];
      const found = [];
      for (let k = 0; k < each; k++) {
        const other = this.arrays["near.latent"][latent * each + k];
        if (other === latent) continue;
        const pair = { other };
        MEASURES.forEach((name, m) => {
          const value = m < count ? this.arrays["near.measures"][(m * this.width + latent) * each + k] : UNKNOWN;
          pair[name] = value === UNKNOWN ? NaN : value / PAIR;
        });
        found.push(pair);
      }
      return found;
    }

    // Those that matter most, with the measures of the pair: parents and children, whose numbers
    // may be kept on the other's side, then the nearest.
    pairs(latent, most = 8) {
      const near = this.near(latent);
      const kin = ["child", "parent"].flatMap((role) => this.relatives(latent, role).slice(0, 3)).map((each) => each.other);
      const found = [...new Set(kin)].map((other) => {
        const mine = near.find((pair) => pair.other === other);
        if (mine) return mine;
        const theirs = this.near(other).find((pair) => pair.other === latent);
        return theirs && { other, cosine: theirs.cosine, gain: theirs.gained, gained: theirs.gain };
      });
      const shown = found.filter(Boolean);
      for (const pair of near) if (shown.length < most && !shown.includes(pair)) shown.push(pair);
      return shown;
    }

    // the child is absorbing and the parent absorbed, and it is in this child's firings that it is
    absorbs(parent, child, share) { return share >= 0.1 && this.has(parent, "absorbed") && this.has(child, "absorbing"); }

    // places where a parent should have fired but its child did
    holes(latent) {
      const { arrays } = this;
      const found = [];
      const parents = arrays["hole.parent"] || [];
      for (let k = 0; k < parents.length; k++) {
        if (parents[k] === latent || arrays["hole.child"][k] === latent) found.push({ index: k, parent: parents[k], child: arrays["hole.child"][k] });
      }
      return found;
    }

    // what was found, in a sentence
    sentence(latent) {
      const percent = (share) => `${Math.round(100 * share)}%`;
      const list = (others) => {
        const shown = others.slice(0, 2).map((each) => this.called(each.other));
        return others.length > 2 ? `${shown.join(", ")} and others` : shown.join(" and ");
      };
      const of = (role) => this.relatives(latent, role);
      const verdict = this.verdict(latent);
      const worst = failures.reduce((a, b) => (this.probability(latent, a) >= this.probability(latent, b) ? a : b));
      if (verdict === "clean") return `Nothing speaks clearly against it: its likeliest failure, ${label(worst)}, has ${percent(this.probability(latent, worst))}.`;
      if (verdict === "dead") return this.samples ? `It fired in none of ${this.samples.toLocaleString("en")} samples.` : "By its weights it should never fire.";
      if (verdict === "absorbed") {
        const lost = this.column("lost", latent);
        const children = of("child");
        const much = lost > 0 ? `in an estimated ${percent(lost)} of its feature’s samples` : "in some of its feature’s samples";
        return children.length ? `It stays silent ${much}, where ${list(children)} fire${children.length > 1 ? "" : "s"} instead.` : `It stays silent ${much}.`;
      }
      if (verdict === "absorbing") {
        const parents = of("parent");
        return parents.length ? `Its decoder row carries ${list(parents)}, which stay${parents.length > 1 ? "" : "s"} silent when it fires.` : "Its decoder row carries the feature of another latent.";
      }
      if (verdict === "hedged") {
        const [first] = of("hedged");
        if (!first) return "Its decoder row carries part of a direction that is not its own.";
        const what = first.other >= 0 ? `the direction of ${this.called(first.other)}` : "a direction that no latent stands for";
        return `Its decoder row carries ${what}, with a part of ${number(first.share, 2)}, whether that is present or not.`;
      }
      if (verdict === "duplicate") return `${list(of("duplicate")) || "Another latent"} has nearly the same direction and fires in the same samples.`;
      if (verdict === "split") return `${list(of("sibling")) || "Another latent"} has nearly the same direction and fires in other samples of the same feature.`;
      if (verdict === "composed") return `Its decoder row is nearly the sum of ${list(of("part")) || "others"}.`;
      if (verdict === "several_peaks") return `Its activations come in ${number(this.column("peaks", latent))} separate groups.`;
      if (verdict === "dense") return `It fires in ${percent(this.column("density", latent))} of all samples.`;
      const firings = this.arrays.firings?.[latent];
      if (firings < 20) return `It fired ${firings} times, too seldom to tell.`;
      return `No probability is decisive: its likeliest failure, ${label(worst)}, has ${percent(this.probability(latent, worst))}.`;
    }

    // failures beside the headline
    besides(latent) { return failures.filter((name) => name !== this.verdict(latent) && this.has(latent, name)); }
  }

  const link = (sae, latent) => `#sae=${sae.index}&latent=${latent}`;

  return { shared, verdicts, failures, label, load, loadCorpus, link, cosine, corpus: () => corpus };
})();
