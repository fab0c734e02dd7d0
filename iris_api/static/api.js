// Requests to the service: problems as errors, and patience where a problem will pass.

import { forget, given, key } from "./key.js";

const SECONDS_FOR_AN_ANSWER = 60;
const LONGEST_PAUSE = 60;
const PASSING = new Set([0, 408, 429, 502, 503, 504]);

/** A problem document, or what there is instead of one. Status 0 is no answer at all. */
export class Problem extends Error {
  constructor(status, document, wait = 0) {
    super(document.detail ?? "");
    this.status = status;
    this.title = document.title ?? `Status ${status}`;
    this.errors = document.errors ?? [];
    this.requestId = document.request_id;
    this.wait = wait;
  }

  toString() {
    const quote = this.requestId ? ` Request id: ${this.requestId}` : "";
    return `${this.title}: ${this.message}${quote}`;
  }
}

/** Ask once. */
export async function once(path, { body, signal, used = key() } = {}) {
  const patience = AbortSignal.timeout(SECONDS_FOR_AN_ANSWER * 1000);
  const request = {
    // A header takes no other characters, and no key has any.
    headers: { Accept: "application/json", "X-API-Key": (used ?? "").replace(/[^\x20-\x7e]/g, "?") },
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  };
  if (body !== undefined) {
    request.method = "POST";
    request.body = JSON.stringify(body);
    request.headers["Content-Type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(path, request);
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { title: "No answer", detail: "The service can't be reached." });
  }
  const content = read(text);
  if (response.ok && content) return content;
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  throw new Problem(response.status, content ?? { detail: "This is not an answer of the service." }, wait);
}

/** Ask until there is an answer: a key is asked for, and what will pass is waited for. */
export async function ask(path, { body, signal, says }) {
  for (let tries = 0; ; tries += 1) {
    if (!key()) await given(signal, tries > 0);
    const used = key();
    try {
      const answer = await once(path, { body, signal, used });
      says("");
      return answer;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 401) {
        forget(used);
        says(problem);
      } else if (PASSING.has(problem.status)) {
        const seconds = Math.min(problem.wait || 2 ** Math.min(tries, 2), LONGEST_PAUSE);
        says(`${problem} This page tries again ${problem.wait ? `in ${seconds} s` : "by itself"}.`);
        await pause(seconds, signal);
      } else throw problem;
    }
  }
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
