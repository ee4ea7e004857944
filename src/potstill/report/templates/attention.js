// What is drawn again after what, and what a person does on the attention page.

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
    label.setAttribute("fill", inkOf(Number(label.dataset.place)));
  }
};
const setHead = (layer, head) => {
  Object.assign(state, { layer, head });
  showHead();
};
const hold = (token, target = null) => {
  state.held = !(state.held && token === state.token && target === state.target);
  setToken(token, target);
  paintChosen();
};
const letGo = () => {
  state.held = false;
  setToken(null);
  paintChosen();
};

// -- choices ----------------------------------------------------------------------------------------------------------

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
  const other = {
    text: Number(by("pick-text").value), models: by("pick-models").value, hide: by("hide-special").checked,
  };
  const again = Object.keys(other).some((name) => other[name] !== state[name]);
  if (other.text !== state.text) Object.assign(state, { token: null, target: null, held: false });
  Object.assign(state, other, { layer: Number(by("pick-layer").value), head: Number(by("pick-head").value) });
  if (again) showText(); else showHead();
});

// -- tokens, wherever they stand --------------------------------------------------------------------------------------

const placeOf = (event) => {
  const found = event.target.closest("[data-place]");
  return found === null ? null : Number(found.dataset.place);
};
for (const area of [by("tokens"), by("bars"), by("layer-maps")]) {
  area.addEventListener("pointerover", (event) => {
    if (!state.held && placeOf(event) !== null) setToken(placeOf(event));
  });
  area.addEventListener("pointerleave", () => { if (!state.held) setToken(null); });
  area.addEventListener("click", (event) => { if (placeOf(event) !== null) hold(placeOf(event)); });
}
by("tokens").addEventListener("focusin", (event) => {
  if (event.target.matches(":focus-visible")) setToken(placeOf(event));
});
by("tokens").addEventListener("keydown", (event) => {
  const row = [...event.target.closest(".tokens").querySelectorAll(".token")];
  const [at, last] = [row.indexOf(event.target), row.length - 1];
  const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last };
  const to = steps[event.key];
  if (to === undefined) return;
  event.preventDefault();
  row[Math.min(Math.max(to, 0), last)].focus();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") letGo(); });

// -- cells of the map -------------------------------------------------------------------------------------------------

const cellOf = (event) => {
  if (!event.target.matches("canvas")) return null;
  const seen = places();
  const { margin, cell } = geometry(event.target, seen.length);
  const [column, row] = [event.offsetX, event.offsetY].map((at) => Math.floor((at - margin) / cell));
  return row in seen && column in seen ? [seen[row], seen[column]] : null;
};
by("maps").addEventListener("pointermove", (event) => {
  const cell = cellOf(event);
  if (!state.held && cell !== null) setToken(...cell);
});
by("maps").addEventListener("pointerleave", () => { if (!state.held) setToken(null); });
by("maps").addEventListener("click", (event) => {
  const cell = cellOf(event);
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

// -- layers and heads -------------------------------------------------------------------------------------------------

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
  resized = requestAnimationFrame(() => { layLayers(); showHead(); });
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showText);
showText();
