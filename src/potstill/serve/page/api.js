// The server, as this page asks it. Whatever goes wrong becomes one sentence.

let key = "";

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const useKey = (given) => {
  key = given.trim();
};

export async function ask(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new Refused(0, "The server does not answer.");
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, told.error ?? `The server answered ${response.status}.`);
  return told;
}

export const classify = (bundle, inputs, signal) => ask("v1/classify", { bundle, inputs }, signal);

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// A server that is full says so (429); the page waits longer each time, up to a minute in all.
export async function classifyPatiently(bundle, inputs, signal) {
  for (let wait = 250; ; wait *= 2) {
    try {
      return await classify(bundle, inputs, signal);
    } catch (refused) {
      if (refused.status !== 429 || wait > 32000) throw refused;
      await pause(wait);
      signal?.throwIfAborted();
    }
  }
}
