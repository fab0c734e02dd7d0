// Predicts one flower, then a batch, or the rows in FILE: node predict.mjs [FILE], Node 18 or newer.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const { IRIS_URL = 'http://127.0.0.1:8000', IRIS_API_KEY, IRIS_TIMEOUT = '10' } = process.env;
const url = `${IRIS_URL.replace(/\/+$/, '')}/v1/predict`;
const seconds = Number(IRIS_TIMEOUT);
const one = { sepal_length: 6.7, sepal_width: 3.0, petal_length: 5.2, petal_width: 2.3 };
const two = { sepal_length: 6.0, sepal_width: 2.7, petal_length: 5.1, petal_width: 1.6 };

/**
 * A prediction changes nothing, so its POST is safe to repeat: without an answer, and after 429 and
 * 503, once the time in Retry-After has passed. Any other answer is final.
 */
async function ask(body, id) {
  const headers = {
    'X-API-Key': IRIS_API_KEY,
    'Content-Type': 'application/json',
    'X-Request-ID': id,
  };
  for (let attempt = 1; ; attempt++) {
    let pause = attempt;
    try {
      const response = await fetch(url, { // Reuses the connection.
        method: 'POST',
        body,
        headers,
        signal: AbortSignal.timeout(1000 * seconds), // Includes the time to connect.
        redirect: 'manual', // The key must not go to another host.
      });
      const text = await response.text();
      if (attempt === 3 || ![429, 503].includes(response.status)) return [response.status, text];
      pause = Number(response.headers.get('Retry-After')) || attempt;
    } catch (error) {
      if (attempt === 3) throw new Error(`No answer: ${error.cause?.message || error.message}`);
    }
    await sleep(1000 * Math.min(pause, seconds));
  }
}

/** The lines to print for a problem document (RFC 9457). */
function explain(status, problem) {
  if (!problem?.title) return `Status ${status}, but not from the service: is ${url} right?`;
  const lines = [`${status} ${problem.title}: ${problem.detail}`];
  if (status === 401) lines.push('The service does not accept the key in IRIS_API_KEY.');
  for (const { row, field, message } of problem.errors ?? []) {
    const parts = [row === undefined ? row : `row ${row}`, field, message];
    lines.push(`  ${parts.filter((part) => part !== undefined).join(': ')}`);
  }
  return lines.join('\n');
}

/** Prints label and confidence of each row. */
async function predict(body, id = randomUUID()) {
  try {
    const [status, text] = await ask(body, id);
    const answer = parsed(text);
    if (status !== 200 || !answer?.model_version) throw new Error(explain(status, answer));
    for (const { prediction, confidence } of answer.predictions ?? [answer]) {
      console.log(`${prediction} ${confidence.toFixed(4)}`);
    }
  } catch (error) {
    throw new Error(`${error.message}\nrequest id ${id}`);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // For example, the error page of a proxy.
  }
}

try {
  if (!IRIS_API_KEY) throw new Error('Set IRIS_API_KEY.');
  const file = process.argv[2];
  const bodies = file ? [await readFile(file)] : [one, [one, two]].map((it) => JSON.stringify(it));
  for (const body of bodies) await predict(body);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
