// Predicts a CSV file in batches, in order, and collects the errors by line.

import { send } from "./api.js";
import { decoded, opened, written } from "./csv.js";
import { byId, element } from "./dom.js";
import { runView } from "./outcome.js";
import { Run } from "./run.js";

const BATCH = 1000;
const PASTED = "rows.csv";
const MAX_SHOWN = 200_000; // Characters. A longer text is predicted when it is pasted.

/** Connect the section for many rows to the service. */
export function csvSection(card, mostRows, report) {
  const names = card.features.map(({ name }) => name);
  const size = Math.min(BATCH, mostRows);
  let stop, file;

  async function start(source, name) {
    stop?.abort();
    stop = new AbortController();
    file = null;
    const { signal } = stop;
    const show = runView(names);
    try {
      const text = typeof source === "string" ? source : decoded(await source.arrayBuffer());
      signal.throwIfAborted();
      const table = opened(text, names);
      const run = new Run(table, card, text.startsWith("\ufeff"));
      file = { run, name };
      for (const batch of batches(table.rows, size)) {
        const good = run.prepare(batch);
        if (good.length) await predict(good, signal);
        else await new Promise((resolve) => setTimeout(resolve)); // Lets the browser draw.
        signal.throwIfAborted();
        run.take(batch);
        show(run, batch, batch.at(-1).end / text.length);
      }
      show(run, [], 1, run.done ? "" : "There are no rows.");
    } catch (error) {
      if (stop.signal === signal) show(file?.run, [], 1, signal.aborted ? "Cancelled." : `Stopped. ${error.title ? error : error.message}`);
    }
  }

  /** Predict a batch. Refused rows are taken out, and the others sent again. */
  async function predict(batch, signal) {
    let left = batch;
    while (left.length) {
      try {
        const answer = await send("v1/predict", { body: () => left.map((row) => row.values), signal, report });
        left.forEach((row, i) => Object.assign(row, { answer: answer.predictions[i], version: answer.model_version }));
        return;
      } catch (problem) {
        if (problem.status === 413 && left.length > 1) {
          const half = Math.ceil(left.length / 2);
          await predict(left.slice(0, half), signal);
          return predict(left.slice(half), signal);
        }
        if (problem.status === 413) left[0].wrong = problem.message;
        else if (problem.status !== 422 || !problem.errors.some(({ row }) => left[row])) throw problem;
        for (const { row, field, message } of problem.errors) {
          const reason = field ? `${field}: ${message}` : message;
          left[row].wrong = left[row].wrong ? `${left[row].wrong}; ${reason}` : reason;
        }
        left = left.filter((row) => !row.wrong);
      }
    }
  }

  const pasted = byId("pasted");
  pasted.placeholder = `${names.join(",")}\n${card.features.map(({ example }) => example).join(",")}`;
  pasted.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (text.length < MAX_SHOWN) return;
    event.preventDefault();
    start(text, PASTED);
  });
  byId("run").addEventListener("click", () => start(pasted.value, PASTED));
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    const [chosen] = byId("file").files;
    if (chosen) start(chosen, chosen.name);
    byId("file").value = "";
  });
  byId("example").addEventListener("click", () => {
    const examples = card.sample?.rows.filter((_, i, all) => i % Math.ceil(all.length / 8) === 0) ?? [card.features.map(({ example }) => example)];
    pasted.value = [names, ...examples].map((cells) => written(cells, ",")).join("");
  });
  byId("cancel").addEventListener("click", () => stop.abort());
  byId("download").addEventListener("click", () => save(file.run.parts, file.name.replace(/(\.\w+)?$/, "-predicted.csv")));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      const [dropped] = event.dataTransfer.files;
      if (kind === "drop" && dropped) start(dropped, dropped.name);
    });
  }
}

function* batches(records, size) {
  let batch = [];
  for (const record of records) {
    batch.push(record);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length) yield batch;
}

function save(parts, name) {
  const url = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
