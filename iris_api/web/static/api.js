// Requests: problems as errors, and patience where a problem will pass.

import { accepted, given, key, refuse } from "./key.js";

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
export async function once(path, { body, signal, seconds = 60, used = key() } = {}) {
  const patience = AbortSignal.timeout(seconds * 1000);
  const request = {
    method: body ? "POST" : "GET",
    body: JSON.stringify(body),
    // A header takes no other characters, and no key has any.
    headers: { Accept: "application/json", "X-API-Key": (used ?? "").replace(/[^\x20-\x7e]/g, "?"), "Content-Type": "application/json" },
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  };
  let response, content;
  try {
    response = await fetch(path, request);
    content = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!(error instanceof SyntaxError)) throw new Problem(0, { title: "No answer", detail: "The service can't be reached." });
  }
  if (response.ok && content) return content;
  throw new Problem(response.status, content ?? { detail: "This is not an answer of the service." }, Number(response.headers.get("Retry-After")));
}

/** Ask until there is an answer: a key is asked for, and what will pass is waited for.
 * What is sent is what `body` gives then, also after a wait. */
export async function ask(path, { body, signal, seconds, says }) {
  for (let tries = 0; ; tries += 1) {
    if (!key()) await given(signal);
    const used = key();
    try {
      const answer = await once(path, { body: body?.(), signal, seconds, used });
      accepted();
      says("");
      return answer;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 401) {
        refuse(used);
        says("");
      } else if (PASSING.has(problem.status)) {
        const seconds = Math.min(problem.wait || 2 ** Math.min(tries, 2), LONGEST_PAUSE);
        says(`${problem} This page tries again ${problem.wait ? `in ${seconds} s` : "by itself"}.`);
        await pause(seconds, signal);
      } else throw problem;
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
