// Asks the server what it serves, and for a key where it wants one; then starts both parts of the page.

import { ask, useKey } from "./api.js";
import { byId, say } from "./elements.js";
import { startFiles } from "./files.js";
import { startTrying } from "./try.js";

const KINDS = {
  single_label_classification: "one label of",
  multi_label_classification: "any of",
  regression: "a value",
};

const described = ({ name, problem_type, labels, max_length, long_texts, arithmetic }) => {
  const kind = problem_type === "regression" ? KINDS.regression : `${KINDS[problem_type]} ${labels.length} labels`;
  const reads = long_texts === "windows" ? "long texts in windows" : `up to ${max_length} tokens`;
  return `${name}: ${kind}, ${reads}, ${arithmetic}`;
};

async function start() {
  let told;
  try {
    told = await ask("v1/bundles");
  } catch (refused) {
    say(byId("served"), refused.message);
    byId("key-form").hidden = refused.status !== 401;
    return;
  }
  byId("key-form").hidden = true;
  say(byId("served"), told.bundles.map(described).join("\n"));
  startTrying(told.bundles);
  startFiles(told.bundles, told.limits);
  document.querySelector("main").hidden = false;
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key").value = "";
  start();
});

start();
