// Sends requests. A refusal becomes a `Problem`, and a temporary one is retried.

import { accept, askForKey, key, refuse } from "./key.js";

const MAX_PAUSE = 60; // Seconds.
const TEMPORARY = new Set([0, 408, 429, 502, 503, 504]);

/** A problem document, or its substitute. Status 0: there was no answer. */
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
    const id = this.requestId ? ` Request id: ${this.requestId}` : "";
    return `${this.title}: ${this.message}${id}`;
  }
}

/** Send one request, a POST if it has a body. */
export async function sendOnce(path, { body, signal, seconds = 60, used = key() } = {}) {
  const timeout = AbortSignal.timeout(seconds * 1000);
  const request = {
    method: body ? "POST" : "GET",
    body: JSON.stringify(body),
    // `fetch` refuses other characters.
    headers: { Accept: "application/json", "X-API-Key": (used ?? "").replace(/[^\x20-\x7e]/g, "?"), "Content-Type": "application/json" },
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
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

/** Send a request until it succeeds: ask for a key, and wait while a problem is temporary.
 * Each attempt sends what `body` returns then. `report` shows a message. */
export async function send(path, { body, signal, seconds, report }) {
  for (let attempt = 0; ; attempt += 1) {
    if (!key()) await askForKey(signal);
    const used = key();
    try {
      const answer = await sendOnce(path, { body: body?.(), signal, seconds, used });
      accept();
      report("");
      return answer;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 401) {
        refuse(used);
        report("");
      } else if (TEMPORARY.has(problem.status)) {
        const delay = Math.min(problem.wait || 2 ** Math.min(attempt, 2), MAX_PAUSE);
        report(`${problem} This page tries again ${problem.wait ? `in ${delay} s` : "by itself"}.`);
        await pause(delay, signal);
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
