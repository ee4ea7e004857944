// A file of rows in, the same rows with labels and probabilities out.

import { givenWords } from "./bars.js";
import { byId, chosen, chooseBundles, make, say } from "./elements.js";
import { classifyAll, complaint, cutBatches } from "./file_batches.js";
import { guessSeparator, readRows, writeRows } from "./separated.js";

const PREVIEW = 100;
const MOST_BYTES = 50_000_000;

let table = null; // {name, names, rows, separator}
let done = null; // {bundles, answers: bundle -> row -> {words, top, probabilities, tokens, truncated, note}}
let stopping = null;

const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

function open(text, name) {
  const separator = guessSeparator(text, name);
  const rows = readRows(text, separator);
  say(byId("file-problem"), rows.length ? "" : `${name} holds no row.`);
  if (!rows.length) return;
  table = { name, rows, separator, given: rows };
  byId("has-names").checked = separator !== null;
  byId("has-names").parentElement.hidden = separator === null;
  byId("file-choices").hidden = false;
  nameColumns();
}

function nameColumns() {
  const named = byId("has-names").checked;
  const width = table.given.reduce((most, row) => Math.max(most, row.length), 0);
  const heads = named ? table.given[0] : [];
  table.names = Array.from({ length: width }, (_, i) => heads[i] || (table.separator === null ? "text" : `column ${i + 1}`));
  table.rows = named ? table.given.slice(1) : table.given;
  const options = table.names.map((name, i) => make("option", { value: i }, name));
  byId("text-column").replaceChildren(...options);
  byId("pair-column").replaceChildren(make("option", { value: "" }, "none"), ...options.map((o) => o.cloneNode(true)));
  byId("text-column").value = String(likelyText());
  for (const id of ["text-column", "pair-column"]) byId(id).closest("label").hidden = width < 2;
  say(byId("file-says"), `${table.name}: ${count(table.rows.length, "row")}, ${count(width, "column")}`);
  forget();
}

// The column of the longest fields is the likeliest to hold the texts.
function likelyText() {
  const sample = table.rows.slice(0, 200);
  const lengths = table.names.map((_, i) => sample.reduce((sum, row) => sum + (row[i] ?? "").length, 0));
  return lengths.indexOf(Math.max(...lengths));
}

function forget() {
  done = null;
  byId("rows").hidden = true;
  byId("save").disabled = true;
  say(byId("file-verdict"), "");
  say(byId("file-progress"), "");
  byId("progress").hidden = true;
}

function inputsOf() {
  const first = Number(byId("text-column").value);
  const second = byId("pair-column").value;
  return table.rows.map((row) => (second === "" ? row[first] ?? "" : [row[first] ?? "", row[Number(second)] ?? ""]));
}

function answerOf(answer, result) {
  const words = givenWords(answer, result);
  const top = result.labels.length ? Math.max(...result.labels.map((label) => result.probabilities[label])) : null;
  return { words, top, probabilities: result.probabilities, value: result.value, tokens: result.tokens, truncated: result.truncated };
}

async function run(limits) {
  const bundles = chosen(byId("file-bundles"));
  if (!bundles.length) throw new Error("Choose a bundle.");
  const inputs = inputsOf();
  const answers = Object.fromEntries(bundles.map((name) => [name, new Array(inputs.length)]));
  const wanted = [];
  inputs.forEach((input, number) => {
    const note = complaint(input, limits);
    if (note) for (const name of bundles) answers[name][number] = { words: "", top: null, probabilities: {}, note };
    else wanted.push(number);
  });
  done = { bundles, answers, rates: {}, inputs };
  stopping = new AbortController();
  const meter = startMeter(wanted.length * bundles.length);
  try {
    for (const name of bundles) {
      const began = performance.now();
      const take = (numbers, answer) => {
        answer.results.forEach((result, i) => (answers[name][numbers[i]] = answerOf(answer, result)));
        meter(numbers.length, name);
      };
      const fail = (number, note) => {
        answers[name][number] = { words: "", top: null, probabilities: {}, note };
        meter(1, name);
      };
      await classifyAll(name, cutBatches(wanted, inputs, limits), inputs, stopping.signal, take, fail);
      done.rates[name] = wanted.length / ((performance.now() - began) / 1000);
    }
  } finally {
    stopping.abort();
    stopping = null;
    showRows();
  }
  say(byId("file-verdict"), verdict());
}

function startMeter(total) {
  const bar = byId("progress");
  const began = performance.now();
  let finished = 0;
  bar.hidden = false;
  bar.value = 0;
  return (more, name) => {
    finished += more;
    bar.value = total ? finished / total : 1;
    const seconds = (performance.now() - began) / 1000;
    const left = ((total - finished) * seconds) / finished;
    const rest = finished < total ? `, ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left` : "";
    const rate = Math.round(finished / seconds).toLocaleString("en");
    const of = done.bundles.length > 1 ? `${name}: ` : "";
    say(byId("file-progress"), `${of}${finished.toLocaleString("en")} of ${count(total, "text")}, ${rate} a second${rest}`);
  };
}

const classifiedBy = (name) => done.answers[name].filter((answer) => answer && !answer.note).length;
const differs = (number) => new Set(done.bundles.map((name) => done.answers[name][number]?.words)).size > 1;

function verdict() {
  const skipped = done.answers[done.bundles[0]].filter((answer) => answer?.note).length;
  const left = skipped ? ` ${count(skipped, "row")} could not be classified; the table says why.` : "";
  const n = classifiedBy(done.bundles[0]);
  if (done.bundles.length < 2) return `${count(n, "row")} classified.${left}`;
  const apart = table.rows.filter((_, number) => differs(number)).length;
  const rates = done.bundles.map((name) => `${name} ${Math.round(done.rates[name]).toLocaleString("en")}`).join(", ");
  const same = n ? ((100 * (n - apart)) / n).toFixed(1) : "0";
  return `The same answer on ${same}% of ${count(n, "row")}. Texts a second: ${rates}.${left}`;
}

const number = (value) => (value === null || value === undefined ? "" : value.toFixed(3));

function showRows() {
  const heads = ["#", ...(byId("pair-column").value === "" ? ["text"] : ["text", "second text"])];
  const head = make("tr", {}, ...heads.map((word) => make("th", { scope: "col" }, word)));
  for (const name of done.bundles) {
    head.append(make("th", { scope: "col" }, name), make("th", { scope: "col" }, "probability"));
  }
  const body = make("tbody");
  for (let row = 0; row < Math.min(PREVIEW, table.rows.length); row += 1) body.append(lineOf(row));
  const parts = [make("table", {}, make("thead", {}, head), body)];
  if (table.rows.length > PREVIEW) parts.push(make("p", { class: "soft" }, `The first ${PREVIEW} rows; the csv holds all.`));
  byId("rows").replaceChildren(...parts);
  byId("rows").hidden = false;
  byId("save").disabled = false;
}

function lineOf(row) {
  const input = done.inputs[row];
  const parts = typeof input === "string" ? [input] : input;
  const line = make("tr", { class: done.bundles.length > 1 && differs(row) ? "differs" : undefined });
  line.append(make("td", { class: "number" }, String(row + 1)));
  for (const part of parts) line.append(make("td", { class: "text" }, make("span", { dir: "auto" }, part.slice(0, 600))));
  for (const name of done.bundles) {
    const answer = done.answers[name][row];
    line.append(make("td", {}, answer ? answer.note ?? answer.words : "not yet"), make("td", { class: "number" }, number(answer?.top)));
  }
  return line;
}

function save() {
  const several = done.bundles.length > 1;
  const columns = done.bundles.flatMap((name) => {
    const labels = [...new Set(done.answers[name].flatMap((answer) => Object.keys(answer?.probabilities ?? {})))];
    const head = (word) => (several ? `${name} ${word}` : word);
    const isValue = done.answers[name].some((answer) => typeof answer?.value === "number");
    return [
      isValue ? [head("value"), (row) => done.answers[name][row]?.value] : [head("label"), (row) => done.answers[name][row]?.words],
      ...labels.map((label) => [head(`p(${label})`), (row) => done.answers[name][row]?.probabilities[label]]),
      [head("tokens"), (row) => done.answers[name][row]?.tokens],
      [head("note"), (row) => noteOf(done.answers[name][row])],
    ];
  });
  const lines = table.rows.map((row, i) => [...table.names.map((_, c) => row[c] ?? ""), ...columns.map(([, value]) => value(i))]);
  const text = writeRows([[...table.names, ...columns.map(([name]) => name)], ...lines]);
  const link = make("a", { download: `${table.name.replace(/\.\w+$/, "")}-classified.csv` });
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const noteOf = (answer) => (answer ? answer.note ?? (answer.truncated ? "cut" : "") : "not classified");

async function openFile(file) {
  say(byId("file-problem"), "");
  if (file.size > MOST_BYTES) {
    say(byId("file-problem"), "This file is too large for a page; use potstill predict.");
    return;
  }
  try {
    open(new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()), file.name);
  } catch (failure) {
    say(byId("file-problem"), failure instanceof TypeError ? "This file is not text in UTF-8." : failure.message);
  }
}

export function startFiles(bundles, limits) {
  const drop = byId("drop");
  chooseBundles(byId("file-bundles"), bundles);
  byId("file").addEventListener("change", async (event) => {
    if (event.target.files[0]) await openFile(event.target.files[0]);
    event.target.value = ""; // else the same file, changed, could not be chosen again
  });
  byId("pasted").addEventListener("input", (event) => event.target.value.trim() && open(event.target.value, "pasted"));
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => event.dataTransfer.files[0] && openFile(event.dataTransfer.files[0]));
  byId("has-names").addEventListener("change", nameColumns);
  for (const id of ["text-column", "pair-column"]) byId(id).addEventListener("change", forget);
  byId("stop").addEventListener("click", () => stopping?.abort());
  byId("save").addEventListener("click", save);
  byId("file-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!table || stopping) return;
    const start = event.target.querySelector(".main");
    start.disabled = true;
    byId("stop").disabled = false;
    say(byId("file-problem"), "");
    say(byId("file-verdict"), "");
    try {
      await run(limits);
    } catch (refused) {
      say(byId("file-problem"), refused.name === "AbortError" ? "Stopped; what was classified can be saved." : refused.message);
    }
    start.disabled = false;
    byId("stop").disabled = true;
  });
}
