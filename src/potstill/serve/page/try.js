// A text or a pair, before one bundle or several side by side.

import { classify } from "./api.js";
import { card, givenWords, inMs } from "./bars.js";
import { byId, chosen, chooseBundles, say } from "./elements.js";

const REPEATS = 20;

const middle = (numbers) => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

function verdict(answers, times) {
  if (answers.length < 2) return "";
  const words = answers.map((answer) => givenWords(answer, answer.results[0]));
  const same = words.every((word) => word === words[0]) ? "The same answer." : "Not the same answer.";
  const order = answers.map((_, i) => i).sort((a, b) => times[a] - times[b]);
  const [fast, slow] = [order[0], order[order.length - 1]];
  const ratio = times[slow] / times[fast];
  const spread = `${inMs(times[fast])} against ${inMs(times[slow])}`;
  if (ratio < 1.05) return `${same} ${answers.length > 2 ? "All" : "Both"} as fast: ${spread}.`;
  return `${same} ${answers[fast].bundle} was ${ratio.toFixed(1)} times as fast as ${answers[slow].bundle}: ${spread}.`;
}

async function show(repeats) {
  const first = byId("first").value;
  const input = byId("paired").checked ? [first, byId("second").value] : first;
  const names = chosen(byId("try-bundles"));
  say(byId("try-problem"), names.length ? "" : "Choose a bundle.");
  if (!names.length) return;
  const measured = new Map(names.map((name) => [name, []]));
  const last = new Map();
  // Bundles take turns, so that whatever slows the machine meanwhile slows all of them.
  for (let i = 0; i < repeats; i += 1) {
    for (const name of names) {
      const answer = await classify(name, [input]);
      measured.get(name).push(answer.milliseconds.total);
      last.set(name, answer);
    }
  }
  const answers = names.map((name) => last.get(name));
  const times = names.map((name) => middle(measured.get(name)));
  const cards = answers.map((answer, i) => card(answer, repeats > 1 ? { middle: times[i], times: repeats } : undefined));
  byId("answers").replaceChildren(...cards);
  say(byId("try-verdict"), verdict(answers, times));
}

export function startTrying(bundles) {
  const form = byId("try-form");
  const buttons = [form.querySelector(".main"), byId("measure")];
  const run = async (repeats) => {
    if (buttons[0].disabled) return;
    for (const button of buttons) button.disabled = true;
    try {
      await show(repeats);
    } catch (refused) {
      say(byId("try-problem"), refused.message);
      say(byId("try-verdict"), "");
      byId("answers").replaceChildren();
    }
    for (const button of buttons) button.disabled = false;
  };
  chooseBundles(byId("try-bundles"), bundles);
  byId("paired").addEventListener("change", (event) => {
    byId("second-field").hidden = !event.target.checked;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(1);
  });
  byId("measure").addEventListener("click", () => run(REPEATS));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
