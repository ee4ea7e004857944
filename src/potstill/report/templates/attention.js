// The attention viewer. What it shows lies in the page as JSON; texts only ever become text nodes.
{
  const study = JSON.parse(document.getElementById("attention-data").textContent);
  const MEAN = -1;
  const SHARE = Float64Array.from({ length: 256 }, (_, level) => (level / 255) ** 2);
  const state = { text: 0, layer: study.layer, head: study.head, models: "all", hide: false, token: null, target: null, held: false };

  const by = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const drawn = ["svg", "rect", "text", "line", "g", "title"].includes(tag);
    const node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  const depth = (share, top) => (top > 0 ? Math.sqrt(Math.max(share, 0) / top) : 0);
  const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (token, most = 11) => (token.length > most ? `${token.slice(0, most - 1)}…` : token);

  // -- what is in sight ---------------------------------------------------------------------------------------------

  const text = () => study.texts[state.text];
  const models = () => study.models.filter((model) => state.models === "all" || state.models === model.key);
  const places = () => text().tokens.map((_, place) => place).filter((place) => !(state.hide && text().special[place]));
  const spell = (place) => (text().counts[place] > 1 ? `⋯ ${text().counts[place]} tokens` : text().tokens[place]);
  const quoted = (place) => (text().counts[place] > 1 ? spell(place) : `“${text().tokens[place]}”`);

  const decoded = new Map();
  const bytesOf = (model) => {
    const key = `${state.text} ${model}`;
    if (!decoded.has(key)) {
      if (decoded.size > 3) decoded.clear(); // two models of two texts at most are kept
      decoded.set(key, Uint8Array.from(atob(text().maps[model]), (letter) => letter.charCodeAt(0)));
    }
    return decoded.get(key);
  };

  // The map of one head, or the mean of all, over the places in sight: values row after row, and what was left of rows.
  const readMap = (model, layer, head) => {
    const bytes = bytesOf(model);
    const wide = text().tokens.length;
    const heads = head === MEAN ? [...Array(study.heads).keys()] : [head];
    const seen = places();
    const values = new Float64Array(seen.length ** 2);
    for (const one of heads) {
      const start = (layer * study.heads + one) * wide * wide;
      seen.forEach((row, i) => seen.forEach((column, j) => {
        values[i * seen.length + j] += SHARE[bytes[start + row * wide + column]] / heads.length;
      }));
    }
    return { seen, values, left: state.hide ? renormalise(values, seen.length) : null };
  };
  const renormalise = (values, n) => Array.from({ length: n }, (_, i) => {
    const row = values.subarray(i * n, (i + 1) * n);
    const sum = row.reduce((total, value) => total + value, 0);
    if (sum > 0) row.forEach((value, j) => { row[j] = value / sum; });
    return sum;
  });
  const meanOverRows = (seen, perRow) => {
    const counts = seen.map((place) => text().counts[place]);
    const total = counts.reduce((sum, count) => sum + count, 0);
    return counts.reduce((sum, count, i) => sum + count * perRow(i), 0) / total;
  };
  const received = ({ seen, values }) => seen.map((_, j) => meanOverRows(seen, (i) => values[i * seen.length + j]));
  const given = ({ seen, values }, place) => {
    const i = seen.indexOf(place);
    return Array.from(values.subarray(i * seen.length, (i + 1) * seen.length));
  };
  const chosenMaps = () => models().map((model) => ({ ...model, map: readMap(model.key, state.layer, state.head) }));

  // -- tokens, coloured by what they receive --------------------------------------------------------------------------

  const layTokens = () => {
    by("tokens").replaceChildren(...models().map((model) => make("div", { class: "panel", "data-model": model.key },
      make("h4", {}, model.name),
      make("p", { class: "tokens", role: "group", "aria-label": `Tokens, ${model.name}` }, ...places().map((place) => {
        const kind = text().counts[place] > 1 ? "gap" : text().special[place] ? "special" : text().starts[place] ? "" : "piece";
        return make("button", { type: "button", class: `token ${kind}`, "data-place": place, tabindex: "-1" }, spell(place));
      })),
      make("p", { class: "readout", "aria-live": "polite" }))));
  };
  const paintTokens = (shown) => {
    const rows = shown.map(({ map }) => (state.token === null ? received(map) : given(map, state.token)));
    const top = largest(rows.flat());
    shown.forEach(({ key, map }, number) => {
      const panel = by("tokens").querySelector(`[data-model="${key}"]`);
      panel.querySelectorAll(".token").forEach((button, j) => {
        const place = map.seen[j];
        const deep = depth(rows[number][j], top);
        button.style.setProperty("--depth", (0.85 * deep).toFixed(3));
        button.classList.toggle("deep", deep > 0.7);
        button.classList.toggle("chosen", place === state.token);
        button.setAttribute("aria-pressed", String(state.held && place === state.token));
        button.tabIndex = place === (state.token ?? map.seen[0]) ? 0 : -1;
      });
      panel.querySelector(".readout").textContent = readout(map, rows[number]);
    });
  };
  const readout = (map, row) => {
    const { seen, left } = map;
    if (!seen.length) return "No token is left.";
    const ranked = seen.map((place, j) => [place, row[j]]).sort((a, b) => b[1] - a[1]).slice(0, 5);
    const most = ranked.map(([place, share]) => `${quoted(place)} ${percent(share)}`).join(", ");
    const i = seen.indexOf(state.token);
    const told = state.token === null ? `Most is received by ${most}.` : `${quoted(state.token)} attends to ${most}.`;
    const pair = state.target === null ? "" : ` To ${quoted(state.target)} it gives ${percent(row[seen.indexOf(state.target)])}.`;
    if (left === null) return told + pair;
    const share = state.token === null ? meanOverRows(seen, (row) => left[row]) : left[i];
    return `${told}${pair} [CLS] and [SEP], hidden here, take ${percent(1 - share)}; what is left is scaled to 100%.`;
  };

  // -- the map -----------------------------------------------------------------------------------------------------------

  const layMaps = () => {
    by("maps").replaceChildren(...models().map((model) => make("div", { class: "panel", "data-model": model.key },
      make("h4", {}, model.name),
      make("canvas", { tabindex: "0", role: "img", "aria-label": `Attention map, ${model.name}; arrow keys go from cell to cell` }))));
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
    draw.strokeStyle = colour("--warn");
    draw.lineWidth = 1.5;
    if (row >= 0) draw.strokeRect(margin, margin + row * cell, seen.length * cell, cell);
    if (row >= 0 && column >= 0) draw.strokeRect(margin + column * cell - 1, margin + row * cell - 1, cell + 2, cell + 2);
  };

  // -- bars, and every layer: drawn over the same places ------------------------------------------------------------------

  const LEFT = 46, LABELS = 74;
  const slotOf = (seen) => Math.max(16, Math.min(40, Math.floor((by("bars").clientWidth - LEFT - 10) / seen.length)));
  const labels = (seen, y) => seen.map((place, j) => make("text", {
    x: 0, y: 0, transform: `translate(${LEFT + (j + 0.5) * slotOf(seen) + 3} ${y}) rotate(-90)`, "text-anchor": "end",
    fill: place === state.token ? "var(--warn)" : "currentColor", "data-place": place,
  }, short(spell(place), 13)));
  const chart = (seen, height, title, ...children) => make("svg", {
    width: LEFT + seen.length * slotOf(seen) + 8, height, role: "img", "aria-label": title,
  }, ...children);
  const note = (x, y, words, attributes = {}) => make("text", { x, y, "text-anchor": "end", fill: "var(--soft)", ...attributes }, words);

  const layBars = (shown) => {
    const seen = places();
    const bars = shown.map(({ map }) => received(map));
    const top = largest(bars.flat());
    const high = 120;
    const slot = slotOf(seen);
    const width = (slot - 4) / shown.length;
    const drawn = seen.map((place, j) => make("g", { "data-place": place },
      make("rect", { x: LEFT + j * slot, y: 0, width: slot, height: high, fill: "transparent" }),
      ...shown.map(({ key }, number) => {
        const height = top > 0 ? (high - 12) * bars[number][j] / top : 0;
        return make("rect", { x: LEFT + j * slot + 2 + number * width, y: high - height, width, height, class: `bar ${rankOf(key)}` });
      }),
      make("title", {}, `${spell(place)}: ${shown.map(({ name }, number) => `${percent(bars[number][j])} ${name}`).join(", ")}`)));
    const added = text().attribution;
    const axis = [note(LEFT - 6, 18, percent(top)), make("line", { x1: LEFT, x2: LEFT + seen.length * slot, y1: high, y2: high, stroke: "currentColor", "stroke-width": 0.6 })];
    const lower = added ? addedBars(added, seen, high + LABELS) : [];
    const height = high + LABELS + (added ? 100 : 0);
    by("bars").replaceChildren(chart(seen, height, "Attention received by each token", ...drawn, ...axis, ...labels(seen, high + 6), ...lower));
    const keys = shown.map(({ key, name }) => swatch("var(--ink)", `received, ${name}`, rankOf(key)));
    if (added) keys.push(swatch("var(--accent)", `speaks for ${added.target}`), swatch("var(--warn)", "speaks against"));
    by("bar-keys").replaceChildren(...keys);
    by("attribution").textContent = added ? added.sentence : "";
  };
  const rankOf = (key) => (key === study.models[study.models.length - 1].key ? "last" : "first");
  const swatch = (fill, words, rank = "") => make("span", {}, make("i", { style: `background:${fill}`, class: rank }), words);
  const addedBars = ({ values }, seen, from) => {
    const top = largest(seen.map((place) => Math.abs(values[place])));
    const middle = from + 48;
    const slot = slotOf(seen);
    const drawn = seen.map((place, j) => {
      const height = top > 0 ? 42 * Math.abs(values[place]) / top : 0;
      const up = values[place] >= 0;
      return make("g", { "data-place": place },
        make("rect", { x: LEFT + j * slot, y: from, width: slot, height: 96, fill: "transparent" }),
        make("rect", { x: LEFT + j * slot + 2, y: up ? middle - height : middle, width: slot - 4, height, fill: up ? "var(--accent)" : "var(--warn)" }),
        make("title", {}, `${spell(place)}: ${values[place].toFixed(3)}`));
    });
    const axis = make("line", { x1: LEFT, x2: LEFT + seen.length * slot, y1: middle, y2: middle, stroke: "currentColor", "stroke-width": 0.6 });
    return [...drawn, axis, note(LEFT - 6, from + 10, `+${top.toFixed(2)}`), note(LEFT - 6, from + 94, `−${top.toFixed(2)}`)];
  };

  const layLayers = () => {
    const layers = [...Array(study.layers).keys()];
    const maps = models().map((model) => ({ ...model, rows: layers.map((layer) => received(readMap(model.key, layer, MEAN))) }));
    const top = largest(maps.flatMap(({ rows }) => rows.flat()));
    const seen = places();
    const slot = slotOf(seen);
    by("layer-maps").replaceChildren(...maps.map(({ name, rows }) => make("div", { class: "panel" },
      make("h4", {}, name),
      make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Attention received by layer, ${name}` },
        chart(seen, 18 * study.layers + LABELS, `Attention received in every layer, ${name}`,
          ...layers.map((layer) => make("g", { "data-layer": layer },
            note(LEFT - 6, 18 * layer + 12, `layer ${layer}`),
            ...rows[layer].map((share, j) => make("rect", {
              x: LEFT + j * slot, y: 18 * layer, width: slot - 1, height: 17, fill: "var(--accent)", "fill-opacity": Math.max(0.03, depth(share, top)).toFixed(3),
            }, make("title", {}, `layer ${layer}, ${spell(seen[j])}: ${percent(share)}`))))),
          ...labels(seen, 18 * study.layers + 4))))), make("p", { class: "soft" }, `Darkest: ${percent(top)}.`));
  };

  const markLayers = () => {
    for (const row of document.querySelectorAll("g[data-layer]")) {
      const chosen = Number(row.dataset.layer) === state.layer;
      row.querySelector("text").setAttribute("fill", chosen ? "var(--warn)" : "var(--soft)");
    }
  };

  // -- all heads ---------------------------------------------------------------------------------------------------------------

  const layHeads = () => {
    const rgb = colour("--accent").match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16));
    by("head-maps").replaceChildren(...models().map((model) => {
      const grid = make("div", { class: "thumbs", style: `grid-template-columns: 1.4rem repeat(${study.heads}, minmax(0, 1fr))` }, make("span"));
      for (let head = 0; head < study.heads; head += 1) grid.append(make("span", {}, String(head)));
      for (let layer = 0; layer < study.layers; layer += 1) {
        grid.append(make("span", {}, String(layer)));
        for (let head = 0; head < study.heads; head += 1) grid.append(thumb(model.key, layer, head, rgb));
      }
      return make("div", { class: "panel" }, make("h4", {}, model.name), grid);
    }));
  };
  const thumb = (model, layer, head, rgb) => {
    const { seen, values } = readMap(model, layer, head);
    const canvas = make("canvas", { width: seen.length, height: seen.length });
    const draw = canvas.getContext("2d");
    const image = draw.createImageData(seen.length, seen.length);
    values.forEach((share, at) => image.data.set([...rgb, 255 * Math.sqrt(share)], 4 * at));
    draw.putImageData(image, 0, 0);
    return make("button", {
      type: "button", class: seen.length < 48 ? "thumb crisp" : "thumb", "data-layer": layer, "data-head": head,
      "aria-label": `layer ${layer}, head ${head}`, title: `layer ${layer}, head ${head}`,
    }, canvas);
  };
  const markHeads = () => {
    for (const button of document.querySelectorAll(".thumb")) {
      const chosen = Number(button.dataset.layer) === state.layer && Number(button.dataset.head) === state.head;
      const first = state.head === MEAN && Number(button.dataset.layer) === state.layer && button.dataset.head === "0";
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen || first ? 0 : -1;
    }
  };

  // -- what is drawn again after what ------------------------------------------------------------------------------------------

  const paintChosen = () => {
    const shown = chosenMaps();
    paintTokens(shown);
    const top = largest(shown.map(({ map }) => largest(map.values)));
    shown.forEach(({ key, map }) => paintMap(by("maps").querySelector(`[data-model="${key}"] canvas`), map, top));
    return shown;
  };
  const showHead = () => {
    by("pick-layer").value = String(state.layer);
    by("pick-head").value = String(state.head);
    layBars(paintChosen());
    markLayers();
    markHeads();
  };
  const showText = () => {
    if (state.token !== null && !places().includes(state.token)) Object.assign(state, { token: null, held: false });
    if (!places().includes(state.target)) state.target = null;
    by("text-notes").replaceChildren(...text().notes.map((words) => make("li", {}, words)));
    layTokens();
    layMaps();
    layLayers();
    layHeads();
    showHead();
  };
  const setToken = (token, target = null) => {
    if (token === state.token && target === state.target) return;
    Object.assign(state, { token, target });
    paintChosen();
    for (const label of document.querySelectorAll("svg text[data-place]")) {
      label.setAttribute("fill", Number(label.dataset.place) === state.token ? "var(--warn)" : "currentColor");
    }
  };
  const setHead = (layer, head) => {
    Object.assign(state, { layer, head });
    showHead();
  };
  const hold = (token, target = null) => {
    state.held = !(state.held && token === state.token);
    setToken(token, target);
    paintChosen();
  };
  const letGo = () => {
    state.held = false;
    setToken(null);
    paintChosen();
  };

  // -- what a person does --------------------------------------------------------------------------------------------------------

  const fill = (id, entries, value) => {
    by(id).replaceChildren(...entries.map(([key, words]) => make("option", { value: key }, words)));
    by(id).value = String(value);
  };
  const numbered = (n, word) => Array.from({ length: n }, (_, i) => [i, `${word} ${i}`]);
  fill("pick-text", study.texts.map(({ title }, i) => [i, title]), 0);
  fill("pick-layer", numbered(study.layers, "layer"), state.layer);
  fill("pick-head", [[MEAN, "mean of heads"], ...numbered(study.heads, "head")], state.head);
  fill("pick-models", [["all", "both"], ...study.models.map(({ key, name }) => [key, name])], "all");
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  by("controls").addEventListener("change", () => {
    const other = { text: Number(by("pick-text").value), models: by("pick-models").value, hide: by("hide-special").checked };
    const again = Object.keys(other).some((name) => other[name] !== state[name]);
    if (other.text !== state.text) Object.assign(state, { token: null, target: null, held: false });
    Object.assign(state, other, { layer: Number(by("pick-layer").value), head: Number(by("pick-head").value) });
    if (again) showText(); else showHead();
  });

  const placeOf = (event) => {
    const found = event.target.closest("[data-place]");
    return found === null ? null : Number(found.dataset.place);
  };
  for (const area of [by("tokens"), by("bars"), by("layer-maps")]) {
    area.addEventListener("pointerover", (event) => { if (!state.held && placeOf(event) !== null) setToken(placeOf(event)); });
    area.addEventListener("pointerleave", () => { if (!state.held) setToken(null); });
    area.addEventListener("click", (event) => { if (placeOf(event) !== null) hold(placeOf(event)); });
  }
  by("tokens").addEventListener("focusin", (event) => { if (event.target.matches(":focus-visible")) setToken(placeOf(event)); });
  by("tokens").addEventListener("keydown", (event) => {
    const row = [...event.target.closest(".tokens").querySelectorAll(".token")];
    const at = row.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: row.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    row[Math.min(Math.max(to, 0), row.length - 1)].focus();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") letGo(); });

  const cellOf = (event) => {
    const seen = places();
    const { margin, cell } = geometry(event.target, seen.length);
    const [column, row] = [event.offsetX, event.offsetY].map((at) => Math.floor((at - margin) / cell));
    return row in seen && column in seen ? [seen[row], seen[column]] : null;
  };
  by("maps").addEventListener("pointermove", (event) => {
    const cell = event.target.matches("canvas") ? cellOf(event) : null;
    if (!state.held && cell !== null) setToken(...cell);
  });
  by("maps").addEventListener("pointerleave", () => { if (!state.held) setToken(null); });
  by("maps").addEventListener("click", (event) => {
    const cell = event.target.matches("canvas") ? cellOf(event) : null;
    if (cell !== null) hold(...cell);
  });
  by("maps").addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const seen = places();
    const moved = [state.token, state.target].map((place, axis) => {
      const at = place === null ? 0 : seen.indexOf(place) + step[axis];
      return seen[Math.min(Math.max(at, 0), seen.length - 1)];
    });
    setToken(...moved);
  });

  by("layer-maps").addEventListener("click", (event) => {
    const row = event.target.closest("[data-layer]");
    if (row !== null) setHead(Number(row.dataset.layer), state.head);
  });
  by("head-maps").addEventListener("click", (event) => {
    const button = event.target.closest(".thumb");
    if (button !== null) setHead(Number(button.dataset.layer), Number(button.dataset.head));
  });
  by("head-maps").addEventListener("keydown", (event) => {
    const step = { ArrowUp: -study.heads, ArrowDown: study.heads, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const buttons = [...event.target.closest(".thumbs").querySelectorAll(".thumb")];
    const to = buttons[buttons.indexOf(event.target) + step];
    if (to !== undefined) {
      setHead(Number(to.dataset.layer), Number(to.dataset.head));
      to.focus();
    }
  });
  let resized = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(resized);
    resized = requestAnimationFrame(paintChosen);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showText);
  showText();
}
