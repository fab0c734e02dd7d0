// One prediction and then a batch, or what is in FILE: node predict.mjs [FILE], from Node 18 on.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const { IRIS_URL = 'http://127.0.0.1:8000', IRIS_API_KEY, IRIS_TIMEOUT = '10' } = process.env;
const url = `${IRIS_URL.replace(/\/+$/, '')}/v1/predict`;
const seconds = Number(IRIS_TIMEOUT);
const one = { sepal_length: 6.7, sepal_width: 3.0, petal_length: 5.2, petal_width: 2.3 };
const two = { sepal_length: 6.0, sepal_width: 2.7, petal_length: 5.1, petal_width: 1.6 };

/** Status, Retry-After and text of an answer. fetch keeps the connection for the next one. */
async function post(body, id) {
  const answer = await fetch(url, {
    method: 'POST',
    body,
    headers: {
      'X-API-Key': IRIS_API_KEY,
      'Content-Type': 'application/json',
      'X-Request-ID': id,
    },
    redirect: 'manual', // The key is for this host alone.
    signal: AbortSignal.timeout(seconds * 1000), // In all: fetch has no other to connect.
  });
  const { status, headers } = answer;
  return { status, retryAfter: Number(headers.get('Retry-After')), text: await answer.text() };
}

/**
 * A prediction changes nothing, so a POST may be repeated: when no answer came, and after 429 and
 * 503, as late as Retry-After asks. Any other answer is final.
 */
async function ask(body, id) {
  for (let attempt = 1; ; attempt++) {
    let pause = attempt;
    try {
      const answer = await post(body, id);
      if (attempt === 3 || ![429, 503].includes(answer.status)) return answer;
      pause = answer.retryAfter || attempt;
    } catch (error) {
      if (attempt === 3) throw new Error(`No answer: ${error.cause?.message || error.message}`);
    }
    await sleep(1000 * Math.min(pause, seconds));
  }
}

/** A problem document (RFC 9457) in words. */
function explain(status, told) {
  if (!told?.title) return `Status ${status}, but not from the service: is ${url} right?`;
  const lines = [`${status} ${told.title}: ${told.detail}`];
  if (status === 401) lines.push('The service does not accept the key in IRIS_API_KEY.');
  for (const { row, field, message } of told.errors ?? []) {
    const where = [row === undefined ? row : `row ${row}`, field];
    lines.push(`  ${[...where, message].filter((part) => part !== undefined).join(': ')}`);
  }
  return lines.join('\n');
}

/** Prints label and confidence of each row. */
async function predict(body) {
  const id = randomUUID();
  try {
    const { status, text } = await ask(body, id);
    const told = parsed(text);
    if (status !== 200 || !told?.model_version) throw new Error(explain(status, told));
    for (const { prediction, confidence } of told.predictions ?? [told]) {
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
    return null; // The page of a proxy, say.
  }
}

try {
  if (!IRIS_API_KEY) throw new Error('Set IRIS_API_KEY.');
  const bodies = process.argv[2]
    ? [await readFile(process.argv[2])]
    : [JSON.stringify(one), JSON.stringify([one, two])];
  for (const body of bodies) await predict(body);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
