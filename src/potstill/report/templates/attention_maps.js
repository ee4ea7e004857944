// What the attention page has to show, and how its maps are read. Texts only ever become text nodes.

const study = JSON.parse(document.getElementById("attention-data").textContent);
const MEAN = -1;
const SHARE = Float64Array.from({ length: 256 }, (_, level) => (level / 255) ** 2);
const state = {
  text: 0, models: "all", layer: study.layer, head: study.head, hide: false,
  token: null, target: null, held: false, // whose row is shown, which cell of it, and whether that stays
};

const text = () => study.texts[state.text];
const models = () => study.models.filter((model) => state.models === "all" || state.models === model.key);
const places = () => text().tokens.map((_, place) => place).filter((place) => !(state.hide && text().special[place]));
const spell = (place) => (text().counts[place] > 1 ? `⋯ ${text().counts[place]} tokens` : text().tokens[place]);
const quoted = (place) => (text().counts[place] > 1 ? spell(place) : `“${text().tokens[place]}”`);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

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

// A place counts as often as tokens stand there.
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
