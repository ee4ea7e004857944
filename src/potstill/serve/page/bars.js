// What one bundle says of one text: the labels it gives, a bar for each probability, a mark at each threshold.

import { draw, make } from "./elements.js";

const SHOWN = 8;

const percent = (value) => `${(100 * value).toFixed(value > 0.9995 && value < 1 ? 2 : 1)}%`;
export const inMs = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

export function givenWords(answer, result) {
  if (answer.problem_type === "regression") return String(Number(result.value.toPrecision(4)));
  return result.labels.length ? result.labels.join(", ") : "no label";
}

function bar(probability, threshold, given) {
  const picture = draw("svg", { "aria-hidden": "true" });
  const fill = draw("rect", { class: given ? "fill given" : "fill", y: 4, height: 6, rx: 3, width: percent(probability) });
  picture.append(draw("rect", { class: "rail", y: 4, height: 6, rx: 3, width: "100%" }), fill);
  if (threshold !== undefined) {
    const at = percent(threshold);
    const mark = draw("line", { class: "mark", x1: at, x2: at, y1: 0, y2: 14 });
    const says = draw("title", {});
    says.textContent = `given from ${percent(threshold)} on`;
    mark.append(says);
    picture.append(mark);
  }
  return picture;
}

function bars(answer, result, most) {
  const list = make("dl", { class: "bars" });
  const likeliestFirst = Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]);
  for (const [label, probability] of likeliestFirst.slice(0, most)) {
    const given = result.labels.includes(label);
    const threshold = answer.thresholds?.[label];
    const from = threshold === undefined ? "" : ` (given from ${percent(threshold)} on)`;
    list.append(
      make("dt", { class: given ? "given" : undefined, title: label + from }, label),
      make("dd", {}, bar(probability, threshold, given)),
      make("dd", { class: "number" }, percent(probability), make("span", { class: "unseen" }, from)),
    );
  }
  return list;
}

function facts(answer, result, measured) {
  const { total, inference, queue } = answer.milliseconds;
  const said = [
    `${result.tokens} ${result.tokens === 1 ? "token" : "tokens"}`,
    measured ? `${inMs(measured.middle)} in the middle of ${measured.times}` : `${inMs(total)} on the server`,
  ];
  if (!measured) said.push(`${inMs(inference)} computing`);
  if (!measured && queue >= 1) said.push(`${inMs(queue)} waiting`);
  if (answer.temperature !== 1) said.push(`temperature ${Number(answer.temperature.toPrecision(3))}`);
  const line = make("p", { class: "facts" }, ...said.map((word) => make("span", {}, word)));
  if (result.truncated) line.append(make("span", { class: "cut" }, "cut: longer than the bundle reads"));
  return line;
}

export function card(answer, measured) {
  const [result] = answer.results;
  const whole = make("article", { class: "answer", "data-bundle": answer.bundle });
  whole.append(make("p", { class: "name" }, answer.bundle), make("p", { class: "given" }, givenWords(answer, result)));
  const n = Object.keys(result.probabilities).length;
  if (n) whole.append(bars(answer, result, SHOWN));
  if (answer.thresholds) whole.append(make("p", { class: "key" }, "The line in a bar is the threshold from which the label is given."));
  if (n > SHOWN) {
    const more = make("button", { type: "button", class: "more" }, `all ${n} labels`);
    more.addEventListener("click", () => {
      whole.querySelector(".bars").replaceWith(bars(answer, result, n));
      more.remove();
    });
    whole.append(more);
  }
  whole.append(facts(answer, result, measured));
  return whole;
}
