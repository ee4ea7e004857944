// A file's rows through the server: batches within its limits, two under way at a time, in the order of the rows.

import { classifyPatiently } from "./api.js";

const UNDER_WAY = 2;
const BYTES_AROUND = 400;

const bytesOf = (input) => new TextEncoder().encode(JSON.stringify(input)).length + 1;
const charactersOf = (input) => (typeof input === "string" ? input.length : input[0].length + input[1].length);

// Why a row is not sent, or nothing.
export function complaint(input, limits) {
  const parts = typeof input === "string" ? [input] : input;
  if (parts.every((part) => part === "")) return "empty";
  if (charactersOf(input) > limits.characters) return "too long";
  return bytesOf(input) + BYTES_AROUND > limits.body_bytes ? "too long" : "";
}

export function cutBatches(numbers, inputs, limits) {
  const most = Math.min(limits.texts, 64);
  const batches = [];
  let batch = [], bytes = BYTES_AROUND;
  for (const number of numbers) {
    const more = bytesOf(inputs[number]);
    if (batch.length === most || (batch.length && bytes + more > limits.body_bytes)) {
      batches.push(batch);
      batch = [];
      bytes = BYTES_AROUND;
    }
    batch.push(number);
    bytes += more;
  }
  if (batch.length) batches.push(batch);
  return batches;
}

// Calls done(numbers, answer) for every batch; a batch whose text is refused is sent again text by text.
export async function classifyAll(bundle, batches, inputs, signal, done, failed) {
  let next = 0;
  const one = async (numbers) => {
    try {
      done(numbers, await classifyPatiently(bundle, numbers.map((number) => inputs[number]), signal));
    } catch (refused) {
      if (![400, 413, 422, 424].includes(refused.status)) throw refused;
      if (numbers.length === 1) failed(numbers[0], refused.message);
      else for (const number of numbers) await one([number]);
    }
  };
  const walk = async () => {
    while (next < batches.length) {
      const batch = batches[next];
      next += 1;
      signal.throwIfAborted();
      await one(batch);
    }
  };
  await Promise.all(Array.from({ length: UNDER_WAY }, walk));
}
