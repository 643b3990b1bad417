"use strict";

// Parents and children as a graph: boxes in columns, curves between them.
(() => {
  const found = globalThis.assay.diagnosis;
  if (!found) return;
  const { make, draw } = globalThis.assay;
  const { link, label } = found;
  const BOX = { width: 168, height: 30, gap: 10, between: 84 };

  const cut = (text, most) => ([...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);

  // `nodes`: latent, column, row; `edges`: from, to (indices of nodes), share, absorbs
  function graph(sae, nodes, edges, own, name) {
    const columns = 1 + Math.max(...nodes.map((node) => node.column));
    const rows = 1 + Math.max(...nodes.map((node) => node.row));
    const width = columns * BOX.width + (columns - 1) * BOX.between + 4;
    const height = rows * (BOX.height + BOX.gap) + 4;
    const x = (node) => 2 + node.column * (BOX.width + BOX.between);
    const y = (node) => 2 + node.row * (BOX.height + BOX.gap);
    const chart = draw("svg", { class: "family", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": name });
    const labels = [];
    for (const edge of edges) {
      const [a, b] = [nodes[edge.from], nodes[edge.to]];
      const [x1, y1, x2, y2] = [x(a) + BOX.width, y(a) + BOX.height / 2, x(b), y(b) + BOX.height / 2];
      const bend = (x2 - x1) / 2;
      const curve = draw("path", { class: edge.absorbs ? "edge absorbs" : "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` });
      const share = `${Math.round(100 * edge.share)}%`;
      curve.append(draw("title", {}, `#${b.latent} ${edge.absorbs ? "absorbs" : "is perhaps a child of"} #${a.latent}: ${share} of its firings are holes`));
      chart.append(curve);
      // where several lines meet in one box their numbers stand at the other ends
      const outward = edges.filter((other) => other.to === edge.to).length > 1;
      labels.push(draw("text", outward ? { class: "quiet", x: x1 + 7, y: y1 - 4 } : { class: "quiet", x: x2 - 7, y: y2 - 4, "text-anchor": "end" }, share));
    }
    for (const node of nodes) {
      const verdict = sae.verdict(node.latent);
      const box = draw("a", { href: link(sae, node.latent), "aria-label": `${sae.called(node.latent)}, ${label(verdict)}` });
      if (node.latent === own) box.setAttribute("class", "self");
      box.append(
        draw("title", {}, `${sae.called(node.latent)}, ${label(verdict)}`),
        draw("rect", { x: x(node), y: y(node), width: BOX.width, height: BOX.height, rx: 6 }),
        draw("circle", { class: `fill-${verdict}`, cx: x(node) + 13, cy: y(node) + BOX.height / 2, r: 4.5 }),
        draw("text", { x: x(node) + 24, y: y(node) + BOX.height / 2 + 4.5 }, cut(`#${node.latent} ${sae.name_of(node.latent)}`, 20)),
      );
      chart.append(box);
    }
    chart.append(...labels);
    return make("div", { class: "family-scroll", tabindex: "0", role: "region", "aria-label": name }, chart);
  }

  // A latent between its parents and its children.
  function around(sae, latent) {
    const most = 6;
    const parents = sae.relatives(latent, "parent").slice(0, most);
    const children = sae.relatives(latent, "child").filter((each) => !parents.some((p) => p.other === each.other)).slice(0, most);
    if (!parents.length && !children.length) return null;
    const rows = Math.max(parents.length, children.length, 1);
    const place = (i, count) => i + (rows - count) / 2;
    const shift = parents.length ? 1 : 0;
    const nodes = [{ latent, column: shift, row: place(0, 1) }];
    const edges = [];
    parents.forEach((each, i) => {
      nodes.push({ latent: each.other, column: 0, row: place(i, parents.length) });
      const holes = sae.relatives(each.other, "child").find((other) => other.other === latent);
      const near = sae.near(latent).find((pair) => pair.other === each.other);
      const share = holes ? holes.share : near && near.holes >= 0 ? near.holes : 0;
      edges.push({ from: nodes.length - 1, to: 0, share, absorbs: sae.absorbs(each.other, latent, share) });
    });
    children.forEach((each, i) => {
      nodes.push({ latent: each.other, column: shift + 1, row: place(i, children.length) });
      edges.push({ from: 0, to: nodes.length - 1, share: each.share, absorbs: sae.absorbs(latent, each.other, each.share) });
    });
    return graph(sae, nodes, edges, latent, `Parents and children of latent ${latent}`);
  }

  // Parents with the most absorbing children, each once; what a shown family holds begins no other.
  function roots(sae) {
    const strength = new Map();
    for (let latent = 0; latent < sae.width; latent++) {
      const children = sae.relatives(latent, "child");
      if (!children.length) continue;
      const sum = children.reduce((total, each) => total + each.share * (sae.absorbs(latent, each.other, each.share) ? 10 : 1), 0);
      strength.set(latent, sum);
    }
    return [...strength.keys()].sort((a, b) => strength.get(b) - strength.get(a) || a - b);
  }

  // A parent, its children and theirs.
  function tree(sae, root, taken) {
    const nodes = [];
    const edges = [];
    let row = 0;
    const grow = (latent, column, from) => {
      const index = nodes.push({ latent, column, row: 0 }) - 1;
      taken.add(latent);
      const most = column ? 3 : 6;
      const children = column < 2 ? sae.relatives(latent, "child").filter((each) => !taken.has(each.other)).slice(0, most) : [];
      for (const each of children) taken.add(each.other);
      const placed = children.map((each) => {
        const child = grow(each.other, column + 1, index);
        edges.push({ from: index, to: child, share: each.share, absorbs: sae.absorbs(latent, each.other, each.share) });
        return nodes[child].row;
      });
      nodes[index].row = placed.length ? (placed[0] + placed.at(-1)) / 2 : row++;
      return index;
    };
    grow(root, 0, -1);
    return nodes.length > 1 ? graph(sae, nodes, edges, -1, `Family of latent ${root}`) : null;
  }

  Object.assign(found, { around, roots, tree });
})();
