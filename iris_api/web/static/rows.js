// A CSV file in, predictions out: in batches, in order, and with what was wrong by line.

import { ask } from "./api.js";
import { decoded, opened, written } from "./csv.js";
import { element, part } from "./dom.js";
import { outcome } from "./outcome.js";
import { Run } from "./run.js";

const BATCH = 1000;
const PASTED = "rows.csv";
const LONG = 200_000; // Characters: more is predicted as it is pasted, and not shown.

/** Wire the section of many rows. */
export function rows(card, mostRows, says) {
  const names = card.features.map(({ name }) => name);
  const size = Math.min(BATCH, mostRows);
  let stop, file;

  async function start(source, name) {
    stop?.abort();
    stop = new AbortController();
    file = null;
    const { signal } = stop;
    const show = outcome(names);
    try {
      const text = typeof source === "string" ? source : decoded(await source.arrayBuffer());
      signal.throwIfAborted();
      const table = opened(text, names);
      const run = new Run(table, card, text.startsWith("\ufeff"));
      file = { run, name };
      for (const batch of batches(table.rows, size)) {
        const good = run.prepare(batch);
        if (good.length) await predict(good, signal);
        else await new Promise((resolve) => setTimeout(resolve)); // The page stays alive.
        signal.throwIfAborted();
        run.take(batch);
        show(run, batch, batch.at(-1).end / text.length);
      }
      show(run, [], 1, run.done ? "" : "There are no rows.");
    } catch (error) {
      if (stop.signal === signal) show(file?.run, [], 1, signal.aborted ? "Cancelled." : `Stopped. ${error.title ? error : error.message}`);
    }
  }

  /** Ask for a batch; what the service finds wrong is taken out, and the rest asked for again. */
  async function predict(asked, signal) {
    let left = asked;
    while (left.length) {
      try {
        const answer = await ask("v1/predict", { body: () => left.map((row) => row.values), signal, says });
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
          const told = field ? `${field}: ${message}` : message;
          left[row].wrong = left[row].wrong ? `${left[row].wrong}; ${told}` : told;
        }
        left = left.filter((row) => !row.wrong);
      }
    }
  }

  const pasted = part("pasted");
  pasted.placeholder = `${names.join(",")}\n${card.features.map(({ example }) => example).join(",")}`;
  pasted.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (text.length < LONG) return;
    event.preventDefault();
    start(text, PASTED);
  });
  part("run").addEventListener("click", () => start(pasted.value, PASTED));
  part("choose").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => {
    const [chosen] = part("file").files;
    if (chosen) start(chosen, chosen.name);
    part("file").value = "";
  });
  part("example").addEventListener("click", () => {
    const shown = card.sample?.rows.filter((_, i, all) => i % Math.ceil(all.length / 8) === 0) ?? [card.features.map(({ example }) => example)];
    pasted.value = [names, ...shown].map((cells) => written(cells, ",")).join("");
  });
  part("cancel").addEventListener("click", () => stop.abort());
  part("download").addEventListener("click", () => save(file.run.parts, file.name.replace(/(\.\w+)?$/, "-predicted.csv")));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      part("drop").classList.toggle("over", kind === "dragover");
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
