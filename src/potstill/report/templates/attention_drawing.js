// What the attention page draws, from what attention_maps.js reads: tokens, maps, bars, every layer, all heads.

const SVG = ["svg", "rect", "text", "line", "g", "title"];
const by = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const drawn = SVG.includes(tag);
  const node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const panel = ({ key, name }, ...children) =>
  make("div", { class: "panel", "data-model": key }, make("h4", {}, name), ...children);
const depth = (share, top) => (top > 0 ? Math.sqrt(Math.max(share, 0) / top) : 0);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (token, most = 11) => (token.length > most ? `${token.slice(0, most - 1)}…` : token);

// -- tokens, coloured by what they receive ----------------------------------------------------------------------------

const kindOf = (place) => {
  if (text().counts[place] > 1) return "token gap";
  if (text().special[place]) return "token special";
  return text().starts[place] ? "token" : "token piece";
};
const tokenButton = (place) => make("button", {
  type: "button", class: kindOf(place), "data-place": place, tabindex: "-1",
}, spell(place));
const layTokens = () => {
  by("tokens").replaceChildren(...models().map((model) => panel(
    model,
    make("p", { class: "tokens", role: "group", "aria-label": `Tokens, ${model.name}` }, ...places().map(tokenButton)),
    make("p", { class: "readout", "aria-live": "polite" }),
  )));
};
const paintTokens = (shown) => {
  const rows = shown.map(({ map }) => (state.token === null ? received(map) : given(map, state.token)));
  const top = largest(rows.flat());
  shown.forEach(({ key, map }, number) => {
    const laid = by("tokens").querySelector(`[data-model="${key}"]`);
    laid.querySelectorAll(".token").forEach((button, j) => {
      const place = map.seen[j];
      const deep = depth(rows[number][j], top);
      button.style.setProperty("--depth", (0.85 * deep).toFixed(3));
      button.classList.toggle("deep", deep > 0.7);
      button.classList.toggle("chosen", place === state.token);
      button.setAttribute("aria-pressed", String(state.held && place === state.token));
      button.tabIndex = place === (state.token ?? map.seen[0]) ? 0 : -1;
    });
    laid.querySelector(".readout").textContent = readout(map, rows[number]);
  });
};
const readout = ({ seen, left }, row) => {
  if (!seen.length) return "No token is left.";
  const ranked = seen.map((place, j) => [place, row[j]]).sort((a, b) => b[1] - a[1]).slice(0, 5);
  const most = ranked.map(([place, share]) => `${quoted(place)} ${percent(share)}`).join(", ");
  const told = [state.token === null ? `Most is received by ${most}.` : `${quoted(state.token)} attends to ${most}.`];
  if (state.target !== null) {
    told.push(`To ${quoted(state.target)} it gives ${percent(row[seen.indexOf(state.target)])}.`);
  }
  if (left !== null) {
    const share = state.token === null ? meanOverRows(seen, (i) => left[i]) : left[seen.indexOf(state.token)];
    told.push(`[CLS] and [SEP], hidden here, take ${percent(1 - share)}; what is left is scaled to 100%.`);
  }
  return told.join(" ");
};

// -- the map ----------------------------------------------------------------------------------------------------------

const layMaps = () => {
  by("maps").replaceChildren(...models().map((model) => panel(model, make("canvas", {
    tabindex: "0", role: "img", "aria-label": `Attention map, ${model.name}; arrow keys go from cell to cell`,
  }))));
};
const geometry = (canvas, n) => {
  const width = canvas.parentElement.clientWidth;
  const margin = Math.round(Math.min(76, 0.2 * width));
  const ratio = window.devicePixelRatio || 1;
  const cell = Math.max(1, Math.floor(Math.min(36, (width - margin) / n) * ratio)) / ratio;
  return { width, margin, ratio, cell, side: margin + cell * n };
};
const paintMap = (canvas, { seen, values }, top) => {
  const n = seen.length;
  const { width, margin, ratio, cell, side } = geometry(canvas, n);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(side * ratio);
  canvas.style.height = `${side}px`;
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.fillStyle = colour("--accent");
  values.forEach((share, at) => {
    draw.globalAlpha = depth(share, top);
    draw.fillRect(margin + (at % n) * cell, margin + Math.floor(at / n) * cell, cell, cell);
  });
  draw.globalAlpha = 1;
  labelMap(draw, seen, margin, cell);
  markMap(draw, seen, margin, cell);
};
const labelMap = (draw, seen, margin, cell) => {
  const step = Math.ceil(9 / cell);
  draw.font = `${Math.min(11, Math.max(8, cell))}px ${getComputedStyle(document.body).fontFamily}`;
  draw.textBaseline = "middle";
  seen.forEach((place, i) => {
    if (i % step && place !== state.token && place !== state.target) return;
    const middle = margin + (i + 0.5) * cell;
    draw.fillStyle = colour(place === state.token ? "--warn" : "--ink");
    draw.textAlign = "right";
    draw.fillText(short(spell(place)), margin - 4, middle, margin - 4);
    draw.save();
    draw.translate(middle, margin - 4);
    draw.rotate(-Math.PI / 2);
    draw.textAlign = "left";
    draw.fillStyle = colour(place === state.target ? "--warn" : "--ink");
    draw.fillText(short(spell(place)), 0, 0, margin - 4);
    draw.restore();
  });
};
const markMap = (draw, seen, margin, cell) => {
  const [row, column] = [seen.indexOf(state.token), seen.indexOf(state.target)];
  const [top, left] = [margin + row * cell, margin + column * cell];
  draw.strokeStyle = colour("--warn");
  draw.lineWidth = 1.5;
  if (row >= 0) draw.strokeRect(margin, top, seen.length * cell, cell);
  if (row >= 0 && column >= 0) draw.strokeRect(left - 1, top - 1, cell + 2, cell + 2);
};

// -- bars, and every layer: drawn over the same places ----------------------------------------------------------------

const LEFT = 46, LABELS = 74, RECEIVED = 120, ADDED = 100, LAYER = 18;
const slotOf = (seen) => Math.max(16, Math.min(40, Math.floor((by("bars").clientWidth - LEFT - 10) / seen.length)));
const box = (x, y, width, height, attributes, ...children) =>
  make("rect", { x, y, width, height, ...attributes }, ...children);
const note = (x, y, words) => make("text", { x, y, "text-anchor": "end", fill: "var(--soft)" }, words);
const axis = (seen, y) => {
  const right = LEFT + seen.length * slotOf(seen);
  return make("line", { x1: LEFT, x2: right, y1: y, y2: y, stroke: "currentColor", "stroke-width": 0.6 });
};
const inkOf = (place) => (place === state.token ? "var(--warn)" : "currentColor");
const labels = (seen, y) => seen.map((place, j) => make("text", {
  transform: `translate(${LEFT + (j + 0.5) * slotOf(seen) + 3} ${y}) rotate(-90)`, "text-anchor": "end",
  fill: inkOf(place), "data-place": place,
}, short(spell(place), 13)));
const chart = (seen, height, title, ...children) => make("svg", {
  width: LEFT + seen.length * slotOf(seen) + 8, height, role: "img", "aria-label": title,
}, ...children);

const layBars = (shown) => {
  const seen = places();
  const added = text().attribution;
  by("bars").replaceChildren(chart(
    seen, RECEIVED + LABELS + (added ? ADDED : 0), "Attention received by each token",
    ...receivedBars(shown, seen),
    ...labels(seen, RECEIVED + 6),
    ...(added ? addedBars(added, seen, RECEIVED + LABELS) : []),
  ));
  const keys = shown.map(({ key, name }) => swatch("var(--ink)", `received, ${name}`, rankOf(key)));
  if (added) keys.push(swatch("var(--accent)", `speaks for ${added.target}`), swatch("var(--warn)", "speaks against"));
  by("bar-keys").replaceChildren(...keys);
  by("attribution").textContent = added ? added.sentence : "";
};
const receivedBars = (shown, seen) => {
  const bars = shown.map(({ map }) => received(map));
  const top = largest(bars.flat());
  const slot = slotOf(seen);
  const width = (slot - 4) / shown.length;
  const groups = seen.map((place, j) => {
    const told = shown.map(({ name }, number) => `${percent(bars[number][j])} ${name}`).join(", ");
    const columns = shown.map(({ key }, number) => {
      const height = top > 0 ? (RECEIVED - 12) * bars[number][j] / top : 0;
      const x = LEFT + j * slot + 2 + number * width;
      return box(x, RECEIVED - height, width, height, { class: `bar ${rankOf(key)}` });
    });
    const room = box(LEFT + j * slot, 0, slot, RECEIVED, { fill: "transparent" });
    return make("g", { "data-place": place }, room, ...columns, make("title", {}, `${spell(place)}: ${told}`));
  });
  return [...groups, note(LEFT - 6, 18, percent(top)), axis(seen, RECEIVED)];
};
const rankOf = (key) => (key === study.models[study.models.length - 1].key ? "last" : "first");
const swatch = (fill, words, rank = "") =>
  make("span", {}, make("i", { style: `background:${fill}`, class: rank }), words);
const addedBars = ({ values }, seen, from) => {
  const top = largest(seen.map((place) => Math.abs(values[place])));
  const middle = from + ADDED / 2 - 2;
  const slot = slotOf(seen);
  const groups = seen.map((place, j) => {
    const height = top > 0 ? 42 * Math.abs(values[place]) / top : 0;
    const speaksFor = values[place] >= 0;
    const [y, fill] = speaksFor ? [middle - height, "var(--accent)"] : [middle, "var(--warn)"];
    return make("g", { "data-place": place },
      box(LEFT + j * slot, from, slot, ADDED - 4, { fill: "transparent" }),
      box(LEFT + j * slot + 2, y, slot - 4, height, { fill }),
      make("title", {}, `${spell(place)}: ${values[place].toFixed(3)}`));
  });
  const ends = [note(LEFT - 6, from + 10, `+${top.toFixed(2)}`), note(LEFT - 6, from + 94, `−${top.toFixed(2)}`)];
  return [...groups, axis(seen, middle), ...ends];
};

const layLayers = () => {
  const layers = [...Array(study.layers).keys()];
  const seen = places();
  const drawn = models().map((model) => {
    const rows = layers.map((layer) => received(readMap(model.key, layer, MEAN)));
    return { model, rows };
  });
  const top = largest(drawn.flatMap(({ rows }) => rows.flat()));
  by("layer-maps").replaceChildren(...drawn.map(({ model, rows }) => panel(
    model,
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Received by layer, ${model.name}` },
      chart(seen, LAYER * study.layers + LABELS, `Attention received in every layer, ${model.name}`,
        ...layers.map((layer) => layerRow(layer, rows[layer], seen, top)),
        ...labels(seen, LAYER * study.layers + 4))),
  )), make("p", { class: "soft" }, `Darkest: ${percent(top)}.`));
};
const layerRow = (layer, row, seen, top) => make("g", { "data-layer": layer },
  note(LEFT - 6, LAYER * layer + 12, `layer ${layer}`),
  ...row.map((share, j) => box(LEFT + j * slotOf(seen), LAYER * layer, slotOf(seen) - 1, LAYER - 1, {
    fill: "var(--accent)", "fill-opacity": Math.max(0.03, depth(share, top)).toFixed(3),
  }, make("title", {}, `layer ${layer}, ${spell(seen[j])}: ${percent(share)}`))));

const markLayers = () => {
  for (const row of document.querySelectorAll("g[data-layer]")) {
    const chosen = Number(row.dataset.layer) === state.layer;
    row.querySelector("text").setAttribute("fill", chosen ? "var(--warn)" : "var(--soft)");
  }
};

// -- all heads --------------------------------------------------------------------------------------------------------

const layHeads = () => {
  const rgb = colour("--accent").match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16));
  const [layers, heads] = [study.layers, study.heads].map((n) => [...Array(n).keys()]);
  const columns = `grid-template-columns: 1.4rem repeat(${study.heads}, minmax(0, 1fr))`;
  const name = (number) => make("span", {}, String(number));
  by("head-maps").replaceChildren(...models().map((model) => panel(model,
    make("div", { class: "thumbs", style: columns }, make("span"), ...heads.map(name),
      ...layers.flatMap((layer) => [name(layer), ...heads.map((head) => thumb(model.key, layer, head, rgb))])))));
};
const thumb = (model, layer, head, rgb) => {
  const { seen, values } = readMap(model, layer, head);
  const canvas = make("canvas", { width: seen.length, height: seen.length });
  const draw = canvas.getContext("2d");
  if (seen.length) {
    const image = draw.createImageData(seen.length, seen.length);
    values.forEach((share, at) => image.data.set([...rgb, 255 * Math.sqrt(share)], 4 * at));
    draw.putImageData(image, 0, 0);
  }
  const title = `layer ${layer}, head ${head}`;
  return make("button", {
    type: "button", class: seen.length < 48 ? "thumb crisp" : "thumb", "data-layer": layer, "data-head": head,
    "aria-label": title, title,
  }, canvas);
};
const markHeads = () => {
  for (const button of document.querySelectorAll(".thumb")) {
    const inLayer = Number(button.dataset.layer) === state.layer;
    const chosen = inLayer && Number(button.dataset.head) === state.head;
    const first = inLayer && state.head === MEAN && button.dataset.head === "0";
    button.setAttribute("aria-pressed", String(chosen));
    button.tabIndex = chosen || first ? 0 : -1;
  }
};
